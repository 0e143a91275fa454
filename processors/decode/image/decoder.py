"""Any image to one upright RGB frame of 8-bit levels."""

import importlib
import threading
from typing import Any, NoReturn

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from processors.decode.image import jpeg_scan, png_rows
from processors.decode.image.animation import gif_on_white, with_alpha
from processors.decode.image.arrays import array_image, array_size, image_array, view_array
from processors.decode.image.colours import to_rgb
from processors.decode.image.examination import examine
from processors.decode.image.formats import plugin_of, start_of_image, unreadable_kind
from processors.decode.image.metadata import orientation_of
from processors.decode.image.structure import Damaged, Structure
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.checked_stream import CheckedStream
from processors.io.limits import DEFAULT_LIMITS
from processors.io.sources import Source, describe, is_source, open_source

MAX_IMAGE_PIXELS = DEFAULT_LIMITS.image_pixels
"""The most pixels that are decoded by default."""

ImageSource = Source | Image.Image | np.ndarray | Any
"""A path, URL, data URI or bytes; a PIL image; or an array (NumPy, or anything that NumPy can view as one)."""

_HEAD = 4096
# Formats whose fourth channel many programs leave at 0 and mean nothing by it.
_UNUSED_ALPHA = {"BMP", "DIB", "ICO", "CUR", "TGA"}
_BYTES = {"I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2, "I": 4, "F": 4}
# Formats whose pixels end where their size says, and not where the file does.
_READ_TO_SIZE = {"GIF", "BMP", "DIB", "TIFF", "TGA", "PCX", "SUN", "PSD"}
# Decoders written in Python take microseconds a pixel; their names are those of a tile.
_SLOW_DECODERS = {"qoi", "dds_rgb", "ppm_plain", "bmp_rle", "BLP1", "BLP2", "SGI16", "MSP", "ppm", "xpm"}
_SLOW_PIXELS = 1 << 23
# One image may be in several places of one call, read by several threads, and opens and loads itself as it is used.
_LOCKS = [threading.RLock() for _ in range(64)]


def load_image(source: ImageSource, *, access: Access = DEFAULT_ACCESS) -> UInt8[np.ndarray, "height width 3"]:
    """Decode an image to RGB.

    EXIF orientation is applied, transparency is laid on white, grey, palette and CMYK colours become RGB, and 16-bit
    levels become 8-bit by value (65535 is 255). Of an animation, the first frame is taken; of a PIL image, the frame
    that it shows.

    Args:
        source: a path, http(s) URL, base64 data URI or encoded bytes; a PIL image; or an array of uint8 or uint16,
            [height, width], or [height, width, channels] with 1 (grey), 3 (RGB) or 4 (RGBA) channels. Floats are
            refused: whether they span 0..1, 0..255 or a normalised range cannot be told from the values.
        access: limits, source policy and deadline.

    Raises:
        InputError: `image_unknown_format`, `image_corrupt`, `image_closed`, `image_empty`, `image_too_large`,
            `image_shape`, `image_dtype`, `image_range`, `image_needs_heif`, `array_unreadable`, or the codes of
            `open_source`.
    """
    return image_array(open_image(source, access))


def open_image(source: ImageSource, access: Access = DEFAULT_ACCESS) -> Image.Image:
    """Like `load_image`, but return a PIL image of mode RGB, which may share memory with the source."""
    access.check()
    try:
        image = _open(source, access)
    except MemoryError:
        raise InputError("image_too_large", f"{describe(source)} needs more memory than there is") from None
    access.check()
    return image


def _open(source: ImageSource, access: Access) -> Image.Image:
    name = describe(source)
    if isinstance(source, Image.Image):
        with _LOCKS[id(source) // 64 % len(_LOCKS)]:
            return _convert_image(source, access, name)
    if is_source(source):
        return _decode(source, access, name)
    array = view_array(source)
    if array is None:
        raise InputError("image_unknown_format", f"{name} is not a path, URL, bytes, PIL image or array")
    width, height = array_size(array)
    _check_pixels(width, height, access, f"the array {list(array.shape)}")
    return to_rgb(array_image(array), name)


def _convert_image(image: Image.Image, access: Access, name: str) -> Image.Image:
    """The frame that a user's image shows; called under its lock."""
    _check_pixels(*image.size, access, name)
    try:
        image.load()
        try:
            orientation = image.getexif().get(0x0112, 1)
        except Exception:  # damaged metadata says nothing about the orientation; the pixels have been decoded
            orientation = 1
        return to_rgb(image, name, orientation)
    except BaseException as error:
        if isinstance(error, Exception) and _is_closed(image):
            raise InputError(
                "image_closed", f"{name} has been closed: use it inside its `with` block, or load() it there"
            ) from None
        _refuse(error, name)


def _is_closed(image: Image.Image) -> bool:
    if type(getattr(image, "_im", None)).__name__ == "DeferredError":  # Pillow leaves it in the place of the pixels
        return True
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return False
    return image.fp is None or bool(getattr(image.fp, "closed", False))


def _decode(source: Source, access: Access, name: str) -> Image.Image:
    with open_source(source, access, access.limits.image_bytes) as stream:
        size = stream.seek(0, 2)
        if size > access.limits.image_bytes:
            limit = access.limits.image_bytes
            raise InputError("source_too_large", f"{name}: {size:,} bytes, the limit of an image is {limit:,}")
        stream.seek(0)
        head = stream.read(_HEAD)
        start = start_of_image(head)
        head, size = head[start:], size - start
        plugin = plugin_of(head, size)
        if plugin is None:
            _refuse_format(head, name)
        try:
            return _decode_stream(CheckedStream(stream, start, access), plugin, access, name, size)
        except BaseException as error:
            _refuse(error, name, plugin)


def _decode_stream(stream: CheckedStream, plugin: str, access: Access, name: str, size: int) -> Image.Image:
    def check_size(width: int, height: int, pixel_bytes: int) -> None:
        _check_pixels(width, height, access, name)
        _check_expansion(width * height * pixel_bytes, size, access, name)

    structure = examine(stream, plugin, name, check_size)
    if plugin == "WEBP":
        structure.stream = with_alpha(structure.stream)
    image = _instance(structure, name)
    check_size(*image.size, _pixel_bytes(image))
    _check_slow(image, name)
    box = image.tile[0][1] if structure.plugin == "GIF" and image.tile else None
    to_size = structure.plugin in _READ_TO_SIZE or all(tile[0] == "raw" for tile in image.tile)
    if structure.plugin == "TIFF" and image.mode:
        # Else it would ask the limit of the whole process.
        image.im = Image.core.new(image.mode, getattr(image, "_tile_size", image.size))
    stream.ran_out = False
    image.load()
    # Whether an image may lack its end is not for a setting of the whole process to say.
    if to_size and stream.ran_out and ImageFile.LOAD_TRUNCATED_IMAGES:
        raise Damaged
    check_size(*image.size, _pixel_bytes(image))
    if _is_cut_short(image, structure):
        raise Damaged
    access.check()
    return to_rgb(
        gif_on_white(image, box) if box else image,
        name,
        orientation_of(image.info) if structure.plugin not in ("TIFF", "HEIF") else 1,
        levels=structure.levels,
        white_is_zero=structure.white_is_zero,
        ignore_clear=structure.plugin in _UNUSED_ALPHA,
    )


def _is_cut_short(image: Image.Image, structure: Structure) -> bool:
    if structure.plugin == "JPEG":
        return jpeg_scan.is_truncated(image, structure.stream, structure.scan, structure.unfinished)
    return structure.plugin == "PNG" and png_rows.is_truncated(image, structure.stream)


def _instance(structure: Structure, name: str) -> ImageFile.ImageFile:
    """What `Image.open` would make, of this one format, without its limit that the whole process shares."""
    if structure.plugin == "HEIF":
        try:
            return importlib.import_module("pillow_heif").HeifImageFile(structure.stream, "")
        except ImportError:
            raise InputError("image_needs_heif", f'{name} is HEIC: pip install "omni-jax[heif]" to read it') from None
    if structure.plugin not in Image.OPEN:
        Image.init()
    if structure.plugin not in Image.OPEN:
        raise InputError(
            "image_unknown_format", f"{name} is {structure.plugin}, which this build of Pillow cannot read"
        )
    factory, _ = Image.OPEN[structure.plugin]
    return factory(structure.stream, "")  # type: ignore[return-value]


def _check_slow(image: ImageFile.ImageFile, name: str) -> None:
    slow = any(tile[0] in _SLOW_DECODERS for tile in image.tile)
    if slow and image.width * image.height > _SLOW_PIXELS:
        what = f"{image.format} of more than {_SLOW_PIXELS:,} pixels is read too slowly: convert it to PNG first"
        raise InputError("image_too_large", f"{name}: {what}")


def _pixel_bytes(image: Image.Image) -> int:
    # What an image becomes is RGB. Scans of one bit are large and their files small: these count as they are decoded.
    return 1 if image.mode == "1" else max(3, _BYTES.get(image.mode, len(image.getbands())))


def _check_pixels(width: int, height: int, access: Access, name: str) -> None:
    if width < 1 or height < 1:
        raise InputError("image_empty", f"{name}: {width} x {height} pixels, both sides must be at least 1")
    if width * height > access.limits.image_pixels:
        limit = access.limits.image_pixels
        raise InputError("image_too_large", f"{name}: {width} x {height} pixels, more than the limit of {limit:,}")


def _check_expansion(decoded: int, encoded: int, access: Access, name: str) -> None:
    limits = access.limits
    if decoded > max(limits.free_bytes, limits.image_expansion * encoded):
        raise InputError(
            "image_too_large",
            f"{name}: {encoded:,} bytes claim {decoded:,} of pixels, more than {limits.image_expansion} times as many",
        )


def _refuse_format(head: bytes, name: str) -> NoReturn:
    what = unreadable_kind(head)
    raise InputError("image_unknown_format", f"{name} is " + (what or "not an image of a known format"))


def _refuse(error: BaseException, name: str, plugin: str | None = None) -> NoReturn:
    """Raises the one error for whatever a decoder raised: OSError, SyntaxError, struct.error, a panic, ..."""
    if isinstance(error, InputError | MemoryError):
        raise error
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error  # Ctrl-C, and the end of a program or a thread
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        raise InputError("image_too_large", f"{name}: more pixels than PIL.Image.MAX_IMAGE_PIXELS allows") from None
    known = f" {plugin}, but" if plugin else ""
    what = f"{name} is{known} damaged, cut short or of an unsupported kind, and cannot be decoded"
    raise InputError("image_corrupt", what) from None
