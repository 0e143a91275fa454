"""Long calls that Ctrl-C ends at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def call(function: Callable[[threading.Event], T], check: Callable[[], None] = lambda: None) -> T:
    """Calls a function in a thread of its own and waits, so that the caller can be interrupted.

    Python hands Ctrl-C to the main thread between two of its steps, and one step into a library may take minutes.

    Args:
        function: gets an event that is set when the caller was interrupted, for it to stop too.
        check: called meanwhile; what it raises ends the call.
    """
    interrupted, done = threading.Event(), threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = function(interrupted)
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.1):
            check()
    except BaseException:
        interrupted.set()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


@contextmanager
def interrupts_as_such() -> Iterator[None]:
    """Raises Ctrl-C as what it is, where a library within made another error of it."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            cause = cause.__cause__ or cause.__context__
        raise
