"""Splices: one binary stream out of stretches of another and of bytes that stand between them."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from io import BufferedIOBase
from itertools import accumulate

Piece = bytes | tuple[int, int]
"""Bytes as they are, or the first and the last-but-one position of a stretch of the stream."""

_BUFFER = 1 << 17


class _Splice(io.RawIOBase):
    def __init__(self, stream: BufferedIOBase, pieces: Sequence[Piece]):
        self._stream = stream
        self._pieces = [piece for piece in pieces if _length(piece) > 0]
        self._ends = list(accumulate(map(_length, self._pieces)))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        end = self._ends[-1] if self._ends else 0
        self._position = max(0, offset + (0, self._position, end)[whence])
        return self._position

    def readinto(self, buffer, /) -> int:
        number = bisect_right(self._ends, self._position)
        if number == len(self._ends):
            return 0
        piece = self._pieces[number]
        inside = self._position - (self._ends[number - 1] if number else 0)
        view = memoryview(buffer)[: self._ends[number] - self._position]
        size = len(view)
        if isinstance(piece, bytes):
            view[:] = piece[inside : inside + size]
        else:
            self._stream.seek(piece[0] + inside)
            size = self._stream.readinto(view)
        self._position += size
        return size


def splice(stream: BufferedIOBase, pieces: Sequence[Piece]) -> io.BufferedReader:
    """Returns a seekable stream of the pieces, one behind the other; it moves `stream` when it is read."""
    return io.BufferedReader(_Splice(stream, pieces), _BUFFER)


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
