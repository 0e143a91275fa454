"""A weight of a checkpoint with what adapters add to it.

Sums are made in float32 and rounded once, to the dtype in which the weight is kept; of a stack of experts one expert at
a time. The product of an adapter's two matrices is made when it is added, and not kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from omni.checkpoint.finite import is_finite
from omni.checkpoint.quantized import PackedTensor
from omni.checkpoint.safetensors import StoredTensor
from omni.families import Source


@dataclass(frozen=True, eq=False)
class Product:
    """Two matrices whose product is added to rows of one matrix.

    Attributes:
        lead: which matrix of the tensor; empty where it is one.
        rows: which of its rows.
        left: [rows, rank].
        right: [rank, columns]; of convolutions, the columns are all that follows the first axis.
        scale: of the product.
    """

    lead: tuple[int, ...]
    rows: slice
    left: np.ndarray
    right: np.ndarray
    scale: float

    def add_to(self, matrix: np.ndarray) -> None:
        """Add it to a matrix of float32, in place."""
        left, right = self.left.astype(np.float32), self.right.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told of by its name
            matrix[self.rows] += np.float32(self.scale) * (left @ right)


@dataclass(frozen=True, eq=False)
class AdaptedTensor:
    """One weight, read when it is asked for.

    Attributes:
        base: the weight in the files, or what an adapter brings in its place.
        name: that it has in the checkpoint's files.
        dtype: that of the checkpoint's tensor.
        source: the parameter's; the axes of `products` are the parameter's own.
        products: what is added, ordered by `lead`.
        brought: tensors of adapters that it is made of.
    """

    base: StoredTensor | PackedTensor
    name: str
    dtype: np.dtype
    source: Source
    products: tuple[Product, ...]
    brought: tuple[StoredTensor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's, as it lies in the files."""
        return self.base.shape

    @property
    def array(self) -> np.ndarray:
        """The weight as a whole, in its dtype."""
        whole = np.empty(self.shape, self.dtype)
        self.fill(whole)
        return whole

    def fill(self, out: np.ndarray) -> None:
        """Write the weight into an array of its shape, of any floating dtype."""
        if isinstance(self.base, PackedTensor):
            stored = np.empty(self.shape, np.float32)
            self.base.fill(stored)
        else:
            stored = self.base.array
        out[...] = stored
        theirs, ours = self.source.turned(stored), self.source.turned(out)
        for lead, products in groupby(self.products, lambda product: product.lead):
            block = np.array(theirs[lead], np.float32, order="C")
            matrix = block.reshape(len(block), -1)
            for product in products:
                product.add_to(matrix)
            ours[lead] = block

    def release(self) -> None:
        """Let the system drop the pages of the files that were read for it."""
        for tensor in (self.base, *self.brought):
            tensor.release()

    def not_finite(self) -> list[str]:
        """Names of tensors in files that hold NaN or infinity."""
        return list(self._not_finite())

    def _not_finite(self) -> Iterator[str]:
        if isinstance(self.base, PackedTensor):
            yield from self.base.not_finite()
        elif not is_finite(self.base.array):
            yield self.base.name
        yield from (tensor.name for tensor in self.brought if not is_finite(tensor.array))
