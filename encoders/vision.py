"""The vision encoder of Qwen3-Omni: patches in, hidden states out, with features for the decoder's first layers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32, Int32, Shaped

from encoders.config import VisionConfig
from encoders.nn.layers import Activation, LayerNorm, Linear, activation
from encoders.nn.mesh import constrain
from encoders.nn.rotary import axial_rotation, rotate
from encoders.nn.weights import matmul
from encoders.ops.attention import attend

_EPS = 1e-6
_HALVES = (0.5, 0.5, 0.5)


class VisionHidden(NamedTuple):
    """What the encoder gives its projector.

    Attributes:
        last: hidden states after the last block.
        deepstack: hidden states after the blocks that deepstack names; None without any.
    """

    last: Float[Array, "rows length width"]
    deepstack: Float[Array, "levels rows length width"] | None


class PatchEmbed(nnx.Module):
    """A 3-D convolution whose stride is its kernel, which is one matrix product a patch.

    Args:
        config: patch geometry.
        rngs: for the initial weights.
        dtype: of the weights.
        image_mean: subtracted from grey levels divided by 255.
        image_std: divided by after that.
    """

    def __init__(
        self,
        config: VisionConfig,
        *,
        rngs: nnx.Rngs,
        dtype: Any,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
    ):
        size = config.patch_size
        self.proj: Convolution = Convolution(
            (config.in_channels, config.temporal_patch_size, size, size), config.hidden_size, rngs, dtype
        )
        self.image_mean: tuple[float, float, float] = image_mean
        self.image_std: tuple[float, float, float] = image_std

    def __call__(self, pixels: Shaped[Array, "rows length values"]) -> Float[Array, "rows length width"]:
        """Embeds patches.

        Args:
            pixels: uint8 grey levels, or float values that are normalised already, flattened as (channel, time,
                height, width); or uint8 levels of one frame, (channel, height, width), which then stands for every
                frame of the patch.
        """
        weight = self.proj.weight[...]
        channels, area = weight.shape[1], weight.shape[3] * weight.shape[4]
        if pixels.shape[-1] == channels * area:
            weight = weight.astype(jnp.float32).sum(axis=2).astype(weight.dtype)
        if pixels.dtype == jnp.uint8:
            levels = pixels.reshape(*pixels.shape[:2], channels, -1).astype(jnp.float32) / 255
            mean, std = (jnp.asarray(a, jnp.float32)[:, None] for a in (self.image_mean, self.image_std))
            pixels = ((levels - mean) / std).reshape(pixels.shape)
        weight = weight.reshape(weight.shape[0], -1)
        bias = self.proj.bias[...]
        return (matmul(pixels.astype(weight.dtype), weight) + bias.astype(jnp.float32)).astype(weight.dtype)


class Convolution(nnx.Module):
    """The weights of a convolution, [out, in, ...] as checkpoints have them."""

    def __init__(self, kernel: tuple[int, ...], out_channels: int, rngs: nnx.Rngs, dtype: Any):
        initializer = nnx.initializers.truncated_normal(float(np.prod(kernel)) ** -0.5)
        self.weight: nnx.Param[Any] = nnx.Param(initializer(rngs.params(), (out_channels, *kernel), dtype))
        self.bias: nnx.Param[Any] = nnx.Param(jnp.zeros(out_channels, dtype))


class PositionTable(nnx.Module):
    """A square table of learned positions, read between its entries."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: Any):
        shape = (config.num_position_embeddings, config.hidden_size)
        self.weight: nnx.Param[Any] = nnx.Param(nnx.initializers.truncated_normal(0.02)(rngs.params(), shape, dtype))

    def __call__(
        self, indices: Int32[Array, "rows length 4"], weights: Float32[Array, "rows length 4"]
    ) -> Float32[Array, "rows length width"]:
        """The weighted sum of the four entries around each patch, in float32."""
        table = self.weight[...]
        return sum(table[indices[..., i]].astype(jnp.float32) * weights[..., i, None] for i in range(4))  # type: ignore[return-value]


