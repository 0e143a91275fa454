"""Whether the data of a PNG end before its rows do, which Pillow fills with zeros and does not tell."""

import struct
import zlib
from collections.abc import Iterator
from io import BufferedIOBase

from PIL import Image

_PIECE = 1 << 16
# Adam7: first column and row of a pass, and the steps from one pixel to the next.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_truncated(image: Image.Image, stream: BufferedIOBase) -> bool:
    """Return whether rows are missing at the end of an image.

    Missing rows are zeros, so an image whose last one holds anything else is whole. Else its data are counted.

    Args:
        image: loaded.
        stream: the file, whose chunks have been checked; seekable.
    """
    stream.seek(8)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(21)[8:])
    if not interlaced and image.crop((0, image.height - 1, image.width, image.height)).getbbox(alpha_only=False):
        return False
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    promised = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        promised += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    inflater = zlib.decompressobj()
    for data in _pieces(stream):
        while data and promised > 0:
            promised -= len(inflater.decompress(data, _PIECE))
            data = inflater.unconsumed_tail
        if promised <= 0:
            return False
    return promised > len(inflater.flush())


def _pieces(stream: BufferedIOBase) -> Iterator[bytes]:
    position = 8
    while len(header := _at(stream, position, 8)) == 8:
        length = int.from_bytes(header[:4], "big")
        if header[4:] == b"IDAT":
            for start in range(0, length, _PIECE):
                yield _at(stream, position + 8 + start, min(_PIECE, length - start))
        elif header[4:] == b"IEND":
            return
        position += 12 + length


def _at(stream: BufferedIOBase, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)
