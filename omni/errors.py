"""Errors a user can meet: a refused input, and a refused checkpoint."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from processors.errors import InputError

__all__ = ["CheckpointError", "InputError", "check_batch_size", "is_number", "is_whole", "printable", "shown"]


def printable(text: str) -> str:
    """Return text as any terminal and any JSON takes it: names of files may hold bytes that are no characters."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown(value: Any) -> str:
    """A refused value, for a message: numbers and strings themselves, all else by its type, never by its address."""
    return repr(value)[:40] if isinstance(value, Real | str) or value is None else f"a {type(value).__name__}"


def is_number(value: Any) -> bool:
    """Whether an option is a number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether an option is a whole number; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_batch_size(batch_size: Any) -> None:
    """Refuses what is not a number of things to do together."""
    if not is_whole(batch_size) or batch_size < 1:
        raise InputError("bad_batch_size", f"batch_size must be a whole number of 1 or more, got {shown(batch_size)}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded, with everything that is wrong with it at once.

    Args:
        message: one sentence.
        missing: tensors the model needs and the files do not hold.
        unexpected: tensors in the files that the model has no place for.
        misshaped: tensors whose shape differs, each as `name: file shape, wanted shape`.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshaped: Sequence[str] = (),
    ):
        self.missing, self.unexpected, self.misshaped = tuple(missing), tuple(unexpected), tuple(misshaped)
        lines = [message]
        for title, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped)):
            if names:
                lines.append(f"{title} ({len(names)}): " + ", ".join(names))
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # The lists are in the state and, as lines, in the message.
        return type(self), (str(self),), self.__dict__
