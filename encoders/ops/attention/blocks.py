"""Attention within rows, all heads at once: the form of accelerators."""

import jax
from jax import lax
from jaxtyping import Array, Float, Int32

from encoders.ops.attention.divisor import divisor

# Scores of all heads that are held at once: 1 GiB in float32, where those of a whole 8K picture are 150.
_BLOCK_SCORES = 2**28


def attend_in_blocks(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
) -> Float[Array, "rows length heads width"]:
    """All heads at once; where their scores would be too many to hold, one block of queries after another."""
    R, L, N, H = q.shape
    C = divisor(L, max(1, _BLOCK_SCORES // (R * N * L)))

    def block(q_RCNH: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q_RCNH, k, v, key_value_seq_lengths=lengths)

    if C == L:
        return block(q)
    return lax.map(block, q.reshape(R, L // C, C, N, H).swapaxes(0, 1)).swapaxes(0, 1).reshape(q.shape)
