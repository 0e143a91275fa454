"""Thoughts apart from the answer: what stands between `<think>` and `</think>` at the beginning of a reply."""

from collections.abc import Iterator, Sequence
from typing import Literal

from omni.prompt.tool_calls import overlap

_OPEN, _CLOSE = "<think>", "</think>"
Kind = Literal["reasoning", "text"]


def teaches_thinking(source: str) -> bool:
    """Whether a chat template knows of thoughts."""
    return _CLOSE in source


def opens_thought(prompt: str, special: Sequence[str]) -> bool:
    """Whether a rendered prompt ends within a thought, so that the reply begins in it.

    Args:
        prompt: the rendered text.
        special: tokens that end messages: what is before them is not the reply's.
    """
    _, found, tail = prompt.rpartition(_OPEN)
    return bool(found) and _CLOSE not in tail and not any(token in tail for token in special)


class ThoughtStream:
    """Text as it comes -> pieces of reasoning, and of text. Where the text is cut does not matter.

    Line ends around thoughts belong to neither, as templates write them there.

    Args:
        opened: whether the prompt ends within a thought.
    """

    def __init__(self, opened: bool):
        self._state: Literal["start", "thought", "after", "text"] = "thought" if opened else "start"
        self._held, self._begun = "", False

    @property
    def thinks(self) -> bool:
        """Whether what comes now is a thought."""
        return self._state == "thought"

    def push(self, piece: str) -> list[tuple[Kind, str]]:
        """Take a piece of text; return what is certain now."""
        self._held += piece
        return list(self._advance(final=False))

    def flush(self) -> list[tuple[Kind, str]]:
        """Return what was held back, at the end of the text."""
        return list(self._advance(final=True))

    def end_thought(self) -> list[tuple[Kind, str]]:
        """End a thought that was not closed: a call follows it."""
        found = self.flush()
        if self.thinks:
            self._state = "after"
        return found

    def _advance(self, *, final: bool) -> Iterator[tuple[Kind, str]]:
        if self._state == "start":
            body = self._held.lstrip()
            if body.startswith(_OPEN):
                self._state, self._held = "thought", body.removeprefix(_OPEN)
            elif not final and _OPEN.startswith(body):
                return
            elif body:
                self._state = "text"
        if self._state == "thought":
            thought, found, rest = self._held.partition(_CLOSE)
            if found:
                self._state, self._held = "after", rest
            else:
                kept = 0 if final else overlap(thought, _CLOSE)
                thought, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
            if not self._begun:
                thought = thought.lstrip("\n")
            body = thought.rstrip("\n")
            if not found:
                # The line ends stay until more of the thought comes, or nothing does.
                self._held = "" if final else thought[len(body) :] + self._held
            if body:
                self._begun = True
                yield "reasoning", body
        if self._state == "after":
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = "text"
        if self._state in ("start", "text") and self._held:
            text, self._held = self._held, ""
            yield "text", text
