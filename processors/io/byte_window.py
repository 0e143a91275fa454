"""Reads of a few pieces of a file, bounded in number and size, for looking into what strangers wrote."""

from io import BufferedIOBase

_BLOCK = 1 << 12


class ByteWindow:
    """Pieces of a seekable stream from a start on; beyond its end, or once the budget is spent, they are empty.

    Args:
        stream: seekable; where it stands afterwards is not defined.
        start: where position 0 lies.
        budget: how many bytes may be read in all. Each read counts at least a disk block.
    """

    def __init__(self, stream: BufferedIOBase, start: int = 0, budget: int = 1 << 22):
        self._stream, self._start, self._left = stream, start, budget
        self.size = max(0, stream.seek(0, 2) - start)
        self._held_at, self._held = 0, b""

    def read(self, position: int, count: int) -> bytes:
        """Return up to `count` bytes; fewer where the file or the budget ends."""
        if position < 0 or position >= self.size or count <= 0:
            return b""
        count = min(count, self.size - position)
        inside = position - self._held_at
        if 0 <= inside and inside + count <= len(self._held):
            return self._held[inside : inside + count]
        want = min(max(count, _BLOCK), self._left)
        if want <= 0:
            return b""
        self._left -= want
        self._stream.seek(self._start + position)
        self._held_at, self._held = position, self._stream.read(want) or b""
        return self._held[:count]

    def number(self, position: int, count: int, order: str = "big") -> int | None:
        """Return an unsigned integer of `count` bytes; None where it does not lie in the file."""
        data = self.read(position, count)
        return int.from_bytes(data, "little" if order == "little" else "big") if len(data) == count else None
