"""The layers that both encoders and the text decoder are made of.

Weights keep the layout that checkpoints have on disk, [out, in], so loading never transposes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoders.nn.weights import matmul

_INITIALIZER = nnx.initializers.truncated_normal(0.02)

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
}


Activation = Callable[[jax.Array], jax.Array]


def activation(name: str) -> Activation:
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
        self.weight: nnx.Param[Any] = nnx.Param(_INITIALIZER(rngs.params(), (out_features, in_features), dtype))
        self.bias: nnx.Param[Any] | None = nnx.Param(jnp.zeros(out_features, dtype)) if use_bias else None

    def __call__(self, x: Float[Array, "*rows in_features"]) -> Float[Array, "*rows out_features"]:
        """Projects the last axis; the result has the dtype of `x`."""
        y = matmul(x, self.weight.get_value())
        if self.bias is not None:
            y = y + self.bias[...].astype(jnp.float32)
        return y.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation (Ba et al., arXiv:1607.06450), with its statistics in float32.

    Args:
        width: of the normalised axis.
        eps: added to the variance.
        dtype: of the weights.
    """

    def __init__(self, width: int, eps: float, *, dtype: Any = jnp.float32):
        self.eps = eps
        self.weight: nnx.Param[Any] = nnx.Param(jnp.ones(width, dtype))
        self.bias: nnx.Param[Any] = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        """Normalises the last axis; the result has the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.eps)
        return (y * self.weight[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)).astype(x.dtype)
