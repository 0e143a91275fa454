"""Access to one input: how much of it, where from, and until when; what every reader is handed."""

import threading
import time
from dataclasses import dataclass, field, replace

from processors.errors import InputError
from processors.io.limits import Limits
from processors.io.policy import Sources


class Deadline:
    """A moment by which reading must be through, and a flag by which another thread ends it at once.

    Args:
        seconds: from now on; no limit when None.

    Raises:
        InputError: `bad_deadline`, the seconds are not a number above 0.
    """

    def __init__(self, seconds: float | None = None):
        if seconds is not None and (not isinstance(seconds, int | float) or not seconds > 0):
            raise InputError("bad_deadline", f"a deadline must be a number of seconds above 0, not {seconds!r:.40}")
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancelled = threading.Event()
        self._parent: Deadline | None = None

    def __reduce__(self) -> tuple[type["Deadline"], tuple[float | None]]:
        # Another process has a clock of its own: it gets what is left.
        left = self.remaining()
        return type(self), (None if left is None else max(left, 1e-3),)

    def child(self) -> "Deadline":
        """Return a deadline of the same moment that can be cancelled without this one."""
        child = Deadline()
        child.seconds, child._end, child._parent = self.seconds, self._end, self
        return child

    def cancel(self) -> None:
        """End every reading under this deadline, and under its children, at the next check."""
        self._cancelled.set()

    def remaining(self) -> float | None:
        """Return the seconds left, under 0 when it has passed; None without a limit."""
        return None if self._end is None else self._end - time.monotonic()

    def check(self) -> None:
        """Raise if the time is up.

        Raises:
            InputError: `deadline`, or `cancelled`.
        """
        if self._cancelled.is_set():
            raise InputError("cancelled", "reading was cancelled")
        if self._parent is not None:
            self._parent.check()
        if self._end is not None and time.monotonic() > self._end:
            raise InputError("deadline", f"not done after {self.seconds:g} s")


@dataclass(frozen=True)
class Access:
    """What a reader may do for one input, or for one call.

    Attributes:
        limits: how much it may take.
        sources: where it may come from.
        deadline: until when; without a limit by default.
        isolate: whether FFmpeg decodes in a process apart, bounded by `limits.decoder_bytes` and
            `limits.decoder_seconds`: a crash of the decoder is then an InputError, and the caller lives on. Processes
            are kept for the next file. POSIX systems only.
    """

    limits: Limits = field(default_factory=Limits)
    sources: Sources = field(default_factory=Sources)
    deadline: Deadline = field(default_factory=Deadline, compare=False)
    isolate: bool = False

    def of_call(
        self, limits: Limits | None = None, sources: Sources | None = None, deadline: float | None = None
    ) -> "Access":
        """Return the access of one call: what it brings of its own, and else this one's.

        Args:
            limits: how much a medium may take.
            sources: where media may come from.
            deadline: seconds from now until the call must be through; no end when None.

        Raises:
            InputError: the deadline is not a number above 0.
        """
        return replace(self, limits=limits or self.limits, sources=sources or self.sources, deadline=Deadline(deadline))

    def check(self) -> None:
        """Raise `InputError` if the time is up; called between blocks, frames and packets."""
        self.deadline.check()


DEFAULT_ACCESS = Access()
