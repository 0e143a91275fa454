"""The keyword arguments that calls of a model share."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from processors import Limits, Sources


class Reading(TypedDict, total=False):
    """What calls that read media take besides their own options.

    Attributes:
        limits: how much each medium may take.
        sources: where media may come from.
        deadline: seconds that the call may take.
    """

    limits: Limits | None
    sources: Sources | None
    deadline: float | None


class PrepareOptions(Reading, total=False):
    """The keyword arguments of `Model.prepare`.

    Attributes:
        tools: functions that the model may call, as OpenAI declares them.
        tool_choice: "auto"; "none"; "required", the reply is calls alone; or a dict that names a function.
        parallel_tool_calls: whether a reply that must call may call several times.
        template_options: what the checkpoint's template reads besides, such as `enable_thinking`.
        continue_final_message: go on with the last message, an assistant's.
    """

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool
    template_options: Mapping[str, Any] | None
    continue_final_message: bool


class GenerateOptions(PrepareOptions, total=False):
    """The keyword arguments of `Model.generate`: those of `Model.prepare`, and the fields of `GenerationOptions`."""

    max_new_tokens: int
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    banned_tokens: Sequence[int]
    seed: int | Sequence[int] | None
    stop: Sequence[str] | str
    stop_tokens: Sequence[int]
    logprobs: int | None
    response_format: Mapping[str, Any] | None


class TranscribeOptions(Reading, total=False):
    """The keyword arguments of `Model.transcribe`."""

    context: str
    stretch_seconds: float | None
    max_new_tokens: int | None
    batch_size: int
    progress: bool | None
