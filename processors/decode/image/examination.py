"""Image files looked into before a decoder takes memory."""

from io import BufferedIOBase

from processors.decode.image.directories import examine_icns, examine_icon, examine_tiff
from processors.decode.image.structure import (
    CheckSize,
    Structure,
    examine_gif,
    examine_jpeg,
    examine_jpeg2000,
    examine_png,
    examine_webp,
)
from processors.errors import InputError
from processors.io.byte_window import ByteWindow


def examine(stream: BufferedIOBase, plugin: str, name: str, check_size: CheckSize) -> Structure:
    """Look into a file before it is decoded.

    Args:
        stream: the file, from its start on; seekable.
        plugin: Pillow's name of its format.
        name: what messages call it.
        check_size: refuses what is too large.

    Raises:
        InputError: of `check_size`; `image_unknown_format`, `image_dtype`: nothing that can be decoded.
        Damaged: the file is cut short or contradicts itself.
    """
    structure = Structure(stream, plugin)
    if plugin == "PNG":
        examine_png(structure, check_size)
    elif plugin == "JPEG":
        examine_jpeg(structure, check_size)
    elif plugin == "WEBP":
        examine_webp(structure, check_size)
    elif plugin == "GIF":
        examine_gif(structure, check_size)
    elif plugin in ("ICO", "CUR"):
        examine_icon(structure, check_size)
    elif plugin == "ICNS":
        examine_icns(structure, check_size)
    elif plugin == "JPEG2000":
        examine_jpeg2000(ByteWindow(stream), check_size)
    elif plugin == "TIFF":
        examine_tiff(structure, name, check_size)
    elif plugin == "FITS" and b"ZCMPTYPE" in ByteWindow(stream).read(0, 1 << 20):
        raise InputError("image_unknown_format", f"{name} is a compressed FITS file: decompress it first")
    structure.stream.seek(0)
    return structure
