"""The shapes that programs are compiled for: a few numbers of rows, and a few lengths."""

from collections.abc import Sequence
from dataclasses import dataclass

_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
_SERVED_LENGTHS = (16, 64, 128, 256)
# A chunk more reads every weight once more, which takes as long as so many tokens.
_FEW_PADS = 64
TURN_TOKENS = 256
"""Most tokens of prompts that are read between two steps of rows that run."""


@dataclass(frozen=True)
class Buckets:
    """Which shapes there are.

    Attributes:
        batches: numbers of rows.
        lengths: tokens of a chunk.
        chunk_tokens: most tokens of a chunk, all rows together, while no row runs.
        whole_or_one: whether a chunk has one row or as many as it can have, and nothing between: fewer programs.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    chunk_tokens: int
    whole_or_one: bool = False

    @classmethod
    def of(cls, small: bool) -> "Buckets":
        """For any caller: programs are compiled when they are first needed.

        Small decoders have few, since to compile one takes longer than many answers.
        """
        if small:
            return cls((1, 4, 16, 64), (128, 1024), 4096)
        return cls((1, 2, 4, 8, 16, 32, 64), _LENGTHS, 1024)

    @classmethod
    def served(cls, max_batch: int) -> "Buckets":
        """For a server, which compiles all of them ahead."""
        sizes, size = [max_batch], 1
        while size < max_batch:
            sizes.append(size)
            size *= 2
        return cls(tuple(sorted(sizes)), _SERVED_LENGTHS, TURN_TOKENS, whole_or_one=True)

    @property
    def rows(self) -> int:
        """Most rows of a batch."""
        return self.batches[-1]

    def batch(self, rows: int) -> int:
        """Of so many rows."""
        return next(size for size in self.batches if size >= rows)

    def length(self, tokens: int) -> int:
        """Of a chunk for so many tokens, or for the first of them."""
        return _fit(tokens, self.lengths)

    def chunk(self, tokens: int, limit: int) -> tuple[int, int]:
        """Tokens of a chunk that begins with a row of so many, and most rows of it."""
        limit = min(limit, self.chunk_tokens)
        length = _fit(tokens, [length for length in self.lengths if length <= limit] or self.lengths[:1])
        return length, max(1, min(limit // length, self.rows))

    def chunk_batch(self, rows: int, most: int) -> int:
        """Of a chunk of so many rows that could have had more."""
        if not self.whole_or_one or rows == 1:
            return self.batch(rows)
        return self.batch(most)

    def chunks(self) -> list[tuple[int, int]]:
        """Rows and tokens of every chunk that there can be while rows run."""
        found = []
        for length in self.lengths:
            most = max(1, min(TURN_TOKENS // length, self.rows))
            found += sorted({(self.batch(1), length), (self.batch(most), length)})
        return found


def _fit(tokens: int, lengths: Sequence[int]) -> int:
    """The shortest length that holds all, or the longest that they fill where pads would cost more than a chunk."""
    least = next((length for length in lengths if length >= tokens), lengths[-1])
    filled = max((length for length in lengths if length <= tokens), default=least)
    return filled if least - tokens > max(_FEW_PADS, least // 4) else least
