"""Attention block by block, for many queries."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int, Int32

from omni.decoder.cache import HybridCache
from omni.decoder.ops.attention.softmax import FEW_SLOTS, LOWEST

# Rows of queries, and slots, that are multiplied at once; few rows take more slots.
_CHUNK_ROWS, _BLOCK_SLOTS, _BLOCK_SCORES = 512, 512, 1 << 14


def attend_in_blocks(
    q: Float[jax.Array, "batch tokens heads width"],
    cache: HybridCache,
    layer: Int[jax.Array, ""] | int,
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
    fixed: bool = False,
) -> Float[jax.Array, "batch tokens heads width"]:
    """A chunk of queries of one key head against one block of slots after another, with a running softmax.

    Scores stay in the processor's caches, whatever the lengths, and blocks of which nothing is seen are not read
    (arXiv:2205.14135).
    """
    B, T, N, H = q.shape
    S, K = cache.slots, cache.keys.shape[2]
    G = N // K
    C = max(1, min(T, _CHUNK_ROWS // G))
    most = cache.span or S
    # Short prompts see few slots, and a block is read whole.
    small = min(most, max(FEW_SLOTS, min(_BLOCK_SLOTS, C)))
    large = min(most, max(_BLOCK_SLOTS, _BLOCK_SCORES // (G * C)))
    chunks = -(-T // C)
    padding = [(0, 0), (0, chunks * C - T)]
    # The queries of a group of heads are rows against one key head: R = G * C. X = B * K * chunks.
    q = jnp.pad(q, [*padding, (0, 0), (0, 0)]).reshape(B, chunks, C, K, G, H)
    q_XRH = q.transpose(0, 3, 1, 4, 2, 5).reshape(-1, G * C, H)
    slots_BcC = jnp.pad(q_slots, padding, constant_values=S).reshape(B, chunks, C)

    def attend_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, q_RH = chunk
        row, head, part = index // (K * chunks), index // chunks % K, index % chunks
        q_slots_C, length, offset = slots_BcC[row, part], lengths[row], cache.offsets[row]

        def add_block(size: int, first: jax.Array, running: Any) -> Any:
            largest_R, total_R, out_RH = running
            start = jnp.minimum(offset + first, S - size)
            k_SH, v_SH = cache.block(layer, head, start, size)
            slots_S = start - offset + jnp.arange(size)
            new_S = (first <= slots_S) & (slots_S < length)
            # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
            k_SH, v_SH = (jnp.where(new_S[:, None], a, 0) for a in (k_SH, v_SH))
            see_CS = new_S & (slots_S <= q_slots_C[:, None])
            see_RS = jnp.broadcast_to(see_CS, (G, C, size)).reshape(G * C, size)
            scores_RS = jnp.where(see_RS, _dot(q_RH, k_SH, 1) * H**-0.5, LOWEST)
            now_largest_R = jnp.maximum(largest_R, scores_RS.max(-1))
            weights_RS = jnp.where(see_RS, jnp.exp(scores_RS - now_largest_R[:, None]), 0)
            shrink_R = jnp.exp(largest_R - now_largest_R)
            sum_RH = _dot(weights_RS.astype(v_SH.dtype), v_SH, 0)
            return now_largest_R, total_R * shrink_R + weights_RS.sum(-1), out_RH * shrink_R[:, None] + sum_RH

        running = jnp.full(G * C, LOWEST), jnp.zeros(G * C), jnp.zeros((G * C, H))
        if fixed:
            running = lax.fori_loop(0, -(-most // large), lambda i, now: add_block(large, i * large, now), running)
        else:
            # Large blocks as long as they are full, and small ones for the rest.
            end = jnp.where(q_slots_C < length, q_slots_C + 1, 0).max()
            full = end // large if large > small else 0
            if large > small:
                running = lax.fori_loop(0, full, lambda i, now: add_block(large, i * large, now), running)
            rest = -(-(end - full * large) // small)
            running = lax.fori_loop(0, rest, lambda i, now: add_block(small, full * large + i * small, now), running)
        _, total_R, out_RH = running
        return out_RH / jnp.maximum(total_R, 1e-30)[:, None]

    # Gradients compute the scores again: to keep them would take the memory that blocks save.
    out_XRH = lax.map(jax.checkpoint(attend_chunk), (jnp.arange(len(q_XRH)), q_XRH))
    out = out_XRH.reshape(B, K, chunks, G, C, H).transpose(0, 2, 4, 1, 3, 5).reshape(B, chunks * C, N, H)
    return out[:, :T].astype(q.dtype)


def _dot(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    """Matrix product over the last axis of `a` and an axis of `b`, accumulated and kept in float32."""
    return lax.dot_general(a, b.astype(a.dtype), (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)
