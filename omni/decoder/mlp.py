"""The gated feed-forward layer of a dense decoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from encoders.nn.layers import Linear
from encoders.nn.mesh import constrain


class MLP(nnx.Module):
    """`down(silu(gate(x)) * up(x))` (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.gate_proj: Linear = Linear(width, hidden, use_bias=False, rngs=rngs, dtype=dtype)
        self.up_proj: Linear = Linear(width, hidden, use_bias=False, rngs=rngs, dtype=dtype)
        self.down_proj: Linear = Linear(hidden, width, use_bias=False, rngs=rngs, dtype=dtype)

    def __call__(self, x: Float[jax.Array, "*rows width"]) -> Float[jax.Array, "*rows width"]:
        """Keeps the shape."""
        h = jax.nn.silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(constrain(h, "batch", *[None] * (h.ndim - 2), "hidden"))
