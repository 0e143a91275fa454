"""What generation returns."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omni.generation import boxes
from omni.generation.boxes import Box, Point
from omni.generation.scheduler import TokenLogprobs
from omni.media.pictures import NO_PICTURES, Pictures
from omni.prompt.tool_calls import ToolCall
from processors.notebook import shortened, shown, table

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Usage:
    """Tokens read and written.

    Attributes:
        prompt_tokens: tokens of the conversation, media included.
        cached_tokens: of those, the ones that had been read before.
        completion_tokens: tokens of the reply, the end token not counted.
    """

    prompt_tokens: int
    cached_tokens: int = field(compare=False)
    completion_tokens: int


@dataclass(frozen=True)
class Reply:
    """One generated answer.

    Attributes:
        text: the answer, without thoughts, calls and control tokens, and cut at a stop string; empty without a
            tokenizer.
        token_ids: the generated ids, without the end token.
        finish_reason: `stop` at an end token or stop string, `tool_calls` when the model waits for the results of
            calls, `length` at `max_new_tokens`.
        usage: tokens read and written.
        logprobs: of each token, where they were asked for.
        reasoning: what the model thought before it answered; None when it did not.
        tool_calls: what it asks to be called, where `tools` were declared.
        raw_text: all that it wrote, thoughts and calls in the checkpoint's own form.
        pictures: the images of the conversation, for `boxes` and `points`.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprobs, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    raw_text: str = field(default="", repr=False)
    pictures: Pictures = field(default=NO_PICTURES, repr=False, compare=False)

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message, for the conversation to go on with."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.to_message() for call in self.tool_calls]
        return message

    def boxes(self, image: Any, coordinates: str = "relative") -> tuple[Box, ...]:
        """The boxes that the model wrote, as JSON with `bbox_2d` or in Qwen's markers; what does not parse is left out.

        Args:
            image: the image of the conversation that they are of, as it was given there.
            coordinates: that the model writes: "relative", from 0 to 1000, as Qwen3-VL, Qwen3.5 and Qwen3-Omni do; or
                "pixels" of the resized image, as Qwen2.5-VL does.

        Returns:
            Boxes in pixels of the image, upright as its EXIF orientation says; empty where there are none.

        Raises:
            InputError: `image_not_there`, the conversation has no such image; or it cannot be read.
        """
        return boxes.boxes(self.text, self.pictures.frame(image, coordinates))

    def points(self, image: Any, coordinates: str = "relative") -> tuple[Point, ...]:
        """The points that the model wrote, as JSON with `point_2d` or in Qwen's markers; arguments as in `boxes`.

        Raises:
            InputError: `image_not_there`, the conversation has no such image; or it cannot be read.
        """
        return boxes.points(self.text, self.pictures.frame(image, coordinates))

    def __repr__(self) -> str:
        facts = [f"{len(self.token_ids)} tokens", self.finish_reason]
        if self.tool_calls:
            facts.append(f"{len(self.tool_calls)} calls")
        return f"<omni.Reply {shortened(self.text)!r}: {', '.join(facts)}>"

    @shown
    def _repr_html_(self) -> str:
        usage = self.usage
        read = f"{usage.prompt_tokens} read, {usage.cached_tokens} of them before; {usage.completion_tokens} written"
        return table("Reply", {"text": self.text, "tokens": read, "ended by": self.finish_reason})
