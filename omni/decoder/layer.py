"""One layer of a decoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int, Int32

from omni.decoder.attention import SelfAttention
from omni.decoder.cache import KVCache
from omni.decoder.config import TextConfig
from omni.decoder.mlp import MLP
from omni.decoder.moe import SparseMoeBlock
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import Rotation


class DecoderLayer(nnx.Module):
    """Attention, then experts or a dense MLP, each normalised ahead and added to the hidden state."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(width, eps, dtype=dtype)
        self.self_attn = SelfAttention(config, rngs=rngs, dtype=dtype)
        self.post_attention_layernorm = RMSNorm(width, eps, dtype=dtype)
        if config.is_sparse:
            self.mlp = SparseMoeBlock(config, rngs=rngs, dtype=dtype)
        else:
            self.mlp = MLP(width, config.intermediate_size, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        rotation: Rotation,
        slots: Int32[jax.Array, "batch tokens"],
        lengths: Int32[jax.Array, "batch"],
        real: Bool[jax.Array, "batch tokens"],
        cache: KVCache | None = None,
        layer: Int[jax.Array, ""] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], KVCache | None]:
        """The hidden state after this layer, and the cache with the new keys and values.

        Args:
            x: hidden states.
            rotation: of each token.
            slots: where each token stands in its row; pads stand beyond every slot.
            lengths: filled slots of each row, the new tokens included.
            real: False for pads.
            cache: what came before; None when nothing did.
            layer: which layer of the cache, and which weights, as this is then a stack of layers.
        """
        said, cache = self.self_attn(self.input_layernorm(x, layer), rotation, slots, lengths, cache, layer)
        x = x + said
        h = self.post_attention_layernorm(x, layer)
        said = self.mlp(h, real, layer) if isinstance(self.mlp, SparseMoeBlock) else self.mlp(h, layer)
        return x + said, cache
