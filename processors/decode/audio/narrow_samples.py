"""Integers of 33 to 64 bits, of which a decoder is handed the upper 32: more than float32 holds."""

import io
from io import BufferedIOBase

import numpy as np

_BYTES = 4
_BLOCK_SAMPLES = 1 << 15


class _NarrowSamples(io.RawIOBase):
    def __init__(self, stream: BufferedIOBase, head: int, width: int, big_endian: bool):
        self._stream, self._head, self._width, self._position = stream, head, width, 0
        self._first = 0 if big_endian else width - _BYTES
        self._end = head + (stream.seek(0, 2) - head) // width * _BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = max(0, offset + (0, self._position, self._end)[whence])
        return self._position

    def readinto(self, buffer, /) -> int:
        view = memoryview(buffer)[: max(0, self._end - self._position)]
        inside = self._position - self._head
        if inside < 0:
            self._stream.seek(self._position)
            block = self._stream.read(min(len(view), -inside))
        else:
            number, skipped = divmod(inside, _BYTES)
            count = min(_BLOCK_SAMPLES, -(-(skipped + len(view)) // _BYTES))
            self._stream.seek(self._head + number * self._width)
            wide = np.frombuffer(self._stream.read(count * self._width), np.uint8)
            wide = wide[: len(wide) // self._width * self._width].reshape(-1, self._width)
            block = wide[:, self._first : self._first + _BYTES].tobytes()[skipped : skipped + len(view)]
        view[: len(block)] = block
        self._position += len(block)
        return len(block)


def narrow_samples(stream: BufferedIOBase, head: int, width: int, big_endian: bool) -> io.BufferedReader:
    """Returns a seekable stream of a header as it is and of the upper four bytes of each sample behind it.

    Args:
        stream: the header, and then samples to the end.
        head: bytes of the header.
        width: bytes of a sample.
        big_endian: whether the upper bytes come first.
    """
    return io.BufferedReader(_NarrowSamples(stream, head, width, big_endian), 1 << 17)
