"""The audio encoder of Qwen3-Omni: mel chunks through three convolutions, then attention within windows of 8 s."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32, Int32

from encoders.config import AudioConfig
from encoders.nn.layers import Activation, LayerNorm, Linear, activation
from encoders.nn.mesh import constrain
from encoders.nn.weights import matmul
from encoders.ops.attention import attend
from encoders.vision import Convolution

_EPS = 1e-5


def sinusoids(length: int, width: int) -> Float32[np.ndarray, "length width"]:
    """Positions of Whisper (arXiv:2212.04356): sines, then cosines, from a period of 2π to one of 20000π."""
    step = math.log(10000) / (width // 2 - 1)
    rates = np.exp(-np.float32(step) * np.arange(width // 2, dtype=np.float32))
    angles = np.arange(length, dtype=np.float32)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class DownsamplingConvolution(Convolution):
    """A 3 x 3 convolution of stride 2 with a border of zeros, and its activation."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs, dtype: Any):
        super().__init__((in_channels, 3, 3), out_channels, rngs, dtype)
        self.act: Activation = activation("gelu")

    def __call__(self, x: Float[Array, "chunks bins frames channels"]) -> Float[Array, "chunks b f out_channels"]:
        """Halves both axes, rounding up."""
        weight = self.weight[...]
        _, bins, frames, _ = x.shape
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        # Nine shifted copies beside one another turn it into one matrix product.
        shifted = [x[:, i : i + bins : 2, j : j + frames : 2] for i in range(3) for j in range(3)]
        y = matmul(jnp.concatenate(shifted, axis=-1), weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1))
        return self.act((y + self.bias[...].astype(jnp.float32)).astype(x.dtype))


class AudioAttention(nnx.Module):
    """Self-attention within a window."""

    def __init__(self, config: AudioConfig, *, rngs: nnx.Rngs, dtype: Any):
        width = config.d_model
        self.heads: int = config.encoder_attention_heads
        self.q_proj: Linear = Linear(width, width, rngs=rngs, dtype=dtype)
        self.k_proj: Linear = Linear(width, width, rngs=rngs, dtype=dtype)
        self.v_proj: Linear = Linear(width, width, rngs=rngs, dtype=dtype)
        self.out_proj: Linear = Linear(width, width, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "rows length width"], lengths: Int32[Array, "rows"]
    ) -> Float[Array, "rows length width"]:
        """Attends within each row's valid part."""
        R, L, D = x.shape
        q, k, v = (p(x).reshape(R, L, self.heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v, lengths).reshape(R, L, D))


class AudioEncoderLayer(nnx.Module):
    """Attention and MLP, each on a normalised copy and added back."""

    def __init__(self, config: AudioConfig, *, rngs: nnx.Rngs, dtype: Any):
        self.self_attn_layer_norm: LayerNorm = LayerNorm(config.d_model, _EPS, dtype=dtype)
        self.self_attn: AudioAttention = AudioAttention(config, rngs=rngs, dtype=dtype)
        self.final_layer_norm: LayerNorm = LayerNorm(config.d_model, _EPS, dtype=dtype)
        self.fc1: Linear = Linear(config.d_model, config.encoder_ffn_dim, rngs=rngs, dtype=dtype)
        self.fc2: Linear = Linear(config.encoder_ffn_dim, config.d_model, rngs=rngs, dtype=dtype)
        self.act: Activation = activation(config.activation_function)

    def __call__(
        self, x: Float[Array, "rows length width"], lengths: Int32[Array, "rows"]
    ) -> Float[Array, "rows length width"]:
        """One layer."""
        x = constrain(x + self.self_attn(self.self_attn_layer_norm(x), lengths), "batch", None, None)
        h = constrain(self.act(self.fc1(self.final_layer_norm(x))), "batch", None, "hidden")
        return constrain(x + self.fc2(h), "batch", None, None)


class AudioEncoder(nnx.Module):
    """Convolutions over chunks, positions within a chunk, scanned layers over windows.

    Source: transformers 5.23, `Qwen3OmniMoeAudioEncoder`.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
    """

    def __init__(self, config: AudioConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.config = config
        self.dtype: Any = dtype
        channels = config.downsample_hidden_size
        self.conv2d1: DownsamplingConvolution = DownsamplingConvolution(1, channels, rngs=rngs, dtype=dtype)
        self.conv2d2: DownsamplingConvolution = DownsamplingConvolution(channels, channels, rngs=rngs, dtype=dtype)
        self.conv2d3: DownsamplingConvolution = DownsamplingConvolution(channels, channels, rngs=rngs, dtype=dtype)
        bins = config.num_mel_bins
        for _ in range(3):
            bins = (bins + 1) // 2
        self.conv_out: Linear = Linear(channels * bins, config.d_model, use_bias=False, rngs=rngs, dtype=dtype)

        @nnx.split_rngs(splits=config.encoder_layers)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> AudioEncoderLayer:
            return AudioEncoderLayer(config, rngs=rngs, dtype=dtype)

        self.layers: AudioEncoderLayer = stacked(rngs)
        self.ln_post: LayerNorm = LayerNorm(config.d_model, _EPS, dtype=dtype)

    def __call__(
        self,
        mel: Float[Array, "rows chunks bins frames"],
        conv_frames: Int32[Array, "rows chunks"],
        lengths: Int32[Array, "rows"],
    ) -> Float[Array, "rows length width"]:
        """Encodes attention windows, one a row; `layout.audio_calls` makes the arguments.

        Args:
            mel: log-mel frames of each chunk, zeros where a chunk is short.
            conv_frames: frames that each chunk is convolved at; what comes after them is as if it were not there.
            lengths: tokens of each window; the tokens beyond are noise that changes nothing.
        """
        R, C, bins, frames = mel.shape
        x = mel.reshape(R * C, bins, frames, 1).astype(self.dtype)
        limit = conv_frames.reshape(R * C)
        for convolution in (self.conv2d1, self.conv2d2, self.conv2d3):
            # A chunk convolved at its own length sees zeros beyond it at every step, not the bias of the step before.
            inside = jnp.arange(x.shape[2]) < limit[:, None]
            x = convolution(jnp.where(inside[:, None, :, None], x, 0))
            limit = (limit + 1) // 2
        # [chunks, bins, tokens, channels]: a token is its channels, each with all its bins.
        x = self.conv_out(x.transpose(0, 2, 3, 1).reshape(R * C, x.shape[2], -1))
        x = x + jnp.asarray(sinusoids(x.shape[1], x.shape[2])).astype(x.dtype)
        x = x.reshape(R, -1, x.shape[-1])
        graph, weights = nnx.split(self.layers)

        def step(x: jax.Array, weights: Any) -> tuple[jax.Array, None]:
            return nnx.merge(graph, weights)(x, lengths), None

        x, _ = lax.scan(step, x, weights)
        return self.ln_post(x)
