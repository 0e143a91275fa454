"""What a request for a chat may hold."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from omni.options import GenerationOptions
from omni.server.errors import Refusal
from omni.server.http import Body
from omni.server.settings import ServerSettings

_MOST_REPLIES = 16


class StreamOptions(Body):
    """How a stream is written."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(("include_obfuscation",))

    include_usage: bool = False


class ChatRequest(Body):
    """OpenAI's fields, and those that vLLM has beside them."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        """user safety_identifier metadata store service_tier prompt_cache_key prompt_cache_retention prediction
        priority request_id""".split()
    )
    REFUSED: ClassVar[Mapping[str, str]] = {
        "functions": "declare tools",
        "function_call": "set tool_choice",
        "audio": "replies are text; hear them with a program of your own",
        "web_search_options": "this server searches nothing",
        "best_of": "ask for n replies and choose",
        "guided_json": "set response_format",
        "guided_regex": "set response_format",
        "guided_choice": "set response_format",
    }

    messages: list[dict[str, Any]]
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    stop: str | list[str] = Field(default_factory=list)
    stop_token_ids: list[int] = Field(default_factory=list)
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] = Field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: int | None = None
    modalities: list[str] = Field(default_factory=lambda: ["text"])
    response_format: dict[str, Any] = Field(default_factory=lambda: {"type": "text"})
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    verbosity: str = "medium"
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    continue_final_message: bool = False
    cache_salt: str | None = None

    def check(self) -> None:
        """Refuse what would change replies and cannot be done: `unsupported_field`, `bad_field`."""
        if not 1 <= self.n <= _MOST_REPLIES:
            raise Refusal("bad_field", f"n must be from 1 to {_MOST_REPLIES}, got {self.n}", "n")
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal("bad_field", "top_logprobs is given without logprobs", "top_logprobs")
        if self.modalities != ["text"]:
            raise Refusal("unsupported_field", "replies are text: leave modalities out", "modalities")
        for name, neutral in (
            ("reasoning_effort", None),
            ("verbosity", "medium"),
        ):
            if getattr(self, name) != neutral:
                raise Refusal("unsupported_field", f"{name} would change the reply, and cannot be followed", name)

    def options(self, settings: ServerSettings, index: int = 0) -> GenerationOptions:
        """How a reply is written.

        Args:
            settings: the server's, for what is not said.
            index: which of `n` replies it is: each has a seed of its own.

        Raises:
            InputError: a value cannot be used.
        """
        return GenerationOptions(
            max_new_tokens=new_tokens(self.max_tokens, self.max_completion_tokens, settings),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=_biases(self.logit_bias),
            seed=None if self.seed is None else (self.seed + index) % (1 << 32),
            stop=self.stop,
            stop_tokens=self.stop_token_ids,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            response_format=self.response_format,
            deadline=settings.request_seconds,
        )

    def prompt(self) -> dict[str, Any]:
        """How the conversation is rendered, as keyword arguments of `ServingEngine.submit`."""
        return {
            "tools": self.tools or None,
            "tool_choice": self.tool_choice,
            "parallel_tool_calls": self.parallel_tool_calls,
            "template_options": self.chat_template_kwargs or None,
            "continue_final_message": self.continue_final_message,
        }


def new_tokens(older: int | None, newer: int | None, settings: ServerSettings) -> int:
    """Most tokens of a reply, under either name.

    Raises:
        Refusal: `bad_field`, both are given and differ; `too_many_new_tokens`.
    """
    if older is not None and newer is not None and older != newer:
        raise Refusal("bad_field", "max_tokens and max_completion_tokens differ: give the latter alone", "max_tokens")
    wanted, most = newer if newer is not None else older, settings.max_new_tokens
    if wanted is None:
        return most
    if wanted > most:
        raise Refusal("too_many_new_tokens", f"a reply has {most} tokens at most here, and {wanted} are asked for")
    return wanted


def _biases(given: dict[str, float]) -> dict[int, float]:
    if any(not token.isdecimal() for token in given):
        raise Refusal("bad_logit_bias", "logit_bias must map token ids to numbers", "logit_bias")
    return {int(token): bias for token, bias in given.items()}
