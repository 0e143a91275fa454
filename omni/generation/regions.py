"""Regions of neighbouring slots in a pool, taken and given back."""

from bisect import bisect_left

GRANULE = 128
"""Slots of the smallest region; all sizes are multiples of it."""


def rounded(slots: int) -> int:
    """The least multiple of a granule that holds so many slots."""
    return -(-slots // GRANULE) * GRANULE


class Regions:
    """Which slots of a pool are taken: the first free stretch that is long enough is used, neighbours are joined."""

    def __init__(self, slots: int):
        self.slots = slots
        self._free: list[tuple[int, int]] = [(0, slots)] if slots else []

    @property
    def free(self) -> int:
        """Slots that nobody has, wherever they lie."""
        return sum(size for _, size in self._free)

    def take(self, size: int) -> int | None:
        """Take a region; return its first slot, or None where no free stretch is long enough."""
        for i, (start, length) in enumerate(self._free):
            if length >= size:
                self._free[i : i + 1] = [(start + size, length - size)] if length > size else []
                return start
        return None

    def extend(self, end: int, more: int) -> bool:
        """Take the slots right after a region; whether they were free."""
        i = bisect_left(self._free, (end, 0))
        if i == len(self._free) or self._free[i][0] != end or self._free[i][1] < more:
            return False
        start, length = self._free[i]
        self._free[i : i + 1] = [(start + more, length - more)] if length > more else []
        return True

    def give_back(self, start: int, size: int) -> None:
        """Free a region."""
        i = bisect_left(self._free, (start, size))
        if i < len(self._free) and self._free[i][0] == start + size:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == start:
            before, length = self._free[i - 1]
            self._free[i - 1] = (before, length + size)
        else:
            self._free.insert(i, (start, size))

    def grow(self, slots: int) -> None:
        """Add slots at the end."""
        added, start = slots - self.slots, self.slots
        self.slots = slots
        if added:
            self.give_back(start, added)
