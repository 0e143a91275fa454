"""The layers that both encoders and the text decoder are made of.

Weights keep the layout that checkpoints have on disk, [out, in], so loading never transposes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

_INITIALIZER = nnx.initializers.truncated_normal(0.02)

_PIECE_ROWS = 512  # of a matrix read from a stack at a time: 4 MiB of float32 at a width of 2048
_FEW_ROWS = 128

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """An activation function by the name that configs use.

    Raises:
        ValueError: no such activation.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not supported; supported are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class Linear(nnx.Module):
    """x Wᵀ + b, accumulated in float32 whatever the dtype of the weights.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        use_bias: whether there is a b.
        rngs: for the initial weights.
        dtype: of the weights.
    """

    def __init__(
        self, in_features: int, out_features: int, *, use_bias: bool = True, rngs: nnx.Rngs, dtype: Any = jnp.float32
    ):
        self.weight = nnx.Param(_INITIALIZER(rngs.params(), (out_features, in_features), dtype))
        self.bias = nnx.Param(jnp.zeros(out_features, dtype)) if use_bias else None

    def __call__(
        self, x: Float[Array, "*rows in_features"], index: Int[Array, ""] | None = None
    ) -> Float[Array, "*rows out_features"]:
        """Projects the last axis; the result has the dtype of `x`.

        Args:
            x: inputs.
            index: which of the stacked layers, where this is a stack of them; the stack is read in place.
        """
        y = matmul(x, self.weight[...], index)
        if self.bias is not None:
            y = y + (self.bias[...] if index is None else self.bias[index]).astype(jnp.float32)
        return y.astype(x.dtype)


def matmul(
    x: Float[Array, "*rows in_features"],
    weight: Float[Array, "*stack out_features in_features"],
    index: Int[Array, ""] | None = None,
) -> Float[Array, "*rows out_features"]:
    """x Wᵀ in float32, with a W or with one of a stack."""
    if index is None:
        return _matmul(x, weight)
    if jax.default_backend() != "cpu":
        return _matmul(x, jax.lax.dynamic_index_in_dim(weight, index, keepdims=False))
    # What is cut from a stack is copied before it is multiplied: by pieces that stay in the cache, not by matrices.
    rows = weight.shape[1]
    piece = math.gcd(rows, _PIECE_ROWS)
    if piece == rows or piece < _PIECE_ROWS // 4:
        return _matmul(x, member(weight, index))
    stack = weight.reshape(-1, piece, weight.shape[2])
    places = index * (rows // piece) + jnp.arange(rows // piece)
    if x.size <= _FEW_ROWS * x.shape[-1] and weight.dtype == jnp.float32:
        # Few rows of float32: the kernel that has the weights on its left is the faster.
        left = x.reshape(-1, x.shape[-1])
        pieces = jax.lax.map(lambda i: _matmul(member(stack, i), left), places)
        return pieces.reshape(rows, -1).T.reshape(*x.shape[:-1], rows)
    pieces = jax.lax.map(lambda i: _matmul(x, member(stack, i)), places)
    return jnp.moveaxis(pieces, 0, -2).reshape(*x.shape[:-1], rows)


def _matmul(x: Array, weight: Array) -> Array:
    """On the CPU a bfloat16 product of a single row has no fast kernel and one of two rows has: the row is doubled."""
    rows = x.size // x.shape[-1]
    doubled = rows == 1 and weight.dtype != jnp.float32 and jax.default_backend() == "cpu"
    left = jnp.broadcast_to(x.reshape(1, -1), (2, x.shape[-1])) if doubled else x
    y = jax.lax.dot_general(
        left.astype(weight.dtype),
        weight,
        (((left.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return y[0].reshape(*x.shape[:-1], -1) if doubled else y


def member(stacks: Any, index: Int[Array, ""]) -> Any:
    """The arrays at `index` of the leading axis of each stack, in any tree of stacks; for use inside a loop.

    Two habits of XLA on the CPU make this more than indexing. It converts a bfloat16 array to float32 before it cuts,
    and, as the conversion of a whole stack does not depend on the loop, does so ahead of the loop: for every layer.
    The barrier makes the stacks depend on the index. And it shares among threads what is cut by rows from a matrix, not
    what is cut from a stack of matrices.
    """
    stacks, index = jax.lax.optimization_barrier((stacks, index))

    def cut(stack: Array) -> Array:
        if stack.ndim < 3:
            return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)
        rows, *rest = stack.shape[1:]
        return jax.lax.dynamic_slice_in_dim(stack.reshape(-1, *rest), index * rows, rows)

    return jax.tree.map(cut, stacks)


class LayerNorm(nnx.Module):
    """Layer normalisation (Ba et al., arXiv:1607.06450), with its statistics in float32.

    Args:
        width: of the normalised axis.
        eps: added to the variance.
        dtype: of the weights.
    """

    def __init__(self, width: int, eps: float, *, dtype: Any = jnp.float32):
        self.eps = eps
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        """Normalises the last axis; the result has the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.eps)
        return (y * self.weight[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)).astype(x.dtype)
