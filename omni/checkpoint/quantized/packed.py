"""A weight that files hold as numbers of few bits with scales, and what it stands for.

Every format comes to the same: a matrix of codes, and blocks of rows and columns that share a scale and, where codes
lie around another number than 0, a zero point. `(code - zero) * scale` is computed in float32 and rounded once, to the
dtype in which the weight is kept, a few rows at a time: beside the weight itself nothing of its size is ever made.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from omni.checkpoint.safetensors import StoredTensor

_AT_ONCE = 1 << 19  # weights: 2 MiB of float32, which stay in the cache
_ROWS_TOGETHER = 8  # AWQ packs the rows of eight outputs into one word
Place = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PackedTensor(ABC):
    """One weight [*stack, rows, columns]; nothing is read of the files before it is asked for.

    Attributes:
        name: that the weight has in files that are not quantised.
        shape: of the weight.
        dtype: in which it is kept where nobody asks for another.
        block: how many rows and columns share a scale.
        scales: of all blocks, in the files' layout.
        zeros: likewise, or packed; None where codes lie around 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    block: tuple[int, int]
    scales: StoredTensor
    zeros: StoredTensor | None

    @property
    @abstractmethod
    def range(self) -> tuple[float, float]:
        """The least and the greatest code."""

    @property
    def has_integers(self) -> bool:
        """Whether codes are whole numbers."""
        return True

    @abstractmethod
    def codes(self, place: Place, rows: slice) -> np.ndarray:
        """Rows of one matrix of codes: float32 [rows, columns], an array of its own."""

    def read_scales(self, place: Place) -> np.ndarray:
        """The scales of one matrix: float32 [blocks of rows, blocks of columns]."""
        return self.scales.array.reshape(*self.shape[:-2], *self.blocks)[place].astype(np.float32)

    def read_zeros(self, place: Place) -> np.ndarray | None:
        """The zero points of one matrix, in the same shape."""
        if self.zeros is None:
            return None
        return self.zeros.array.reshape(*self.shape[:-2], *self.blocks)[place].astype(np.float32)

    def column_blocks(self) -> np.ndarray | None:
        """The block of each column, where blocks are not of consecutive columns."""
        return None

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks of rows and of columns a matrix has."""
        return -(-self.shape[-2] // self.block[0]), -(-self.shape[-1] // self.block[1])

    @property
    def array(self) -> np.ndarray:
        """The weight as a whole, in its dtype."""
        whole = np.empty(self.shape, self.dtype)
        self.fill(whole)
        return whole

    def fill(self, out: np.ndarray) -> None:
        """Write the weight into an array of its shape, of any floating dtype."""
        columns = self._columns()
        for place in np.ndindex(self.shape[:-2]):
            scales, zeros = self.read_scales(place), self.read_zeros(place)
            for rows in self._pieces():
                values = self.codes(place, rows)
                blocks = np.arange(rows.start, rows.stop) // self.block[0]
                with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told of by its name
                    if zeros is not None:
                        _spread(np.subtract, values, zeros[blocks], columns)
                    _spread(np.multiply, values, scales[blocks], columns)
                    out[(*place, rows)] = values

    def rows_of_integers(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The weight as integers of 8 bits, and a float32 scale a row; None where it is no such thing."""
        *stack, rows, columns = self.shape
        if not self.has_integers or self.block[1] < columns or self.column_blocks() is not None:
            return None
        values, scales = np.empty(self.shape, np.int8), np.empty((*stack, rows), np.float32)
        blocks = np.arange(rows) // self.block[0]
        for place in np.ndindex(*stack):
            zeros = self.read_zeros(place)
            least, most = (0, 0) if zeros is None else (zeros.min(), zeros.max())
            if self.range[0] - most < -128 or self.range[1] - least > 127:
                return None
            scales[place] = self.read_scales(place)[blocks, 0]
            for piece in self._pieces():
                codes = self.codes(place, piece)
                values[(*place, piece)] = codes if zeros is None else codes - zeros[blocks[piece]]
        return values, scales

    def not_finite(self) -> list[str]:
        """Names of tensors in the files that would make the weight NaN or infinite."""
        most = np.finfo(np.float32).max / (2 * max(map(abs, self.range)))
        places = np.ndindex(self.shape[:-2])
        return [] if all((abs(self.read_scales(place)) < most).all() for place in places) else [self.scales.name]

    def release(self) -> None:
        """Let the system drop the pages of the files that were read for it."""
        self.scales.release()

    def _pieces(self) -> Iterator[slice]:
        rows, columns = self.shape[-2:]
        step = max(_AT_ONCE // max(columns, 1) // _ROWS_TOGETHER, 1) * _ROWS_TOGETHER
        return (slice(start, min(start + step, rows)) for start in range(0, rows, step))

    def _columns(self) -> np.ndarray | None:
        """The block of each column; None where all blocks are of the same number of consecutive columns."""
        places, columns = self.column_blocks(), self.shape[-1]
        if places is None and columns > self.block[1] and columns % self.block[1]:
            return np.arange(columns) // self.block[1]
        return places


def _spread(operation: np.ufunc, values: np.ndarray, blocks: np.ndarray, columns: np.ndarray | None) -> None:
    """Applies the number of each block to all of the block's columns, in place."""
    if columns is not None:
        operation(values, blocks[:, columns], out=values)
    else:
        parts = values.reshape(*blocks.shape, -1)
        operation(parts, blocks[:, :, None], out=parts)


def unpack(words: np.ndarray, bits: int) -> np.ndarray:
    """Numbers from words of 32 bits, those of the lowest bits first: float32 [..., 32 / bits].

    Args:
        words: integers of 32 bits, in any layout.
        bits: 4 or 8.
    """
    parts = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    if bits == 8:
        return parts.astype(np.float32)
    return np.take(_pairs(), parts, axis=0).reshape(*words.shape, 8)


@cache
def _pairs() -> np.ndarray:
    """The two numbers of 4 bits in each byte."""
    byte = np.arange(256)
    return np.stack([byte & 15, byte >> 4], axis=-1).astype(np.float32)


@cache
def _float8() -> np.ndarray:
    """What each byte stands for as a float of 4 bits of exponent and 3 of mantissa."""
    return np.arange(256, dtype=np.uint8).view("float8_e4m3fn").astype(np.float32)


@dataclass(frozen=True, eq=False)
class BytesTensor(PackedTensor):
    """A weight whose codes lie as bytes in the weight's own layout: int8, or float8 (e4m3).

    Attributes:
        stored: the codes.
    """

    stored: StoredTensor

    @property
    def has_integers(self) -> bool:
        """Whether codes are whole numbers."""
        return self.stored.dtype == np.int8

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest code."""
        return (-128, 127) if self.has_integers else (-448, 448)

    def codes(self, place: Place, rows: slice) -> np.ndarray:
        """Rows of one matrix of codes."""
        codes = self.stored.array[(*place, rows)]
        return codes.astype(np.float32) if self.has_integers else np.take(_float8(), codes.view(np.uint8))

    def not_finite(self) -> list[str]:
        """Names of tensors in the files that would make the weight NaN or infinite."""
        names = super().not_finite()
        if not self.has_integers:
            flat = self.stored.array.reshape(-1).view(np.uint8)
            pieces = (flat[start : start + _AT_ONCE] for start in range(0, flat.size, _AT_ONCE))
            if any(((piece & 0x7F) == 0x7F).any() for piece in pieces):
                names.append(self.stored.name)
        return names
