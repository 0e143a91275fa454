"""Sizes that rows are cut by."""


def divisor(length: int, most: int) -> int:
    """The largest divisor of a row's length that is at most `most`."""
    return max(n for n in range(1, min(most, length) + 1) if length % n == 0)
