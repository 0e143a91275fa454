"""From the engine's thread to the event loop: who waits for a reply wakes when one may have grown."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence

from omni.generation.ticket import Ticket
from omni.prompt.reply_stream import Delta

# Seconds without text after which a stream says that it lives.
PING_SECONDS = 10.0


class Steps:
    """Wakes coroutines after the engine's steps."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock, self._pending = threading.Lock(), False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say where the coroutines run."""
        self._loop = loop

    def notify(self) -> None:
        """A step was made; from any thread."""
        with self._lock:
            if self._pending or self._loop is None:
                return
            self._pending = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._pending = False
        self._event.set()
        self._event = asyncio.Event()

    async def done(self, ticket: Ticket) -> None:
        """Wait until a reply has ended."""
        while True:
            event = self._event  # before the look: a step after it wakes this one
            if ticket.done:
                return
            await event.wait()

    async def events(self, tickets: Sequence[Ticket]) -> AsyncIterator[tuple[int, list[Delta], bool] | None]:
        """Events of replies as they come: whose, which, whether it has ended; None where nothing came for long."""
        waited = list(range(len(tickets)))
        while waited:
            event = self._event
            for i in tuple(waited):
                is_done = tickets[i].done
                if (deltas := tickets[i].take()) or is_done:
                    yield i, deltas, is_done
                if is_done:
                    waited.remove(i)
            if not waited:
                return
            try:
                await asyncio.wait_for(event.wait(), PING_SECONDS)
            except TimeoutError:
                yield None