class VisionAttention(nnx.Module):
    """Self-attention within a frame, with rotary positions on its two axes."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: Any):
        self.heads: int = config.num_heads
        self.qkv: Linear = Linear(config.hidden_size, 3 * config.hidden_size, rngs=rngs, dtype=dtype)
        self.proj: Linear = Linear(config.hidden_size, config.hidden_size, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "rows length width"], rotation: Any, lengths: Int32[Array, "rows"]
    ) -> Float[Array, "rows length width"]:
        """Attends within each row's valid part."""
        R, L, D = x.shape
        q, k, v = jnp.moveaxis(self.qkv(x).reshape(R, L, 3, self.heads, D // self.heads), 2, 0)
        out = attend(rotate(q, rotation), rotate(k, rotation), v, lengths)
        return self.proj(out.reshape(R, L, D))


class VisionMLP(nnx.Module):
    """Two projections with an activation between."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: Any):
        self.linear_fc1: Linear = Linear(config.hidden_size, config.intermediate_size, rngs=rngs, dtype=dtype)
        self.linear_fc2: Linear = Linear(config.intermediate_size, config.hidden_size, rngs=rngs, dtype=dtype)
        self.act: Activation = activation(config.hidden_act)

    def __call__(self, x: Float[Array, "rows length width"]) -> Float[Array, "rows length width"]:
        """Transforms each token by itself."""
        return self.linear_fc2(constrain(self.act(self.linear_fc1(x)), "batch", None, "hidden"))


class VisionBlock(nnx.Module):
    """Attention and MLP, each on a normalised copy and added back."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: Any):
        self.norm1: LayerNorm = LayerNorm(config.hidden_size, _EPS, dtype=dtype)
        self.norm2: LayerNorm = LayerNorm(config.hidden_size, _EPS, dtype=dtype)
        self.attn: VisionAttention = VisionAttention(config, rngs=rngs, dtype=dtype)
        self.mlp: VisionMLP = VisionMLP(config, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "rows length width"], rotation: Any, lengths: Int32[Array, "rows"]
    ) -> Float[Array, "rows length width"]:
        """One block."""
        x = constrain(x + self.attn(self.norm1(x), rotation, lengths), "batch", None, None)
        return constrain(x + self.mlp(self.norm2(x)), "batch", None, None)


class VisionEncoder(nnx.Module):
    """Patch embedding, interpolated positions and scanned blocks.

    Source: transformers 5.23, `Qwen3OmniMoeVisionEncoder`; deepstack after Meng et al., arXiv:2406.04334.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
        image_mean: subtracted from grey levels divided by 255, when pixels are uint8.
        image_std: divided by after that.
    """

    def __init__(
        self,
        config: VisionConfig,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        image_mean: tuple[float, float, float] = _HALVES,
        image_std: tuple[float, float, float] = _HALVES,
    ):
        self.config = config
        self.patch_embed: PatchEmbed = PatchEmbed(
            config, rngs=rngs, dtype=dtype, image_mean=image_mean, image_std=image_std
        )
        self.pos_embed: PositionTable = PositionTable(config, rngs=rngs, dtype=dtype)

        @nnx.split_rngs(splits=config.depth)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> VisionBlock:
            return VisionBlock(config, rngs=rngs, dtype=dtype)

        self.blocks: VisionBlock = stacked(rngs)

    def __call__(
        self,
        pixels: Shaped[Array, "rows length values"],
        coordinates: Int32[Array, "rows length 2"],
        table_indices: Int32[Array, "rows length 4"],
        table_weights: Float32[Array, "rows length 4"],
        lengths: Int32[Array, "rows"],
    ) -> VisionHidden:
        """Encodes frames, one a row; `layout.vision_calls` makes the arguments.

        Args:
            pixels: patches in merge-block order, as `PatchEmbed` takes them.
            coordinates: row and column of each patch.
            table_indices: entries of the position table around each patch.
            table_weights: their weights.
            lengths: patches of each frame; what lies beyond changes nothing.
        """
        config = self.config
        x = self.patch_embed(pixels)
        x = x + self.pos_embed(table_indices, table_weights).astype(x.dtype)
        rotation = axial_rotation(coordinates, config.hidden_size // config.num_heads, config.rope_theta)
        graph, weights = nnx.split(self.blocks)
        levels = len(config.deepstack_visual_indexes)
        # A block writes its output to its level's place, or to one spare place that nobody reads: memory grows with the
        # levels and not with the depth, and the scan stays one program.
        places = np.full(config.depth, levels, np.int32)
        places[list(config.deepstack_visual_indexes)] = np.arange(levels)
        kept = jnp.zeros((levels + 1, *x.shape), x.dtype) if levels else None

        def step(carry: tuple[jax.Array, jax.Array | None], scanned: tuple[Any, jax.Array]):
            x, kept = carry
            weights, place = scanned
            x = nnx.merge(graph, weights)(x, rotation, lengths)
            if kept is not None:
                kept = lax.dynamic_update_index_in_dim(kept, x, place, axis=0)
            return (x, kept), None

        (x, kept), _ = lax.scan(step, (x, kept), (weights, jnp.asarray(places)))
        return VisionHidden(x, None if kept is None else kept[:levels])
