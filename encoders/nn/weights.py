"""Weights as layers multiply by them: an array, a layer of a stack, or integers with scales.

A layer is written as one layer that multiplies by `self.weight`, and reads what is small by `self.bias[...]`. Which of
the three it holds is told by the value of the parameter, here and nowhere else.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from encoders.nn.kernels import api as kernels
from encoders.nn.mesh import current_mesh
from encoders.nn.platform import platform

_PIECE_ROWS = 512  # of a matrix read from a stack at a time: 4 MiB of float32 at a width of 2048
_FEW_ROWS = 128


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quantized:
    """A matrix, or a stack of them, as integers of 8 bits with a scale for each row.

    A row belongs to an output channel of a projection, or to a token of an embedding.

    Attributes:
        values: `round(weight / scale)`, -127 to 127; int8 [*stack, rows, columns].
        scales: the largest magnitude of each row / 127; float32 [*stack, rows].
        dtype: of the weight that it stands for, and of what is read from it.
    """

    # Without shapes: JAX puts shapes, shardings and marks in the places of arrays.
    values: Any
    scales: Any
    dtype: Any = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """Axes of the weight."""
        return self.values.ndim

    def __getitem__(self, key: Any) -> Array:
        """The weight at an index of its leading axes, whole rows at the least."""
        values = self.values[key]
        return (values.astype(jnp.float32) * self.scales[key][..., None]).astype(self.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerWeight:
    """One layer's weight in a stack that has a leading axis of layers, left where it is.

    Attributes:
        stack: weights of all layers, an array or `Quantized`.
        layer: which of them, a whole number.
    """

    stack: Any
    layer: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the one layer's weight."""
        return self.stack.shape[1:]

    @property
    def ndim(self) -> int:
        """Axes of the one layer's weight."""
        return self.stack.ndim - 1

    @property
    def dtype(self) -> Any:
        """Of the weight."""
        return self.stack.dtype

    def __getitem__(self, key: Any) -> Array:
        """The weight itself at an index, copied out of the stack."""
        return self.stack[self.layer][key]


Weight = Array | Quantized | LayerWeight


def quantize(weight: Any) -> tuple[Any, Any]:
    """Return the values and scales of `Quantized`, on the host for an array of NumPy.

    Symmetric and by row, to the nearest integer: an error of at most half a scale. A row of zeros gets a scale of 1.
    """
    xp = jnp if isinstance(weight, jax.Array) else np
    weight = weight.astype(np.float32)
    scales = xp.abs(weight).max(axis=-1) * np.float32(1 / 127)  # XLA would make a product of a quotient
    scales = xp.where(scales > 0, scales, np.float32(1))
    return xp.rint(weight / scales[..., None]).astype(np.int8), scales


def layer_of(stack: Any, layer: Int[Array, ""]) -> Any:
    """Return a module of stacked parameters as that of one layer, its weights left in place."""
    graph, state = nnx.split(stack)
    weights = jax.tree.map(
        lambda leaf: LayerWeight(leaf, layer), state, is_leaf=lambda leaf: isinstance(leaf, Quantized)
    )
    return nnx.merge(graph, weights)


def bank(weight: Weight) -> tuple[Array | Quantized, Int[Array, ""]]:
    """Return matrices [experts, rows, columns] with those of all layers in one row, and where this layer's begin."""
    stack, first = weight, jnp.int32(0)
    if isinstance(weight, LayerWeight):
        stack, first = weight.stack, weight.layer * weight.shape[0]
    if isinstance(stack, Quantized):
        *_, rows, columns = stack.shape
        return Quantized(stack.values.reshape(-1, rows, columns), stack.scales.reshape(-1, rows), stack.dtype), first
    assert not isinstance(stack, LayerWeight)
    return stack.reshape(-1, *stack.shape[-2:]), first


