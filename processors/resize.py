"""The size that a frame is resized to, and the resizing itself; the same for images and videos."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from processors.config import ImageConfig, VideoConfig
from processors.errors import InputError

MAX_ASPECT_RATIO = 200


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
