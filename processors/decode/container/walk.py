"""Reading numbers and pieces of a container at any position, as long as its deadline allows."""

from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Literal

from processors.io.access import Access
from processors.io.splice import Piece


class Truncated(Exception):
    """A container ends before its structure says."""


class Damaged(Exception):
    """A container's structure is broken, or something that it lists is missing."""


@dataclass
class Layout:
    """What of a file FFmpeg is to read, where it would stop before the end of one that was joined of several.

    Attributes:
        pieces: stretches, and bytes between them; all of the file when empty.
        joints: positions in what they make at which further files begin.
        frames: how many frames at least the first video track has; 0 where the structure does not tell.
    """

    pieces: list[Piece] = field(default_factory=list)
    joints: list[int] = field(default_factory=list)
    frames: int = 0

    @property
    def length(self) -> int:
        """Bytes of all pieces."""
        return sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self.pieces)


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
