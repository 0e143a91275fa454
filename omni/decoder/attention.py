"""Causal self-attention with grouped queries over the slots of a cache."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int, Int32

from encoders.layers import Linear
from omni.decoder.cache import KVCache
from omni.decoder.config import TextConfig
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import Rotation, rotate

# Scores held at once by one step of `attend_in_chunks`; 8 MiB in float32 stays in the cache of one core's neighbours.
_CHUNK_SCORES = 1 << 21
# Scores that `jax.nn.dot_product_attention` may hold at once on an accelerator; 1 GiB in float32.
_WHOLE_SCORES = 1 << 28


class SelfAttention(nnx.Module):
    """Attention of new tokens to themselves and to the tokens of the cache."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        self.head_width = config.head_width
        bias = config.attention_bias
        self.q_proj = Linear(width, heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.k_proj = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.v_proj = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.o_proj = Linear(heads * self.head_width, width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.q_norm = RMSNorm(self.head_width, config.rms_norm_eps, dtype=dtype)
        self.k_norm = RMSNorm(self.head_width, config.rms_norm_eps, dtype=dtype)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        rotation: Rotation,
        slots: Int32[jax.Array, "batch tokens"],
        lengths: Int32[jax.Array, "batch"],
        cache: KVCache | None = None,
        layer: Int[jax.Array, ""] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], KVCache | None]:
        """Attends, and adds the new keys and values to the cache.

        Args:
            x: normalised hidden states.
            rotation: of each token.
            slots: where each token stands in its row; pads stand beyond every slot.
            lengths: filled slots of each row, the new tokens included.
            cache: what came before; None when the new tokens are all there is.
            layer: which layer of the cache, and which weights, as this is then a stack of layers.
        """

        def heads(projected: jax.Array) -> jax.Array:
            return projected.reshape(*x.shape[:2], -1, self.head_width)

        q_BTNH = rotate(self.q_norm(heads(self.q_proj(x, layer)), layer), rotation)
        k_BTKH = rotate(self.k_norm(heads(self.k_proj(x, layer)), layer), rotation)
        v_BTKH = heads(self.v_proj(x, layer))
        if cache is None or layer is None:
            k_BSKH, v_BSKH = k_BTKH, v_BTKH
        else:
            cache = cache.write(layer, slots, k_BTKH, v_BTKH)
            k_BSKH, v_BSKH = cache.keys[layer], cache.values[layer]
        out_BTNH = attend(q_BTNH, k_BSKH, v_BSKH, slots, lengths)
        return self.o_proj(out_BTNH.reshape(*x.shape[:2], -1), layer), cache


def attend(
    q: Float[jax.Array, "batch tokens heads width"],
    k: Float[jax.Array, "batch slots kv_heads width"],
    v: Float[jax.Array, "batch slots kv_heads width"],
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
) -> Float[jax.Array, "batch tokens heads width"]:
    """Softmax attention of each query to the filled slots up to its own, in the form that suits the backend.

    Softmax in float32, scale 1 / sqrt(H). What lies in free slots, NaN included, changes nothing.
    """
    filled_BS = jnp.arange(k.shape[1]) < lengths[:, None]
    # A masked score gets weight 0, but 0 * NaN is NaN: free slots must be cleared as well.
    k = jnp.where(filled_BS[:, :, None, None], k, 0)
    v = jnp.where(filled_BS[:, :, None, None], v, 0)
    scores = math.prod(q.shape[:3]) * k.shape[1]
    if jax.default_backend() != "cpu" and scores <= _WHOLE_SCORES:
        mask_BTS = visible(q_slots, filled_BS)
        return jax.nn.dot_product_attention(q, k.astype(q.dtype), v.astype(q.dtype), mask=mask_BTS[:, None])
    return attend_in_chunks(q, k, v, q_slots, filled_BS)


def visible(
    q_slots: Int32[jax.Array, "*batch tokens"], filled: Bool[jax.Array, "*batch slots"]
) -> Bool[jax.Array, "*batch tokens slots"]:
    """Which slots each query sees: the filled ones up to its own."""
    causal = jnp.arange(filled.shape[-1]) <= q_slots[..., None]
    return causal & filled[..., None, :]


def attend_in_chunks(
    q: Float[jax.Array, "batch tokens heads width"],
    k: Float[jax.Array, "batch slots kv_heads width"],
    v: Float[jax.Array, "batch slots kv_heads width"],
    q_slots: Int32[jax.Array, "batch tokens"],
    filled: Bool[jax.Array, "batch slots"],
) -> Float[jax.Array, "batch tokens heads width"]:
    """One chunk of queries of one key head after another, so that scores stay few enough for the CPU's caches."""
    B, T, N, H = q.shape
    S, K = k.shape[1:3]
    G = N // K
    C = max(1, min(T, _CHUNK_SCORES // (G * S)))
    chunks = -(-T // C)
    pad = chunks * C - T
    q = jnp.pad(q, [(0, 0), (0, pad), (0, 0), (0, 0)])
    q_slots = jnp.pad(q_slots, [(0, 0), (0, pad)])
    # Query heads of a group stand side by side with their tokens: [G * C, H] rows against one key head.
    q_XRH = q.reshape(B, chunks, C, K, G, H).transpose(0, 3, 1, 4, 2, 5).reshape(B * K * chunks, G * C, H)
    k_YSH, v_YSH = (a.transpose(0, 2, 1, 3).reshape(B * K, S, H) for a in (k, v))
    slots_ZC = q_slots.reshape(B * chunks, C)

    def one(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, q_RH = chunk
        head, part = index // chunks, index % chunks
        row = head // K
        see_CS = visible(slots_ZC[row * chunks + part], filled[row])
        scores_RS = _dot(q_RH, k_YSH[head], 1) * H**-0.5
        scores_GCS = jnp.where(see_CS, scores_RS.reshape(G, C, S), jnp.finfo(jnp.float32).min)
        weights_RS = jax.nn.softmax(scores_GCS, axis=-1).reshape(G * C, S)
        return _dot(weights_RS.astype(v.dtype), v_YSH[head], 0)

    out_XRH = jax.lax.map(one, (jnp.arange(B * K * chunks), q_XRH))
    out = out_XRH.reshape(B, K, chunks, G, C, H).transpose(0, 2, 4, 1, 3, 5).reshape(B, chunks * C, N, H)
    return out[:, :T].astype(q.dtype)


def _dot(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    """Matrix product over the last axis of `a` and an axis of `b`, accumulated and kept in float32."""
    return jax.lax.dot_general(a, b.astype(a.dtype), (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)
