"""Causal self-attention with grouped queries over the slots of a cache."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int, Int32

from encoders.nn.layers import Linear
from encoders.nn.mesh import apart
from omni.decoder.cache import HybridCache
from omni.decoder.config import TextConfig
from omni.decoder.norm import RMSNorm
from omni.decoder.ops.attention import attend
from omni.decoder.rotary import Rotation, rotate


class SelfAttention(nnx.Module):
    """Attention of new tokens to themselves and to the tokens of the cache.

    With an output gate, each head of `q_proj` has the rows of its query, then those of its gate (arXiv:2505.06708).
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        self.head_width: int = config.head_width
        self.gated: bool = config.attn_output_gate
        bias, queries = config.attention_bias, heads * self.head_width * (2 if self.gated else 1)
        self.q_proj: Linear = Linear(width, queries, use_bias=bias, rngs=rngs, dtype=dtype)
        self.k_proj: Linear = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.v_proj: Linear = Linear(width, kv_heads * self.head_width, use_bias=bias, rngs=rngs, dtype=dtype)
        self.o_proj: Linear = Linear(heads * self.head_width, width, use_bias=bias, rngs=rngs, dtype=dtype)
        eps, centered = config.rms_norm_eps, config.zero_centered_norms
        self.q_norm: RMSNorm = RMSNorm(self.head_width, eps, zero_centered=centered, dtype=dtype)
        self.k_norm: RMSNorm = RMSNorm(self.head_width, eps, zero_centered=centered, dtype=dtype)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        rotation: Rotation,
        slots: Int32[jax.Array, "batch tokens"],
        lengths: Int32[jax.Array, "batch"],
        cache: HybridCache | None = None,
        place: Int[jax.Array, ""] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], HybridCache | None]:
        """Attends, and adds the new keys and values to the cache.

        Args:
            x: normalised hidden states.
            rotation: of each token.
            slots: where each token stands in its row; pads stand beyond every slot.
            lengths: filled slots of each row, the new tokens included.
            cache: what came before; None when the new tokens are all there is.
            place: which layer of the cache.
        """

        def heads(projected: jax.Array) -> jax.Array:
            return projected.reshape(*x.shape[:2], -1, self.head_width)

        q_BTNH, gate_BTNH = heads(self.q_proj(x)), None
        if self.gated:
            q_BTNH, gate_BTNH = q_BTNH[:, :, 0::2], q_BTNH[:, :, 1::2]
        q_BTNH = rotate(self.q_norm(q_BTNH), rotation)
        k_BTKH = rotate(self.k_norm(heads(self.k_proj(x))), rotation)
        v_BTKH = heads(self.v_proj(x))
        if cache is None or place is None:
            out_BTNH = _attend_alone(q_BTNH, k_BTKH, v_BTKH, slots, lengths)
        else:
            cache = cache.write(place, slots, k_BTKH, v_BTKH)
            out_BTNH = attend(q_BTNH, cache, place, slots, lengths)
        if gate_BTNH is not None:
            out_BTNH = out_BTNH * jax.nn.sigmoid(gate_BTNH)
        return self.o_proj(out_BTNH.reshape(*x.shape[:2], -1)), cache


def _attend_alone(
    q: jax.Array, k: jax.Array, v: jax.Array, slots: jax.Array, lengths: jax.Array
) -> Float[jax.Array, "batch tokens heads width"]:
    """Attention of new tokens to themselves; a device that has some of the rows makes a cache of those."""

    def attend_rows(q: jax.Array, k: jax.Array, v: jax.Array, slots: jax.Array, lengths: jax.Array) -> jax.Array:
        return attend(q, _alone(k, v), 0, slots, lengths, fixed=True)

    heads = ("batch", None, "heads", None)
    return apart(attend_rows, (q, k, v, slots, lengths), (heads, heads, heads, ("batch", None), ("batch",)), heads)


def _alone(k: jax.Array, v: jax.Array) -> HybridCache:
    """New tokens as a cache of their own."""
    B, T, *_ = k.shape
    rows = jnp.arange(B, dtype=jnp.int32)
    k, v = (a.reshape(1, B * T, *a.shape[2:]) for a in (k, v))
    return HybridCache(k, v, rows * T, rows * 0, rows, span=T)
