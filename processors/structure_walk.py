"""Reading numbers and pieces of a container at any position, as long as its deadline allows."""

from io import BufferedIOBase
from typing import Literal

from processors.access import Access


class Truncated(Exception):
    """A container ends before its structure says."""


class Damaged(Exception):
    """A container's structure is broken, or something that it lists is missing."""


class Walk:
    """A seekable stream, read piece by piece.

    Attributes:
        length: bytes of the whole.
    """

    def __init__(self, stream: BufferedIOBase, access: Access):
        self._stream, self._access, self._reads = stream, access, 0
        self.length = stream.seek(0, 2)
        self._at, self._held = 0, b""

    def read(self, place: int, size: int) -> bytes:
        """Return bytes from a position on; fewer where the container ends."""
        inside = place - self._at
        if 0 <= inside and inside + size <= len(self._held):
            return self._held[inside : inside + size]
        self._reads += 1
        if not self._reads % 256:
            self._access.check()
        if place >= self.length or place < 0:
            return b""
        self._stream.seek(place)
        self._at, self._held = place, self._stream.read(max(size, 64))
        return self._held[:size]

    def number(self, place: int, size: int, order: Literal["big", "little"] = "big") -> int:
        """Return an unsigned integer."""
        return int.from_bytes(self.read(place, size), order)
