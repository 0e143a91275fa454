"""Whether the scan of a JPEG ends before its image does, which libjpeg fills with grey and does not tell."""

import io
from io import BufferedIOBase

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

_END = b"\xff\xd9"
# Entropy-coded data without markers: where a scan lacks blocks, the decoder takes these for them.
_FILLING = bytes((37 * at * at + 11 * at) % 251 for at in range(64))
_NEUTRAL = 128
_TOLERANCE = 2


def is_truncated(image: Image.Image, stream: BufferedIOBase, scan: int, unfinished: bool) -> bool:
    """Return whether blocks are missing at the end of an image.

    What libjpeg does not get it leaves at neutral grey, so an image whose last pixel has another colour is whole.
    Else it is decoded a second time with other data after its scan: those of a whole image would not be looked at.

    Args:
        image: loaded.
        stream: the file; seekable.
        scan: where its first scan begins.
        unfinished: the mark of its end was missing. Only an image that lacks no more than this is whole.
    """
    if not unfinished and not _ends_neutral(image):
        return False
    stream.seek(0)
    data = stream.read()
    end = data.find(_END, scan)  # other images may follow
    whole, filled = (_decoded(data[:end] + tail + _END, exact=unfinished) for tail in (b"", _FILLING))
    return whole is None or whole != filled


def _ends_neutral(image: Image.Image) -> bool:
    corner = image.getpixel((image.width - 1, image.height - 1))
    levels = corner if isinstance(corner, tuple) else (corner,)
    if len(levels) == 3:  # chroma is interpolated, so luma alone is what it was
        red, green, blue = levels
        return abs(0.299 * red + 0.587 * green + 0.114 * blue - _NEUTRAL) <= _TOLERANCE
    return all(abs(float(level or 0) - _NEUTRAL) <= _TOLERANCE for level in levels)


def _decoded(data: bytes, exact: bool) -> bytes | None:
    """The levels, whole or an eighth in each direction, in a fraction of the time; None: it does not decode."""
    image = JpegImageFile(io.BytesIO(data), "")
    if not exact:
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
    try:
        image.load()
    except OSError:
        return None
    return image.tobytes()
