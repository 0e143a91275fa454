"""Causal self-attention with grouped queries over the slots of a cache."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float, Int, Int32

from encoders.layers import Linear
from omni.decoder.cache import KVCache
from omni.decoder.config import TextConfig
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import Rotation, rotate

# Rows of queries, and slots, that are multiplied at once where attention goes block by block; few rows take more slots.
_CHUNK_ROWS, _BLOCK_SLOTS, _BLOCK_SCORES = 512, 512, 1 << 14
# Scores that `jax.nn.dot_product_attention` may hold at once on an accelerator; 1 GiB in float32.
_WHOLE_SCORES = 1 << 28
_LOWEST = -1e30  # a score that nothing sees; finite, so that a row which sees nothing has no NaN


class SelfAttention(nnx.Module):
    """Attention of new tokens to themselves and to the tokens of the cache.

    With an output gate, each head of `q_proj` has the rows of its query, then those of its gate (arXiv:2505.06708).
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        self.head_width = config.head_width
        self.gated = config.attn_output_gate
        bias, queries = config.attention_bias, heads * self.head_width * (2 if self.gated else 1)
        self.q_proj = Linear(width, queries, use_bias=bias, rngs=rngs, dtype=dtype)
        self.k_proj = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.v_proj = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.o_proj = Linear(heads * self.head_width, width, use_bias=bias, rngs=rngs, dtype=dtype)
        eps, centered = config.rms_norm_eps, config.zero_centered_norms
        self.q_norm = RMSNorm(self.head_width, eps, zero_centered=centered, dtype=dtype)
        self.k_norm = RMSNorm(self.head_width, eps, zero_centered=centered, dtype=dtype)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        rotation: Rotation,
        slots: Int32[jax.Array, "batch tokens"],
        lengths: Int32[jax.Array, "batch"],
        cache: KVCache | None = None,
        layer: Int[jax.Array, ""] | None = None,
        place: Int[jax.Array, ""] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], KVCache | None]:
        """Attends, and adds the new keys and values to the cache.

        Args:
            x: normalised hidden states.
            rotation: of each token.
            slots: where each token stands in its row; pads stand beyond every slot.
            lengths: filled slots of each row, the new tokens included.
            cache: what came before; None when the new tokens are all there is.
            layer: which weights, where this is a stack of layers.
            place: which layer of the cache.
        """

        def heads(projected: jax.Array) -> jax.Array:
            return projected.reshape(*x.shape[:2], -1, self.head_width)

        q_BTNH, gate_BTNH = heads(self.q_proj(x, layer)), None
        if self.gated:
            q_BTNH, gate_BTNH = q_BTNH[:, :, 0::2], q_BTNH[:, :, 1::2]
        q_BTNH = rotate(self.q_norm(q_BTNH, layer), rotation)
        k_BTKH = rotate(self.k_norm(heads(self.k_proj(x, layer)), layer), rotation)
        v_BTKH = heads(self.v_proj(x, layer))
        if cache is None or place is None:
            alone = KVCache(k_BTKH[None], v_BTKH[None], lengths)
            out_BTNH = attend(q_BTNH, alone, 0, slots, lengths, fixed=True)
        else:
            cache = cache.write(place, slots, k_BTKH, v_BTKH)
            out_BTNH = attend(q_BTNH, cache, place, slots, lengths)
        if gate_BTNH is not None:
            out_BTNH = out_BTNH * jax.nn.sigmoid(gate_BTNH)
        return self.o_proj(out_BTNH.reshape(*x.shape[:2], -1), layer), cache


def attend(
    q: Float[jax.Array, "batch tokens heads width"],
    cache: KVCache,
    layer: Int[jax.Array, ""] | int,
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
    *,
    fixed: bool = False,
) -> Float[jax.Array, "batch tokens heads width"]:
    """Softmax attention of each query to the filled slots up to its own, in the form that suits the backend.

    Softmax in float32, scale 1 / sqrt(H). What lies in free slots, NaN included, changes nothing.

    Args:
        q: rotated queries.
        cache: keys and values, those of the queries' own tokens included.
        layer: of the cache.
        q_slots: where each query stands; pads stand beyond every slot.
        lengths: filled slots of each row.
        fixed: read free slots too, so that the amount of work does not depend on the data, as gradients need it.
    """
    scores = math.prod(q.shape[:3]) * cache.capacity
    if jax.default_backend() == "cpu" or scores > _WHOLE_SCORES:
        return _attend_in_blocks(q, cache, layer, q_slots, lengths, fixed)
    slots_S = jnp.arange(cache.capacity)
    filled_BS = slots_S < lengths[:, None]
    # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
    k, v = (jnp.where(filled_BS[:, :, None, None], a, 0).astype(q.dtype) for a in cache.layer(layer))
    mask_BTS = filled_BS[:, None] & (slots_S <= q_slots[..., None])
    return jax.nn.dot_product_attention(q, k, v, mask=mask_BTS[:, None])


