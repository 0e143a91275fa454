"""The keyword arguments that calls of a model share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from processors import Limits, Sources

if TYPE_CHECKING:
    # For editors and type checkers. At run time anything else is refused with a code, by the calls themselves.
    import numpy as np

    PartName = Literal["vision", "audio", "text"]
    DTypeName = Literal["float32", "bfloat16"]
    DType = DTypeName | type[Any] | np.dtype[Any]
    Quantization = Literal["int8", "off"]
    TableFormat = Literal["files", "parquet", "lance"]
    VectorDType = Literal["float32", "float16"]
    Pooling = Literal["auto", "mean", "embed"]
else:
    PartName = DTypeName = DType = Quantization = TableFormat = VectorDType = Pooling = Any


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


class RenderOptions(Reading, total=False):
    """How a conversation is rendered.

    Attributes:
        tools: functions that the model may call, as OpenAI declares them.
        tool_choice: "auto"; "none"; "required", the reply is calls alone; or a dict that names a function.
        parallel_tool_calls: whether a reply that must call may call several times.
        template_options: what the checkpoint's template reads besides, such as `enable_thinking`.
    """

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool
    template_options: Mapping[str, Any] | None


class PrepareOptions(RenderOptions, total=False):
    """The keyword arguments of `Model.prepare`.

    Attributes:
        continue_final_message: go on with the last message, an assistant's.
    """

    continue_final_message: bool


class WriteOptions(TypedDict, total=False):
    """The fields of `GenerationOptions` as keyword arguments; calls take `n` and `deadline` themselves."""

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


class GenerateOptions(PrepareOptions, WriteOptions, total=False):
    """The keyword arguments of `Model.generate`: those of `Model.prepare`, and the fields of `GenerationOptions`."""


class ChatOptions(RenderOptions, WriteOptions, total=False):
    """The keyword arguments of `Model.chat` and of each turn: those of `Model.generate`, but a turn begins anew.

    Attributes:
        n: 1, as a turn has one answer.
    """

    n: int


class TranscribeOptions(Reading, total=False):
    """The keyword arguments of `Model.transcribe`."""

    context: str
    stretch_seconds: float | None
    max_new_tokens: int | None
    batch_size: int
    progress: bool | None
