"""Attention within rows, a head's chunk of queries after another: the CPU's form."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from encoders.ops.attention.divisor import divisor

# Scores of one head that are held at once, so that they stay in the processor's caches: 3.4 MiB in float32.
_CHUNK_SCORES = 384 * 2304


def attend_in_chunks(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
) -> Float[Array, "rows length heads width"]:
    """One head's chunk of queries after another; chunks of pads alone are skipped."""
    R, L, N, H = q.shape
    C = divisor(L, min(384, max(64, _CHUNK_SCORES // L)))
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
