"""Attention with all scores at once: an accelerator's own kernel."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Int32

from omni.decoder.cache import HybridCache


def attend_whole(
    q: Float[jax.Array, "batch tokens heads width"],
    cache: HybridCache,
    layer: Int[jax.Array, ""] | int,
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
    fixed: bool = False,
) -> Float[jax.Array, "batch tokens heads width"]:
    """As `attend`; rows are gathered with their free slots, so `fixed` changes nothing."""
    span = cache.span
    assert span is not None
    slots_S = jnp.arange(span)
    filled_BS = slots_S < lengths[:, None]
    # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
    k, v = (jnp.where(filled_BS[:, :, None, None], a, 0).astype(q.dtype) for a in cache.rows(layer, span))
    mask_BTS = filled_BS[:, None] & (slots_S <= q_slots[..., None])
    return jax.nn.dot_product_attention(q, k, v, mask=mask_BTS[:, None])
