"""What images and videos share: the size that a frame is resized to, and its patches in merge-block order."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from processors.config import ImageConfig, VideoConfig
from processors.errors import InputError

MAX_ASPECT_RATIO = 200
_BLOCK = 256
"""Patches normalised at a time, so that what is looked up is still in the cache when it is repeated."""


def smart_resize(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """The size that a frame is resized to: multiples of `config.factor`, its area within the limits.

    The rule is that of Qwen2-VL's image processor, halves rounded to even included. An area that only rounding pushed
    out of the limits is pulled back in, at nearly the same aspect ratio.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        config: patch geometry and limits.

    Returns:
        Height and width, in pixels.

    Raises:
        InputError: `aspect_ratio`, one side is more than 200 times the other.
    """
    _check_aspect(height, width)
    factor = config.factor
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > config.max_pixels:
        return _shrunk(height, width, math.sqrt(height * width / config.max_pixels), factor)
    if rows * columns < config.min_pixels:
        return _grown(height, width, math.sqrt(config.min_pixels / (height * width)), factor)
    return rows, columns


def frame_size(frames: int, height: int, width: int, config: VideoConfig) -> tuple[int, int]:
    """The size that a video's frames are resized to; `smart_resize` where the limits hold for a single frame.

    Limits of a whole video are those of Qwen3-VL's video processor: frames count in whole temporal patches, halves
    rounded to even, and a frame with a side under `config.factor` is first enlarged.

    Args:
        frames: how many the video has.
        height: of each, in pixels.
        width: of each, in pixels.
        config: patch geometry and limits.

    Returns:
        Height and width, in pixels.

    Raises:
        InputError: `aspect_ratio`, one side is more than 200 times the other.
    """
    if not config.clip_limits:
        return smart_resize(height, width, config)
    factor, depth = config.factor, config.temporal_patch_size
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    frames = max(frames, depth)  # fewer fill one patch
    counted = round(frames / depth) * depth
    _check_aspect(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if counted * rows * columns > config.max_pixels:
        return _shrunk(height, width, math.sqrt(frames * height * width / config.max_pixels), factor)
    if counted * rows * columns < config.min_pixels:
        return _grown(height, width, math.sqrt(config.min_pixels / (frames * height * width)), factor)
    return rows, columns


def _check_aspect(height: int, width: int) -> None:
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise InputError(
            "aspect_ratio", f"{width} x {height} pixels: one side may be at most {MAX_ASPECT_RATIO} times the other"
        )


def _shrunk(height: int, width: int, by: float, factor: int) -> tuple[int, int]:
    return max(factor, math.floor(height / by / factor) * factor), max(factor, math.floor(width / by / factor) * factor)


def _grown(height: int, width: int, by: float, factor: int) -> tuple[int, int]:
    return math.ceil(height * by / factor) * factor, math.ceil(width * by / factor) * factor


def resize_frame(image: Image.Image, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """Resizes an RGB frame once, bicubic with antialiasing; one that has the size already is left as it is."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


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