def matmul(x: Float[Array, "*rows columns"], weight: Weight) -> Float32[Array, "*rows out"]:
    """x Wᵀ, accumulated in float32 whatever the dtypes."""
    stack, layer = (weight.stack, weight.layer) if isinstance(weight, LayerWeight) else (weight, None)
    # Pieces of rows would not stay on the device that holds them.
    if platform() != "cpu" or current_mesh() is not None:
        if layer is not None:
            stack = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, layer, keepdims=False), stack)
        return _product(x, stack.values) * stack.scales if isinstance(stack, Quantized) else _product(x, stack)
    rows = x.size // x.shape[-1]
    if isinstance(stack, Quantized):
        scales = stack.scales if layer is None else stack.scales[layer]
        if kernels.serves(rows, stack.values):
            return kernels.product(x, stack.values, 0 if layer is None else layer) * scales
        return _product_of_integers(x, stack.values, jnp.int32(0) if layer is None else layer) * scales
    if layer is None:
        return _product(x, stack)
    if kernels.serves(rows, stack):
        return kernels.product(x, stack, layer)
    # What is cut from a stack is copied before it is multiplied: by pieces that stay in the cache, not by matrices.
    out, columns = weight.shape
    piece = math.gcd(out, _PIECE_ROWS)
    if piece == out or piece < _PIECE_ROWS // 4:
        return _product(x, member(stack, layer))
    values = stack.reshape(-1, piece, columns)
    places = layer * (out // piece) + jnp.arange(out // piece)
    if rows <= _FEW_ROWS and stack.dtype == jnp.float32:
        # Few rows of float32: the kernel that has the weights on its left is the faster.
        left = x.reshape(-1, x.shape[-1])
        pieces = lax.map(lambda i: _product(member(values, i), left), places)
        return pieces.reshape(out, -1).T.reshape(*x.shape[:-1], out)
    pieces = lax.map(lambda i: _product(x, member(values, i)), places)
    return jnp.moveaxis(pieces, 0, -2).reshape(*x.shape[:-1], out)


def member(stacks: Any, index: Int[Array, ""]) -> Any:
    """The arrays at `index` of the leading axis of each stack, in any tree of stacks; for use inside a loop.

    Two habits of XLA on the CPU make this more than indexing. It converts a bfloat16 array to float32 before it cuts,
    and, as the conversion of a whole stack does not depend on the loop, does so ahead of the loop: for every layer.
    The barrier makes the stacks depend on the index. And it shares among threads what is cut by rows from a matrix, not
    what is cut from a stack of matrices.
    """
    stacks, index = lax.optimization_barrier((stacks, index))

    def cut(stack: Array) -> Array:
        if stack.ndim < 3:
            return lax.dynamic_index_in_dim(stack, index, keepdims=False)
        rows, *rest = stack.shape[1:]
        return lax.dynamic_slice_in_dim(stack.reshape(-1, *rest), index * rows, rows)

    return jax.tree.map(cut, stacks)


def _product_of_integers(x: Array, values: Array, layer: Array) -> Array:
    """A product with integers [*stack, rows, columns], which become floats by pieces that stay in the cache."""
    *_, rows, columns = values.shape
    values = values.reshape(-1, columns)

    def part(first: Array | int, count: int) -> Array:
        held, start = lax.optimization_barrier((values, layer * rows + first))
        return _product(x, lax.dynamic_slice_in_dim(held, start, count))

    pieces, rest = divmod(rows, _PIECE_ROWS)
    found = []
    if pieces:
        parts = lax.map(lambda i: part(i * _PIECE_ROWS, _PIECE_ROWS), jnp.arange(pieces))
        found.append(jnp.moveaxis(parts, 0, -2).reshape(*x.shape[:-1], rows - rest))
    if rest:
        found.append(part(rows - rest, rest))
    return jnp.concatenate(found, axis=-1)


def _product(x: Array, weight: Array) -> Array:
    """On the CPU a bfloat16 product of a single row has no fast kernel and one of two rows has: the row is doubled."""
    if jnp.issubdtype(weight.dtype, jnp.integer):
        weight = weight.astype(x.dtype)  # integers of 8 bits are exact in bfloat16
    elif jnp.issubdtype(x.dtype, jnp.integer):
        x = x.astype(weight.dtype)
    rows = x.size // x.shape[-1]
    doubled = rows == 1 and weight.dtype != jnp.float32 and platform() == "cpu"
    left = jnp.broadcast_to(x.reshape(1, -1), (2, x.shape[-1])) if doubled else x
    y = lax.dot_general(
        left.astype(weight.dtype),
        weight,
        (((left.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return y[0].reshape(*x.shape[:-1], -1) if doubled else y
