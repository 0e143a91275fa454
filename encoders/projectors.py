"""From the encoders' hidden states to embeddings of the decoder's width."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from encoders.config import AudioConfig, VisionConfig
from encoders.nn.layers import Activation, LayerNorm, Linear, activation
from encoders.vision import VisionHidden

_EPS = 1e-6


class VisionTokens(NamedTuple):
    """What the decoder reads.

    Attributes:
        tokens: one embedding for each block of patches.
        deepstack: features to add after the decoder's first layers; None without any.
    """

    tokens: Float[Array, "rows tokens width"]
    deepstack: Float[Array, "levels rows tokens width"] | None


class PatchMerger(nnx.Module):
    """Joins the patches of a block into one token.

    Args:
        config: sizes.
        norm_width: width that is normalised: one patch's, or the whole block's.
        rngs: for the initial weights.
        dtype: of the weights.
    """

    def __init__(self, config: VisionConfig, norm_width: int, *, rngs: nnx.Rngs, dtype: Any):
        self.block_width: int = config.hidden_size * config.merge_unit
        self.norm: LayerNorm = LayerNorm(norm_width, _EPS, dtype=dtype)
        self.linear_fc1: Linear = Linear(self.block_width, self.block_width, rngs=rngs, dtype=dtype)
        self.linear_fc2: Linear = Linear(self.block_width, config.out_hidden_size, rngs=rngs, dtype=dtype)
        self.act: Activation = activation("gelu")

    def __call__(self, x: Float[Array, "rows length width"]) -> Float[Array, "rows tokens out"]:
        """Patches in merge-block order to tokens."""
        norm_width = self.norm.weight.shape[-1]
        normed = self.norm(x.reshape(x.shape[0], -1, norm_width))
        blocks = normed.reshape(x.shape[0], -1, self.block_width)
        return self.linear_fc2(self.act(self.linear_fc1(blocks)))


class VisionProjector(nnx.Module):
    """The final merger, which normalises patches, and one merger a deepstack level, which normalise blocks.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
    """

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.merger: PatchMerger = PatchMerger(config, config.hidden_size, rngs=rngs, dtype=dtype)
        if config.deepstack_visual_indexes:

            @nnx.split_rngs(splits=len(config.deepstack_visual_indexes))
            @nnx.vmap
            def stacked(rngs: nnx.Rngs) -> PatchMerger:
                return PatchMerger(config, config.hidden_size * config.merge_unit, rngs=rngs, dtype=dtype)

            self.deepstack_mergers: PatchMerger = stacked(rngs)

    def __call__(self, hidden: VisionHidden) -> VisionTokens:
        """Projects what a VisionEncoder returned."""
        tokens = self.merger(hidden.last)
        if hidden.deepstack is None:
            return VisionTokens(tokens, None)
        graph, weights = nnx.split(self.deepstack_mergers)

        def level(_: None, scanned: tuple[Any, jax.Array]) -> tuple[None, jax.Array]:
            weights, x = scanned
            return None, nnx.merge(graph, weights)(x)

        return VisionTokens(tokens, lax.scan(level, None, (weights, hidden.deepstack))[1])


class AudioProjector(nnx.Module):
    """Two projections with an activation between.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
    """

    def __init__(self, config: AudioConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.proj1: Linear = Linear(config.d_model, config.d_model, rngs=rngs, dtype=dtype)
        self.proj2: Linear = Linear(config.d_model, config.output_dim, rngs=rngs, dtype=dtype)
        self.act: Activation = activation(config.activation_function)

    def __call__(self, x: Float[Array, "rows length width"]) -> Float[Array, "rows length out"]:
        """Projects what an AudioEncoder returned."""
        return self.proj2(self.act(self.proj1(x)))
