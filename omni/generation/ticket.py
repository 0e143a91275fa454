"""A reply that is being written, as its caller holds it."""

import time
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

from omni.errors import InputError
from omni.generation.dispatcher import Dispatcher
from omni.generation.reply import Reply, Usage
from omni.generation.scheduler import Task, TokenLogprobs
from omni.generation.text_stream import TextStream
from omni.media.pictures import NO_PICTURES, Pictures
from omni.prompt.reply_stream import PLAIN, Delta, ReplyFormat, ReplyStream

_T = TypeVar("_T")


class Ticket:
    """One request; usable from any thread.

    Iterate over it for pieces of text as they come, never half a character, or over its `events`; or ask for the
    `result`.

    Args:
        dispatcher: what runs it.
        task: what runs; its `on_token` becomes the ticket's.
        text: makes text of tokens; None without a tokenizer.
        format: what the reply may hold beside text.
        pictures: the images of the conversation.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        task: Task,
        text: TextStream | None,
        format: ReplyFormat = PLAIN,
        pictures: Pictures = NO_PICTURES,
    ):
        self._dispatcher, self._task, self._text = dispatcher, task, text
        self._pictures = pictures
        self._parts = ReplyStream(format)
        self._pieces: deque[str] = deque()
        self._deltas: deque[Delta] = deque()
        self._flushed = False
        task.on_token = self._push

    def __repr__(self) -> str:
        state = "done" if self.done else f"{len(self._task.reply)} tokens written"
        return f"omni.Ticket({state})"

    @property
    def done(self) -> bool:
        """Whether the reply is whole, failed or cancelled."""
        return self._task.done

    @property
    def has_begun(self) -> bool:
        """Whether its prompt has been read, or it is done."""
        return bool(self._task.reply) or self.done

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the reply.

        Args:
            timeout: seconds to wait at most; the request goes on after them.

        Raises:
            TimeoutError: it is not there yet.
            InputError: `cancelled`; `deadline`; `not_finite`; or what else was wrong with it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self._dispatcher.run(lambda: self.done or (end is not None and time.monotonic() >= end))
        if not self.done:
            raise TimeoutError(f"no reply after {timeout:g} s")
        return self.reply()

    def reply(self) -> Reply:
        """Return what there is of the reply now.

        Raises:
            InputError: as `result`, where it failed or was cancelled.
        """
        task = self._task
        if task.error is not None:
            raise task.error
        if task.cancelled:
            raise InputError("cancelled", "the request was cancelled")
        return self.partial()

    def partial(self) -> Reply:
        """What there is of the reply, whatever became of it."""
        task = self._task
        self._flush()
        usage = Usage(len(task.prompt), task.cached_tokens, len(task.reply))
        raw, parts = "" if self._text is None else self._text.text, self._parts
        logprobs = None if task.sampling.logprobs is None else tuple(task.logprobs)
        reason = "tool_calls" if parts.tool_calls and task.finish_reason == "stop" else task.finish_reason
        calls = tuple(parts.tool_calls)
        thoughts = parts.reasoning or None
        return Reply(parts.text, list(task.reply), reason, usage, logprobs, thoughts, calls, raw, self._pictures)

    def cancel(self) -> None:
        """End it; what was written so far has been given to who iterates."""
        if not self.done:
            self._dispatcher.cancel(self._task)

    def take(self) -> list[Delta]:
        """What there is of the reply's events beyond what was taken before; never waits."""
        self._flush()
        taken = []
        while self._deltas:
            taken.append(self._deltas.popleft())
        return taken

    def logprobs(self, start: int = 0) -> tuple[tuple[int, TokenLogprobs], ...]:
        """Tokens from one on with their log-probabilities, as far as there are any; never waits."""
        return tuple(zip(self._task.reply[start:], self._task.logprobs[start:], strict=False))

    def __iter__(self) -> Iterator[str]:
        """Pieces of the raw text, thoughts and calls as the model writes them; leaving the loop early cancels."""
        return self._each(self._pieces)

    def events(self) -> Iterator[Delta]:
        """The reply taken apart as it comes: `TextDelta`, `ReasoningDelta` and `ToolCallDelta`.

        Leaving the loop early cancels the request.
        """
        return self._each(self._deltas)

    def _each(self, arrived: deque[_T]) -> Iterator[_T]:
        try:
            while True:
                self._dispatcher.run(lambda: bool(arrived) or self.done)
                self._flush()
                while arrived:
                    yield arrived.popleft()
                if self.done and not arrived:
                    self.reply()
                    return
        finally:
            self.cancel()

    def _push(self, token: int) -> bool:
        if self._text is None:
            return False
        self._show(self._text.push(token))
        return self._text.stopped

    def _show(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._deltas.extend(self._parts.push(piece))

    def _flush(self) -> None:
        """The end of a text that waited for more."""
        if self.done and not self._flushed and self._text is not None:
            self._flushed = True
            self._show(self._text.flush())
            self._deltas.extend(self._parts.flush())
