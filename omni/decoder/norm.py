"""Root mean square normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float


class RMSNorm(nnx.Module):
    """Scales the last axis to a mean square of 1, in float32 (arXiv:1910.07467).

    Args:
        width: size of the last axis.
        eps: added to the mean square.
        zero_centered: whether the scale is 1 + weight, in float32, rather than the weight.
        dtype: of the weight.
    """

    def __init__(self, width: int, eps: float, *, zero_centered: bool = False, dtype: Any = jnp.float32):
        self.weight: nnx.Param[Any] = nnx.Param(jnp.full(width, 0 if zero_centered else 1, dtype))
        self.zero_centered = zero_centered
        self.eps = eps

    def __call__(self, x: Float[jax.Array, "*rows width"]) -> Float[jax.Array, "*rows width"]:
        """Keeps the shape and the dtype."""
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        weight = self.weight[...]
        if self.zero_centered:
            return (x32 * scale * (1 + weight.astype(jnp.float32))).astype(x.dtype)
        # Weights may be kept in float32 beside a hidden state of bfloat16.
        return ((x32 * scale).astype(x.dtype) * weight).astype(x.dtype)
