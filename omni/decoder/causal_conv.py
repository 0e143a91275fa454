"""A depthwise convolution that looks back, and remembers what it will look back to."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int32

_INITIALIZER = nnx.initializers.truncated_normal(0.02)


class CausalConv(nnx.Module):
    """Each channel's last few inputs, weighted and summed, then SiLU; no bias.

    Args:
        channels: independent of each other.
        kernel: inputs that an output sees, its own the last.
        rngs: for the initial weights.
        dtype: of the weights.
    """

    def __init__(self, channels: int, kernel: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.weight: nnx.Param[Any] = nnx.Param(_INITIALIZER(rngs.params(), (channels, 1, kernel), dtype))

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens channels"],
        tail: Float[jax.Array, "batch past channels"] | None = None,
        counts: Int32[jax.Array, "batch"] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens channels"], Float[jax.Array, "batch past channels"]]:
        """As the function `causal_conv`."""
        return causal_conv(x, self.weight[...][:, 0], tail, counts)


def causal_conv(
    x: Float[jax.Array, "batch tokens channels"],
    weight: Float[jax.Array, "channels kernel"],
    tail: Float[jax.Array, "batch past channels"] | None = None,
    counts: Int32[jax.Array, "batch"] | None = None,
) -> tuple[Float[jax.Array, "batch tokens channels"], Float[jax.Array, "batch past channels"]]:
    """silu(Σ weight[:, j] x[t − kernel + 1 + j]), summed in float32.

    Args:
        x: inputs, padded on the right.
        weight: of each channel, for its oldest input first.
        tail: the kernel − 1 inputs before these; zeros when None.
        counts: real tokens of each row; all when None.

    Returns:
        The outputs, in the dtype of `x`, and the tail after the last real token, in that of `tail`.
    """
    B, T, C = x.shape
    past = weight.shape[1] - 1
    if tail is None:
        tail = jnp.zeros((B, past, C), x.dtype)
    seen = jnp.concatenate([tail.astype(x.dtype), x], axis=1)
    taps = (seen[:, j : j + T].astype(jnp.float32) * weight[:, j].astype(jnp.float32) for j in range(past + 1))
    if counts is None:
        last = seen[:, T:]
    else:
        # The tail ends with the last real token, and a row of none keeps its own.
        last = jnp.take_along_axis(seen, (counts[:, None] + jnp.arange(past))[..., None], axis=1)
    return jax.nn.silu(sum(taps, jnp.float32(0))).astype(x.dtype), last.astype(tail.dtype)
