"""One layer of a decoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int, Int32

from encoders.nn.mesh import constrain
from omni.decoder.attention import SelfAttention
from omni.decoder.cache import HybridCache
from omni.decoder.config import TextConfig
from omni.decoder.depth import LayerKind
from omni.decoder.gated_delta_net import GatedDeltaState, InterleavedGatedDeltaNet, SeparateGatedDeltaNet
from omni.decoder.mlp import MLP
from omni.decoder.moe import SparseMoeBlock
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import Rotation

_LINEAR = {"separate": SeparateGatedDeltaNet, "interleaved": InterleavedGatedDeltaNet}


class DecoderLayer(nnx.Module):
    """Attention, full or linear, then experts or a dense MLP, each normalised ahead and added to the hidden state."""

    def __init__(self, config: TextConfig, kind: LayerKind, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        width, eps, centered = config.hidden_size, config.rms_norm_eps, config.zero_centered_norms
        self.input_layernorm: RMSNorm = RMSNorm(width, eps, zero_centered=centered, dtype=dtype)
        if kind.attention == "linear_attention":
            self.linear_attn: Any = _LINEAR[config.linear_projections](config.linear, rngs=rngs, dtype=dtype)
        else:
            self.self_attn: SelfAttention = SelfAttention(config, rngs=rngs, dtype=dtype)
        self.post_attention_layernorm: RMSNorm = RMSNorm(width, eps, zero_centered=centered, dtype=dtype)
        self.mlp: SparseMoeBlock | MLP
        if kind.sparse:
            self.mlp = SparseMoeBlock(config, rngs=rngs, dtype=dtype)
        else:
            self.mlp = MLP(width, config.intermediate_size, rngs=rngs, dtype=dtype)
        self.is_linear: bool = kind.attention == "linear_attention"

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        rotation: Rotation,
        slots: Int32[jax.Array, "batch tokens"],
        lengths: Int32[jax.Array, "batch"],
        real: Bool[jax.Array, "batch tokens"],
        cache: HybridCache | GatedDeltaState | None = None,
        place: Int[jax.Array, ""] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], HybridCache | GatedDeltaState | None]:
        """The hidden state after this layer, and what it remembers with the new tokens.

        Args:
            x: hidden states.
            rotation: of each token.
            slots: where each token stands in its row; pads stand beyond every slot.
            lengths: filled slots of each row, the new tokens included.
            real: False for pads.
            cache: what came before: keys and values, or the state of a linear layer; None when nothing did.
            place: which layer of the keys and values.
        """
        h = self.input_layernorm(x)
        if self.is_linear:
            assert not isinstance(cache, HybridCache)
            said, cache = self.linear_attn(h, cache, real.sum(-1, dtype=jnp.int32))
        else:
            assert not isinstance(cache, GatedDeltaState)
            said, cache = self.self_attn(h, rotation, slots, lengths, cache, place)
        x = constrain(x + said, "batch", None, None)
        h = self.post_attention_layernorm(x)
        said = self.mlp(h, real) if isinstance(self.mlp, SparseMoeBlock) else self.mlp(h)
        return constrain(x + said, "batch", None, None), cache
