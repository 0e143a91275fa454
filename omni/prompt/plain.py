"""Plain values: what a message may hold, copied within bounds of depth and size."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from omni.errors import InputError

DEPTH = 64
"""Lists and dicts within one another, in one message."""
VALUES = 500_000
"""Values in a conversation."""
CHARACTERS = 64_000_000
"""Characters in a conversation."""
_NUMBER_BITS = 1 << 12


class Plain:
    """Copies of values as JSON could hold them, each conversation's within its bounds.

    Whatever is a mapping or a sequence becomes a dict or a list, NumPy's numbers become Python's; nothing of what a
    caller gave is shared, so no template meets an object with methods of its own.
    """

    def __init__(self) -> None:
        self._values, self._characters = 0, 0

    def copy(self, value: Any, where: str) -> Any:
        """Return a plain copy.

        Args:
            value: strings, numbers, booleans and None, and lists and mappings of such.
            where: what it is, for messages.

        Raises:
            InputError: `bad_messages`, it holds something else, a key that is no string, a number that JSON does not
                have, itself, or more than a conversation may.
        """
        return self._copy(value, where, 0)

    def text(self, value: str) -> str:
        """Return a string as `str` itself, counted."""
        self._count(len(value))
        return str.__str__(value)

    def _copy(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        self._count(0)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int):
            if value.bit_length() > _NUMBER_BITS:
                raise InputError("bad_messages", f"{where} holds a number of more than {_NUMBER_BITS} bits")
            return int(value)
        if isinstance(value, float):
            if not isfinite(value):
                raise InputError("bad_messages", f"{where} holds {value}, which JSON does not have")
            return float(value)
        value = as_mapping(value)
        if depth >= DEPTH:
            raise InputError("bad_messages", f"{where} is nested more than {DEPTH} deep")
        if isinstance(value, Mapping):
            return {self._key(key, where): self._copy(inner, where, depth + 1) for key, inner in _items(value, where)}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self._copy(inner, where, depth + 1) for inner in value]
        raise InputError("bad_messages", f"{where} holds a {type(value).__name__}, which is not JSON")

    def _key(self, key: Any, where: str) -> str:
        if not isinstance(key, str):
            raise InputError("bad_messages", f"{where} has a key that is not a string but a {type(key).__name__}")
        return self.text(key)

    def _count(self, characters: int) -> None:
        self._values += 1
        self._characters += characters
        if self._values > VALUES:
            raise InputError("bad_messages", f"the messages hold more than {VALUES:,} values")
        if self._characters > CHARACTERS:
            raise InputError("bad_messages", f"the messages hold more than {CHARACTERS:,} characters")


def as_mapping(value: Any) -> Any:
    """Return the fields of a pydantic model, such as the replies of OpenAI's client, as a dict; all else as it is."""
    if not isinstance(value, Mapping | type) and callable(getattr(value, "model_dump", None)):
        return value.model_dump(exclude_none=True)
    return value


def _items(value: Mapping[Any, Any], where: str) -> Iterable[tuple[Any, Any]]:
    if len(value) > VALUES:
        raise InputError("bad_messages", f"{where} holds more than {VALUES:,} values")
    return value.items()
