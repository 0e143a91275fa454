"""Any still to one upright RGB frame of 8-bit levels."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from processors.access import DEFAULT_ACCESS, Access
from processors.errors import InputError
from processors.sniffing import is_heif
from processors.sources import Source, describe, is_source, open_source

MAX_IMAGE_PIXELS = 178_956_970
"""The most pixels that are decoded, half a gigabyte as RGB: a small file can claim far more than memory holds."""

ImageSource = Source | Image.Image | np.ndarray | Any
"""A path, URL, data URI or bytes; a PIL image; or an array (NumPy, or anything that NumPy can view as one)."""

# Every format that is decoded in-process from bytes alone. EPS, for one, would start another program.
_FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO"]
_ORIENTATION = 0x0112
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def load_image(source: ImageSource, *, access: Access = DEFAULT_ACCESS) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes a still to RGB.

    EXIF orientation is applied, transparency is laid on white, grey, palette and CMYK colours become RGB, and 16-bit
    levels become 8-bit by value (65535 is 255). Of an animation, the first frame is taken.

    Args:
        source: a path, http(s) URL, base64 data URI or encoded bytes; a PIL image; or an array of uint8 or uint16,
            [height, width], or [height, width, channels] with 1 (grey), 3 (RGB) or 4 (RGBA) channels. Floats are
            refused: whether they span 0..1, 0..255 or a normalised range cannot be told from the values.
        access: limits, source policy and deadline.

    Raises:
        InputError: `image_unknown_format`, `image_corrupt`, `image_empty`, `image_too_large`, `image_shape`,
            `image_dtype`, `image_range`, `image_needs_heif`, or the codes of `open_source`.
    """
    return np.array(open_image(source, access))


def open_image(source: ImageSource, access: Access = DEFAULT_ACCESS) -> Image.Image:
    """Like `load_image`, but gives a PIL image of mode RGB, which may share memory with the source."""
    if isinstance(source, Image.Image):
        return _to_rgb(source, describe(source))
    if is_source(source):
        return _decode(source, access)
    return _from_array(source)


def _decode(source: Source, access: Access) -> Image.Image:
    name = describe(source)
    with open_source(source, access, access.limits.image_bytes) as stream:
        formats = _heif_formats(name) if is_heif(stream.read(64)) else _FORMATS
        stream.seek(0)
        try:
            with Image.open(stream, formats=formats) as image:  # pyright: ignore[reportArgumentType]
                return _to_rgb(image, name)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError("image_unknown_format", f"{name} is not an image of a known format") from None
        except Image.DecompressionBombError:
            raise InputError("image_too_large", f"{name}: more than {MAX_IMAGE_PIXELS:,} pixels") from None
        except Exception:  # decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error, ...
            raise InputError("image_corrupt", f"{name} is damaged or cut short and cannot be decoded") from None


def _heif_formats(name: str) -> list[str]:
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("image_needs_heif", f'{name} is HEIC: pip install "omni-jax[heif]" to read it') from None
    pillow_heif.register_heif_opener()
    return ["HEIF"]


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    _check_size(*image.size, name)
    try:
        image.load()
    except Exception:
        raise InputError("image_corrupt", f"{name} is damaged or cut short and cannot be decoded") from None
    image = _upright(image)
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_to_eight_bits(np.asarray(image), name)).convert("RGB")
    if image.mode == "F":
        raise InputError("image_dtype", f"{name} holds floats: convert it to 8-bit or 16-bit levels first")
    if image.has_transparency_data:
        layer = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return paper.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # damaged metadata says nothing about the orientation; the pixels have been decoded
        return image


def _from_array(source: Any) -> Image.Image:
    name = describe(source)
    if not hasattr(source, "__array__"):
        raise InputError("image_unknown_format", f"{name} is not a path, URL, bytes, PIL image or array")
    array = np.asarray(source)
    shape = list(array.shape)
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(
            "image_dtype", f"an image array must be uint8 or uint16, not {array.dtype}: scale it to 0..255 and convert"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            "image_shape", f"an image array must be [height, width] or [height, width, 1, 3 or 4], not {shape}"
        )
    _check_size(array.shape[1], array.shape[0], f"the array {shape}")
    if array.dtype == np.uint16:
        array = _to_eight_bits(array, name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)), name)


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise InputError("image_empty", f"{name}: {width} x {height} pixels, both sides must be at least 1")
    if width * height > MAX_IMAGE_PIXELS:
        raise InputError(
            "image_too_large", f"{name}: {width} x {height} pixels, more than the limit of {MAX_IMAGE_PIXELS:,}"
        )


def _to_eight_bits(levels: np.ndarray, name: str) -> UInt8[np.ndarray, "..."]:
    if levels.dtype != np.uint16 and (levels.min() < 0 or levels.max() > 65_535):
        raise InputError("image_range", f"{name} holds levels outside 0..65535: what stands for white is not known")
    # Exactly round(level * 255 / 65535), as 65535 is 255 * 257.
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
