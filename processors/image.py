"""Images to patches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from processors.config import MOST_PIXELS, ImageConfig
from processors.decode.image.decoder import ImageSource, open_image
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.notebook import shown
from processors.patches import normalise, write_patches
from processors.resize import resize_frame, smart_resize

C = TypeVar("C", bound=ImageConfig)


@dataclass(frozen=True)
class ImageFeatures:
    """Patches of one or more images, one image after another.

    Attributes:
        pixels: grey levels, each patch flattened as (channel, height, width), patches in merge-block order: the
            `merge_size`² patches of a block follow one another, blocks go row by row. One frame stands for all
            `temporal_patch_size` frames of the reference, which repeats it.
        grid_thw: for each image the patches in time (1), height and width.
        config: the settings that they were made with.
    """

    pixels: UInt8[np.ndarray, "patches values"]
    grid_thw: Int32[np.ndarray, "images 3"]
    config: ImageConfig

    @property
    def pixel_values(self) -> Float32[np.ndarray, "patches temporal_values"]:
        """Rescaled and normalised patches flattened as (channel, time, height, width), equal to the reference's."""
        patches, values = self.pixels.shape
        frames = self.pixels.reshape(patches, 3, 1, values // 3)
        return normalise(frames, self.config, self.config.temporal_patch_size).reshape(patches, -1)

    @shown
    def _repr_png_(self) -> bytes:
        from processors.drawing.patches import patch_pictures

        return next(patch_pictures(self, "image")).png()


class ImageProcessor:
    """Turns images into patches: decoded, upright, on white, resized once and cut.

    Args:
        config: patch geometry, pixel limits and normalisation.
        access: limits and source policy of every call that brings none of its own.
    """

    def __init__(self, config: ImageConfig | None = None, *, access: Access = DEFAULT_ACCESS):
        self.config: ImageConfig = config or ImageConfig()
        self.access: Access = access

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, access: Access = DEFAULT_ACCESS) -> "ImageProcessor":
        """Read the settings that lie beside a checkpoint; errors as `ImageConfig.from_pretrained`.

        Args:
            directory: the checkpoint's.
            access: limits and source policy of calls that bring none of their own.
        """
        return cls(ImageConfig.from_pretrained(directory), access=access)

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        access: Access | None = None,
    ) -> ImageFeatures:
        """Process one image or a list of them; each gives the same patches alone as beside others.

        Args:
            images: whatever `load_image` takes, or a list of such.
            min_pixels: least area of a resized image, instead of the configured one.
            max_pixels: greatest area of a resized image, instead of the configured one.
            access: limits, source policy and deadline of this call.

        Raises:
            InputError: `image_missing` for an empty list, `pixel_limits`, `aspect_ratio`, `image_too_large` when
                resized, or the codes of `load_image`.
        """
        config = with_pixel_limits(self.config, min_pixels, max_pixels)
        sources = images if isinstance(images, list | tuple) else [images]
        if not sources:
            raise InputError("image_missing", "the list of images is empty")
        parts, grids = zip(*(self._patches(source, config, access or self.access) for source in sources), strict=True)
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return ImageFeatures(pixels, np.array(grids, np.int32), config)

    @staticmethod
    def _patches(source: ImageSource, config: ImageConfig, access: Access) -> tuple[np.ndarray, tuple[int, int, int]]:
        image = open_image(source, access)
        height, width = smart_resize(image.height, image.width, config)
        _check_resized(height, width, config, access)
        frame = resize_frame(image, height, width)
        size = config.patch_size
        rows, columns = height // size, width // size
        pixels = np.empty((rows * columns, 3 * size * size), np.uint8)
        write_patches(frame, pixels, config)
        return pixels, (1, rows, columns)


def _check_resized(height: int, width: int, config: ImageConfig, access: Access) -> None:
    limits = access.limits
    if height * width > limits.resized_pixels:
        raise InputError(
            "image_too_large",
            f"resized to {width} x {height} pixels, the limit is {limits.resized_pixels:,}: lower max_pixels",
        )
    tokens = height * width // config.factor**2
    if tokens > limits.media_tokens:
        raise InputError("image_too_large", f"an image of {tokens:,} tokens, the limit is {limits.media_tokens:,}")


def with_pixel_limits(config: C, min_pixels: Any, max_pixels: Any) -> C:
    """Return the settings with the limits of one call in place of their own.

    Args:
        config: the settings.
        min_pixels: a whole number, or None for the configured one.
        max_pixels: a whole number, or None for the configured one.

    Raises:
        InputError: `pixel_limits`, they are not whole numbers with 1 <= min_pixels <= max_pixels.
    """
    low = config.min_pixels if min_pixels is None else _pixels("min_pixels", min_pixels)
    high = config.max_pixels if max_pixels is None else _pixels("max_pixels", max_pixels)
    if not 1 <= low <= high:
        raise InputError("pixel_limits", f"min_pixels {low} and max_pixels {high}: needed is 1 <= min <= max")
    # The settings end where no picture goes; who asks for more than that as a maximum asks for no limit.
    if low > MOST_PIXELS:
        raise InputError("pixel_limits", f"min_pixels {low} is more than any image may have")
    return replace(config, min_pixels=low, max_pixels=min(high, MOST_PIXELS))


def _pixels(name: str, value: Any) -> int:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not abs(value) < 1 << 62 or value != int(value):
        raise InputError("pixel_limits", f"{name} must be a whole number of pixels, not {value!r:.40}")
    return int(value)
