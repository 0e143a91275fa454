"""Attention of one query a row: a step of decoding on the CPU."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int, Int32

from omni.decoder.cache import HybridCache
from omni.decoder.ops.attention.softmax import FEW_SLOTS, LOWEST

_MANY_SLOTS = 1024  # that a head is multiplied with at once


def attend_one_query(
    q: Float[jax.Array, "batch tokens heads width"],
    cache: HybridCache,
    layer: Int[jax.Array, ""] | int,
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
    fixed: bool = False,
) -> Float[jax.Array, "batch tokens heads width"]:
    """One query a row against the slots of its row, with a running softmax over blocks of them.

    Large blocks a head at a time as long as they are full, then small ones with all heads at once: what a loop costs
    beside its products counts where there is one query.
    """
    B, T, N, H = q.shape
    assert T == 1 and not fixed
    S, K = cache.slots, cache.keys.shape[2]
    most = cache.span or S
    small, large = min(most, FEW_SLOTS), min(most, _MANY_SLOTS)
    ends = jnp.where(q_slots[:, 0] < lengths, q_slots[:, 0] + 1, 0)

    def attend_row(row: tuple[jax.Array, ...]) -> jax.Array:
        q_KGH, offset, end = row

        def add_block(q_XGH: jax.Array, read: Any, size: int, first: jax.Array, running: Any) -> Any:
            largest_XG, total_XG, out_XGH = running
            start = jnp.minimum(offset + first, S - size)
            k_SXH, v_SXH = read(start, size)
            slots_S = start - offset + jnp.arange(size)
            see_S = (first <= slots_S) & (slots_S < end)
            # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
            k_SXH, v_SXH = (jnp.where(see_S[:, None, None], a, 0).astype(jnp.float32) for a in (k_SXH, v_SXH))
            scores_XGS = jnp.where(see_S, jnp.einsum("xgh,sxh->xgs", q_XGH, k_SXH) * H**-0.5, LOWEST)
            now_largest_XG = jnp.maximum(largest_XG, scores_XGS.max(-1))
            weights_XGS = jnp.where(see_S, jnp.exp(scores_XGS - now_largest_XG[..., None]), 0)
            shrink_XG = jnp.exp(largest_XG - now_largest_XG)
            sum_XGH = jnp.einsum("xgs,sxh->xgh", weights_XGS, v_SXH)
            total_XG = total_XG * shrink_XG + weights_XGS.sum(-1)
            return now_largest_XG, total_XG, out_XGH * shrink_XG[..., None] + sum_XGH

        def add_large(i: jax.Array, running: Any) -> Any:
            def of_head(head: Any) -> Any:
                number, q_GH, *now = head

                def read(start: jax.Array, size: int) -> Any:
                    return tuple(a[:, None] for a in cache.block(layer, number, start, size))

                found = add_block(q_GH[None], read, large, i * large, tuple(a[None] for a in now))
                return tuple(a[0] for a in found)

            return lax.map(of_head, (jnp.arange(K), q_KGH, *running))

        def add_small(i: jax.Array, running: Any) -> Any:
            return add_block(q_KGH, partial(cache.heads, layer), small, full * large + i * small, running)

        G = N // K
        running = jnp.full((K, G), LOWEST), jnp.zeros((K, G)), jnp.zeros((K, G, H))
        full = end // large
        running = lax.fori_loop(0, full, add_large, running)
        _, total_KG, out_KGH = lax.fori_loop(0, -(-(end - full * large) // small), add_small, running)
        return out_KGH / jnp.maximum(total_KG, 1e-30)[..., None]

    q_BKGH = q.astype(jnp.float32).reshape(B, K, N // K, H)
    return lax.map(attend_row, (q_BKGH, cache.offsets, ends)).reshape(B, 1, N, H).astype(q.dtype)
