"""Attention within rows: every token of a row to every valid token of the same row."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

# Scores of one head that are held at once on the CPU, so that they stay in its caches: 3.4 MiB in float32.
_CHUNK_SCORES = 384 * 2304
# Scores of all heads that are held at once elsewhere: 1 GiB in float32, where those of a whole 8K picture are 150.
_BLOCK_SCORES = 2**28


def attend(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
) -> Float[Array, "rows length heads width"]:
    """Softmax attention with scale 1 / sqrt(width) and the softmax in float32, in the form that suits the backend.

    What lies in pads, NaN included, changes no valid token; pads themselves come out as zeros.
    """
    valid = (jnp.arange(q.shape[1]) < lengths[:, None])[..., None, None]
    # A masked score has weight 0, but 0 * NaN is NaN.
    q, k, v = (jnp.where(valid, a, 0) for a in (q, k, v))
    form = attend_in_chunks if jax.default_backend() == "cpu" else attend_in_blocks
    out = form(q, k, v, lengths)
    return jnp.where(valid, out, 0).astype(q.dtype)


def attend_in_chunks(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
) -> Float[Array, "rows length heads width"]:
    """One head's chunk of queries after another; chunks of pads alone are skipped."""
    R, L, N, H = q.shape
    C = _divisor(L, min(384, max(64, _CHUNK_SCORES // L)))
    q_YPCH = q.reshape(R, L // C, C, N, H).transpose(0, 3, 1, 2, 4).reshape(R * N, L // C, C, H)
    k_YLH, v_YLH = (a.transpose(0, 2, 1, 3).reshape(R * N, L, H) for a in (k, v))

    # Keys and values come in as the loop's own: a gradient is then written once, and not added to those of all heads.
    def head(inputs: tuple[jax.Array, ...]) -> jax.Array:
        q_PCH, k_LH, v_LH, length = inputs

        @jax.checkpoint  # scores are made anew for a gradient: those of all heads would fill the memory
        def chunk(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
            part, q_CH = inputs

            def scores() -> jax.Array:
                s_CL = lax.dot_general(q_CH, k_LH, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
                s_CL = jnp.where(jnp.arange(L) < length, s_CL * H**-0.5, -jnp.inf)
                e_CL = jnp.exp(s_CL - s_CL.max(axis=-1, keepdims=True))
                out_CH = lax.dot_general(
                    e_CL.astype(v.dtype), v_LH, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
                )
                return (out_CH / e_CL.sum(axis=-1, keepdims=True)).astype(q.dtype)

            return lax.cond(part * C < length, scores, lambda: jnp.zeros((C, H), q.dtype))

        return lax.map(chunk, (jnp.arange(L // C), q_PCH))

    out_YPCH = lax.map(head, (q_YPCH, k_YLH, v_YLH, jnp.repeat(lengths, N)))
    return out_YPCH.reshape(R, N, L // C, C, H).transpose(0, 2, 3, 1, 4).reshape(R, L, N, H)


def attend_in_blocks(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
) -> Float[Array, "rows length heads width"]:
    """All heads at once; where their scores would be too many to hold, one block of queries after another."""
    R, L, N, H = q.shape
    C = _divisor(L, max(1, _BLOCK_SCORES // (R * N * L)))

    def block(q_RCNH: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q_RCNH, k, v, key_value_seq_lengths=lengths)

    if C == L:
        return block(q)
    return lax.map(block, q.reshape(R, L // C, C, N, H).swapaxes(0, 1)).swapaxes(0, 1).reshape(q.shape)


def _divisor(length: int, most: int) -> int:
    """The largest divisor of a row's length that is at most `most`."""
    return max(n for n in range(1, min(most, length) + 1) if length % n == 0)
