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
    """A checkpoint that cannot be loaded.

    The message is one paragraph of at most 500 characters: it counts all that is wrong and names the first few, and
    `problems` has every one.

    Args:
        message: one sentence.
        code: a stable name of what is wrong, in snake case.
        problems: everything that is wrong, one sentence each, where it is more than the message.
        missing: tensors the model needs and the files do not hold.
        unexpected: tensors in the files that the model has no place for.
        misshaped: tensors whose shape differs, each as `name: file shape, wanted shape`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "bad_checkpoint",
        problems: Sequence[str] = (),
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshaped: Sequence[str] = (),
    ):
        self.code: str = code
        self.missing: tuple[str, ...] = tuple(missing)
        self.unexpected: tuple[str, ...] = tuple(unexpected)
        self.misshaped: tuple[str, ...] = tuple(misshaped)
        named = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
        listed = [f"{title}: {name}" for title, names in named.items() for name in names]
        self.problems: tuple[str, ...] = (*problems, *listed) or (message,)
        groups = [(title, tuple(names)) for title, names in (("problems", problems), *named.items()) if names]
        super().__init__(_paragraph(message, groups))

    def __reduce__(self) -> tuple[Any, ...]:
        # All else is in the state.
        return type(self), (str(self),), self.__dict__


_MOST = 500
_LONGEST_NAME = 120


def _paragraph(message: str, groups: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """The message, then the first of each kind of problem with their numbers, as many as there is space for."""
    text = _plain(message)
    counts = [f"{title} ({len(names)}): " for title, names in groups]
    space = _MOST - len(text) - sum(len(count) + len("; , ...") for count in counts)
    for i, (count, (_, names)) in enumerate(zip(counts, groups, strict=True)):
        share = max(space // (len(groups) - i), 0)
        shown, used = [], 0
        for name in names:
            name = _plain(name)[:_LONGEST_NAME]
            used += len(name) + 2
            if used > share:
                break
            shown.append(name)
        space -= sum(len(name) + 2 for name in shown)
        rest = ["..."] if len(shown) < len(names) else []
        text += ("; " if text else "") + count + ", ".join([*shown, *rest])
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."


def _plain(text: str) -> str:
    """In one line, and printable wherever it is printed: names in a file may hold anything."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(map(_printable, line))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
