"""A reply taken apart as it comes: thoughts, text, and calls of tools."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omni.prompt.reasoning import ThoughtStream
from omni.prompt.tool_calls import CallStream, Form, ToolCall
from omni.prompt.tool_choice import AUTO, ToolChoice


@dataclass(frozen=True)
class ReplyFormat:
    """What a reply to a prompt may hold beside text.

    Attributes:
        thinks: whether it may begin with a thought.
        opened: whether the prompt ends within a thought.
        calls: the form of its calls; None where no tools are declared.
        tools: their declarations.
        choice: whether it must be calls.
    """

    thinks: bool = False
    opened: bool = False
    calls: Form | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    choice: ToolChoice = AUTO


PLAIN = ReplyFormat()
"""Text alone."""


@dataclass(frozen=True)
class TextDelta:
    """More of the answer's text.

    Attributes:
        text: what comes after what was told before.
    """

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """More of the thoughts before the answer.

    Attributes:
        text: what comes after what was told before.
    """

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """One more call, whole: what is not yet certain to be a call is not told.

    Attributes:
        index: its place among the reply's calls.
        call: the call.
    """

    index: int
    call: ToolCall


Delta = TextDelta | ReasoningDelta | ToolCallDelta


class ReplyStream:
    """Raw text as it comes -> deltas. Where the text is cut does not matter.

    Args:
        format: what the reply may hold.

    Attributes:
        text: of the answer so far.
        reasoning: the thoughts so far.
        tool_calls: the calls so far.
    """

    def __init__(self, format: ReplyFormat):
        self._calls = None if format.calls is None else CallStream(format.calls, format.tools)
        self._thoughts = ThoughtStream(format.opened) if format.thinks or format.opened else None
        self.text: str = ""
        self.reasoning: str = ""
        self.tool_calls: list[ToolCall] = []

    def push(self, piece: str) -> list[Delta]:
        """Take a piece of the raw text; return what is certain now."""
        return list(self._deltas([piece] if self._calls is None else self._calls.push(piece)))

    def flush(self) -> list[Delta]:
        """Return what was held back, at the end of the reply."""
        found = list(self._deltas([] if self._calls is None else self._calls.flush()))
        if self._thoughts is not None:
            found += [self._delta(kind, text) for kind, text in self._thoughts.flush()]
        return found

    def _deltas(self, pieces: list[str | ToolCall] | list[str]) -> Iterator[Delta]:
        for piece in pieces:
            if isinstance(piece, ToolCall):
                # A thought may end with the call that it leads to.
                for kind, text in self._thoughts.end_thought() if self._thoughts else []:
                    yield self._delta(kind, text)
                self.tool_calls.append(piece)
                yield ToolCallDelta(len(self.tool_calls) - 1, piece)
            elif self._thoughts is None:
                if piece:
                    yield self._delta("text", piece)
            else:
                for kind, text in self._thoughts.push(piece):
                    yield self._delta(kind, text)

    def _delta(self, kind: str, text: str) -> Delta:
        if kind == "reasoning":
            self.reasoning += text
            return ReasoningDelta(text)
        self.text += text
        return TextDelta(text)
