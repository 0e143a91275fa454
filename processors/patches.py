"""Patches of frames in merge-block order, for images and videos."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from processors.config import ImageConfig
from processors.errors import InputError

_BLOCK = 256
"""Patches normalised at a time, so that what is looked up is still in the cache when it is repeated."""


def write_patches(frame: UInt8[np.ndarray, "height width 3"], out: np.ndarray, config: ImageConfig) -> None:
    """Cuts one resized frame into patches, channels before rows before columns.

    Args:
        frame: RGB, sides multiples of `config.factor`.
        out: uint8 [patches, 3, patch_size, patch_size], any strides, written in merge-block order.
        config: patch geometry.

    Raises:
        InputError: `patch_block`, a side is not a multiple of the block.
    """
    height, width, _ = frame.shape
    if height % config.factor or width % config.factor:
        raise InputError("patch_block", f"{width} x {height} pixels: both sides must be multiples of {config.factor}")
    size, merge = config.patch_size, config.merge_size
    down, across = height // config.factor, width // config.factor
    blocks = frame.reshape(down, merge, size, across, merge, size, 3)
    # Splitting axes of `out` keeps it a view, so the one copy goes straight to its place.
    target = out.reshape(down, across, merge, merge, 3, size, size, copy=False)
    target[...] = blocks.transpose(0, 3, 1, 4, 6, 2, 5)


def normalise(
    pixels: UInt8[np.ndarray, "patches channels times values"], config: ImageConfig, times: int = 1
) -> Float32[np.ndarray, "patches channels all_times values"]:
    """Rescales and normalises grey levels, bit for bit as the reference's PIL processor does.

    Args:
        pixels: patches with their channels apart.
        config: mean, deviation and factor.
        times: how often to repeat each frame in time.
    """
    table = _normalised_levels(config.image_mean, config.image_std, config.rescale_factor)
    patches, channels, frames, values = pixels.shape
    out = np.empty((patches, channels, frames, times, values), np.float32)
    for start in range(0, patches, _BLOCK):
        block = slice(start, start + _BLOCK)
        for channel in range(channels):
            out[block, channel] = np.take(table[channel], pixels[block, channel], mode="clip")[:, :, None]
    return out.reshape(patches, channels, frames * times, values)


@lru_cache(maxsize=8)
def _normalised_levels(
    mean: tuple[float, ...], std: tuple[float, ...], factor: float
) -> Float32[np.ndarray, "channels 256"]:
    # Rescaled in float64, rounded to float32, then shifted and scaled in float32: the reference's order.
    levels = (np.arange(256, dtype=np.float64) * factor).astype(np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
