"""Colours of a decoded image: whatever mode it has, to upright RGB of 8 bits on white, a strip at a time."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from processors.errors import InputError

_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_PIXELS = 1 << 20
"""Pixels converted at a time: what lies beside the image and its result is held for so many only."""


def to_rgb(
    image: Image.Image,
    name: str,
    orientation: int = 1,
    *,
    levels: int | None = None,
    white_is_zero: bool = False,
    ignore_clear: bool = False,
) -> Image.Image:
    """Convert a loaded image of any mode to RGB: upright, transparency laid on white.

    Args:
        image: loaded. An RGB image that stands upright is returned itself.
        name: what messages call it.
        orientation: how it is to be turned, 1 to 8 as in EXIF; anything else leaves it as it is.
        levels: how many levels its samples have in the file, where that is not what its mode tells.
        white_is_zero: whether its levels grow darker.
        ignore_clear: whether alpha is unused where all of it is 0.

    Raises:
        InputError: `image_dtype`, floats; `image_range`, levels outside 0..65535.
    """
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode in _DEEP_MODES:
        most = 65_535 if levels in (None, 1 << 16) else levels - 1
        key = image.info.get("transparency")
        if image.mode == "I":
            low, high = image.getextrema()
            if not 0 <= int(low) <= int(high) <= 65_535:  # type: ignore[arg-type]
                raise InputError(
                    "image_range", f"{name} holds levels outside 0..65535: what stands for white is not known"
                )
        return _in_strips(image, lambda strip: _from_deep(strip, most, white_is_zero, key))
    if image.mode == "F":
        raise InputError("image_dtype", f"{name} holds floats: convert it to 8-bit or 16-bit levels first")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        if ignore_clear and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            return _in_strips(image, lambda strip: strip.convert("RGB"))
        return _in_strips(_with_key_in_levels(image, levels), on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """Lay a see-through image of any mode on white; RGB."""
    layer = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    paper.alpha_composite(layer)
    return paper.convert("RGB")


def on_white_canvas(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Lay what is inside of a box on white, where nothing is drawn outside of it; RGB."""
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image.crop(box).convert("RGB"), box[:2])
    return paper


def to_eight_bits(levels: np.ndarray, most: int = 65_535) -> UInt8[np.ndarray, "..."]:
    """Scale levels 0..most to 0..255 by value, rounded."""
    if most == 65_535:  # exactly round(level * 255 / 65535), as 65535 is 255 * 257
        return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return ((np.minimum(levels, most).astype(np.uint32) * 510 + most) // (2 * most)).astype(np.uint8)


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        return convert(image)
    out = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        out.paste(convert(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return out


def _from_deep(image: Image.Image, most: int, white_is_zero: bool, key: object) -> Image.Image:
    levels = np.asarray(image)
    grey = to_eight_bits(most - np.minimum(levels, most) if white_is_zero else levels, most)
    if isinstance(key, int):
        grey[levels == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _with_key_in_levels(image: Image.Image, levels: int | None) -> Image.Image:
    """The clear colour of a PNG is told in the file's levels, and Pillow compares it with those of a byte."""
    key = image.info.get("transparency")
    if levels is None or image.mode not in ("1", "L", "RGB") or not isinstance(key, int | tuple):
        return image
    values = key if isinstance(key, tuple) else (key,)
    # Of 16 bits Pillow keeps the upper eight.
    scaled = tuple(value >> 8 if levels == 1 << 16 else value * 255 // (levels - 1) for value in values)
    image = image.copy()
    image.info["transparency"] = scaled if isinstance(key, tuple) else scaled[0]
    return image


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    turn = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    return _in_strips(image, lambda strip: ImageCms.applyTransform(strip, turn) or strip)
