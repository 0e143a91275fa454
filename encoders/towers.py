"""Encoder and projector together, as a checkpoint holds them."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Int32, Shaped

from encoders.audio import AudioEncoder
from encoders.config import AudioConfig, VisionConfig
from encoders.projectors import AudioProjector, VisionProjector, VisionTokens
from encoders.vision import VisionEncoder

_HALVES = (0.5, 0.5, 0.5)


class VisionTower(nnx.Module):
    """A VisionEncoder and its VisionProjector.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
        image_mean: as `VisionEncoder` takes it.
        image_std: likewise.
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
        self.encoder: VisionEncoder = VisionEncoder(
            config, rngs=rngs, dtype=dtype, image_mean=image_mean, image_std=image_std
        )
        self.projector: VisionProjector = VisionProjector(config, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        pixels: Shaped[Array, "rows length values"],
        coordinates: Int32[Array, "rows length 2"],
        table_indices: Int32[Array, "rows length 4"],
        table_weights: Float32[Array, "rows length 4"],
        lengths: Int32[Array, "rows"],
    ) -> VisionTokens:
        """Frames to tokens, arguments as `VisionEncoder.__call__`."""
        return self.projector(self.encoder(pixels, coordinates, table_indices, table_weights, lengths))


class AudioTower(nnx.Module):
    """An AudioEncoder and its AudioProjector.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden states.
    """

    def __init__(self, config: AudioConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.config = config
        self.encoder: AudioEncoder = AudioEncoder(config, rngs=rngs, dtype=dtype)
        self.projector: AudioProjector = AudioProjector(config, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        mel: Float[Array, "rows chunks bins frames"],
        conv_frames: Int32[Array, "rows chunks"],
        lengths: Int32[Array, "rows"],
    ) -> Float[Array, "rows length out"]:
        """Windows to tokens, arguments as `AudioEncoder.__call__`."""
        return self.projector(self.encoder(mel, conv_frames, lengths))
