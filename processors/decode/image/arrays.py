"""Image arrays: of NumPy, or of anything that shows its memory, by DLPack, the buffer protocol or `__array__`."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from processors.decode.image.colours import to_eight_bits
from processors.errors import InputError
from processors.io.sources import describe

_STRIP_LEVELS = 1 << 20


def view_array(source: Any) -> np.ndarray | None:
    """Return a NumPy view, or else a copy, of what holds numbers in a grid; None when nothing in `source` tells how.

    Raises:
        InputError: `array_unreadable`, the object's own way to its numbers fails.
    """
    if isinstance(source, np.ndarray):
        return source
    try:
        if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
            return np.asarray(source)
        if hasattr(source, "__dlpack__"):
            return np.from_dlpack(source)
        return np.asarray(memoryview(source)) if _has_buffer(source) else None
    except (InputError, MemoryError):
        raise
    except Exception as error:
        remedy = "move it to the CPU and hand over a NumPy array"
        raise InputError(
            "array_unreadable", f"{describe(source)} cannot be read as an array ({type(error).__name__:.60}): {remedy}"
        ) from None


def array_image(array: np.ndarray) -> Image.Image:
    """Return a PIL image of an array's levels: uint8 or uint16, [height, width] or [height, width, 1, 3 or 4].

    The caller has checked the size, which `array_size` gives.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8 and array.flags.c_contiguous:
        return Image.fromarray(array)
    height, width = array.shape[:2]
    out = Image.new({2: "L"}.get(array.ndim) or ("RGB" if array.shape[2] == 3 else "RGBA"), (width, height))
    rows = max(1, _STRIP_LEVELS // array[0].size)
    for top in range(0, height, rows):
        strip = array[top : top + rows]
        strip = np.ascontiguousarray(strip) if array.dtype == np.uint8 else to_eight_bits(strip)
        out.paste(Image.fromarray(strip), (0, top))
    return out


def image_array(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """Return the levels of an RGB image as an array of their own."""
    out = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_LEVELS // image.width)
    for top in range(0, image.height, rows):
        # NumPy's own conversion holds the whole image twice on the way.
        out[top : top + rows] = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
    return out


def array_size(array: np.ndarray) -> tuple[int, int]:
    """Return the width and height of an image array.

    Raises:
        InputError: `image_dtype`, `image_shape`, it is none.
    """
    shape = list(array.shape)
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise InputError(
            "image_dtype", f"an image array must be uint8 or uint16, not {array.dtype!s:.40}: {_remedy(array.dtype)}"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        wanted = "an image array must be [height, width] or [height, width, 1, 3 or 4]"
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        remedy = ": move the channels to the end with np.moveaxis(array, 0, -1)" if first else ""
        raise InputError("image_shape", f"{wanted}, not {str(shape)[:80]}{remedy}")
    return array.shape[1], array.shape[0]


def _has_buffer(source: Any) -> bool:
    try:
        memoryview(source).release()
    except TypeError:
        return False
    return True


def _remedy(dtype: np.dtype) -> str:
    if dtype.kind == "b":
        return "multiply by 255 after array.astype(np.uint8)"
    if dtype.kind in "iu":
        return "array.astype(np.uint8), where the levels are 0..255"
    if dtype.kind == "O":
        return "its rows differ in length, or hold no numbers"
    return "scale it to 0..255 and convert"
