"""A stream as a decoder reads it: from a later byte on, under a deadline, and remembering whether it ran out."""

import io
from io import BufferedIOBase

from processors.io.access import Access

_READS_A_CHECK = 64
_CHECKED_BYTES = 1 << 14


class CheckedStream(BufferedIOBase):
    """A seekable stream whose position 0 lies at `start` of another.

    Args:
        stream: seekable; whoever opened it closes it.
        start: the byte that is taken for the first.
        access: its deadline ends a read.

    Attributes:
        ran_out: whether something was read where nothing was left.
    """

    def __init__(self, stream: BufferedIOBase, start: int, access: Access):
        self._stream, self._start, self._access, self._reads = stream, start, access, 0
        self.ran_out = False
        stream.seek(start)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position from the start on."""
        return self._stream.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move, and return the position from the start on."""
        if whence == io.SEEK_SET:
            if offset < 0:
                raise ValueError("a position before the start")
            offset += self._start
        return self._stream.seek(offset, whence) - self._start

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left.

        Raises:
            InputError: `deadline`, `cancelled`.
        """
        data = self._stream.read(-1 if size is None else size)
        # Decoders written in Python read byte by byte.
        self._reads += 1
        if len(data) >= _CHECKED_BYTES or self._reads % _READS_A_CHECK == 0:
            self._access.check()
        self.ran_out = self.ran_out or (not data and size != 0)
        return data
