"""Root mean square normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int


class RMSNorm(nnx.Module):
    """Scales the last axis to a mean square of 1, in float32 (arXiv:1910.07467).

    Args:
        width: size of the last axis.
        eps: added to the mean square.
        dtype: of the weight.
    """

    def __init__(self, width: int, eps: float, *, dtype: Any = jnp.float32):
        self.weight = nnx.Param(jnp.ones(width, dtype))
        self.eps = eps

    def __call__(
        self, x: Float[jax.Array, "*rows width"], layer: Int[jax.Array, ""] | None = None
    ) -> Float[jax.Array, "*rows width"]:
        """Keeps the shape and the dtype; `layer` says which weight, where this is a stack of norms."""
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return (x32 * scale).astype(x.dtype) * (self.weight[...] if layer is None else self.weight[layer])