def _attend_in_blocks(q, cache, layer, q_slots, lengths, fixed) -> jax.Array:
    """A chunk of queries of one key head against one block of slots after another, with a running softmax.

    Scores stay in the processor's caches, whatever the lengths, and blocks of which nothing is seen are not read
    (arXiv:2205.14135).
    """
    B, T, N, H = q.shape
    S, K = cache.capacity, cache.keys.shape[3]
    G = N // K
    C = max(1, min(T, _CHUNK_ROWS // G))
    size = min(S, max(_BLOCK_SLOTS, _BLOCK_SCORES // (G * C)))
    chunks = -(-T // C)
    room = [(0, 0), (0, chunks * C - T)]
    # The queries of a group of heads are rows against one key head: R = G * C. X = B * K * chunks.
    q = jnp.pad(q, [*room, (0, 0), (0, 0)]).reshape(B, chunks, C, K, G, H)
    q_XRH = q.transpose(0, 3, 1, 4, 2, 5).reshape(-1, G * C, H)
    slots_BcC = jnp.pad(q_slots, room, constant_values=S).reshape(B, chunks, C)

    def attend_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, q_RH = chunk
        row, head, part = index // (K * chunks), index // chunks % K, index % chunks
        q_slots_C, length = slots_BcC[row, part], lengths[row]

        def add_block(i, running):
            largest_R, total_R, out_RH = running
            start = jnp.minimum(i * size, S - size)
            k_SH, v_SH = cache.block(layer, row, head, start, size)
            slots_S = start + jnp.arange(size)
            new_S = (i * size <= slots_S) & (slots_S < length)
            # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
            k_SH, v_SH = (jnp.where(new_S[:, None], a, 0) for a in (k_SH, v_SH))
            see_CS = new_S & (slots_S <= q_slots_C[:, None])
            see_RS = jnp.broadcast_to(see_CS, (G, C, size)).reshape(G * C, size)
            scores_RS = jnp.where(see_RS, _dot(q_RH, k_SH, 1) * H**-0.5, _LOWEST)
            now_largest_R = jnp.maximum(largest_R, scores_RS.max(-1))
            weights_RS = jnp.where(see_RS, jnp.exp(scores_RS - now_largest_R[:, None]), 0)
            shrink_R = jnp.exp(largest_R - now_largest_R)
            said_RH = _dot(weights_RS.astype(v_SH.dtype), v_SH, 0)
            return now_largest_R, total_R * shrink_R + weights_RS.sum(-1), out_RH * shrink_R[:, None] + said_RH

        ends = jnp.where(q_slots_C < length, q_slots_C + 1, 0)
        blocks = -(-S // size) if fixed else -(-ends.max() // size)
        running = jnp.full(G * C, _LOWEST), jnp.zeros(G * C), jnp.zeros((G * C, H))
        _, total_R, out_RH = lax.fori_loop(0, blocks, add_block, running)
        return out_RH / jnp.maximum(total_R, 1e-30)[:, None]

    # Gradients compute the scores again: to keep them would take the memory that blocks save.
    out_XRH = lax.map(jax.checkpoint(attend_chunk), (jnp.arange(len(q_XRH)), q_XRH))
    out = out_XRH.reshape(B, K, chunks, G, C, H).transpose(0, 2, 4, 1, 3, 5).reshape(B, chunks * C, N, H)
    return out[:, :T].astype(q.dtype)


def _dot(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    """Matrix product over the last axis of `a` and an axis of `b`, accumulated and kept in float32."""
    return lax.dot_general(a, b.astype(a.dtype), (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)
