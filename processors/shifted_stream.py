"""A stream from a later byte on, for files with something before what they hold."""

import io
from io import BufferedIOBase


class ShiftedStream(BufferedIOBase):
    """A seekable stream whose position 0 lies at `start` of another.

    Args:
        stream: seekable; closed with this one.
        start: the byte that is taken for the first.
    """

    def __init__(self, stream: BufferedIOBase, start: int):
        self._stream, self._start = stream, start
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
        """Return up to `size` bytes, or all that are left."""
        return self._stream.read(-1 if size is None else size)

    def close(self) -> None:
        """Close the stream underneath as well."""
        self._stream.close()
        super().close()
