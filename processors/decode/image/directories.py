"""Structure of files with a directory of pictures or tags: TIFF, Windows icons and cursors, and those of macOS."""

import io
import struct
from io import BufferedIOBase

from processors.decode.image.structure import CheckSize, Damaged, Structure, examine_jpeg2000, examine_png
from processors.errors import InputError
from processors.io.byte_window import ByteWindow

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_TAGS = 4096
_MOST_ICONS = 256
_TIFF_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def examine_icon(structure: Structure, check_size: CheckSize) -> None:
    """Takes the largest picture of an icon or cursor out of it: as PNG, or as an icon of this one picture."""
    stream = structure.stream
    size = stream.seek(0, 2)
    stream.seek(4)
    count = int.from_bytes(stream.read(2), "little")
    best: tuple[tuple[int, int, int], bytes, int, int] | None = None
    directory = stream.read(16 * count)
    for at in range(0, len(directory) - 15, 16):
        entry = directory[at : at + 16]
        length, offset = struct.unpack_from("<II", entry, 8)
        if not length:
            continue
        bits = int.from_bytes(entry[6:8], "little") if structure.plugin == "ICO" else 0
        rank = ((entry[0] or 256) * (entry[1] or 256), bits, -offset)
        if best is None or rank > best[0]:
            best = rank, entry, length, offset
    if best is None:
        raise Damaged
    _, entry, length, offset = best
    stream.seek(offset)
    payload = stream.read(min(length, size))
    if payload.startswith(_PNG):
        structure.stream, structure.plugin = io.BytesIO(payload), "PNG"
        examine_png(structure, check_size)
        return
    if len(payload) < 40:
        raise Damaged
    width, height = struct.unpack_from("<ii", payload, 4)
    bits = int.from_bytes(payload[14:16], "little")
    check_size(abs(width), abs(height) // 2, 4)
    entry = entry[:4] + struct.pack("<HHII", 1, bits, len(payload), 22)
    structure.stream, structure.plugin = io.BytesIO(b"\x00\x00\x01\x00\x01\x00" + entry + payload), "ICO"


def examine_icns(structure: Structure, check_size: CheckSize) -> None:
    window = ByteWindow(structure.stream)
    position = 8
    for _ in range(_MOST_ICONS):
        length = window.number(position + 4, 4)
        if length is None or length < 8:
            return
        head = window.read(position + 8, 32)
        if head.startswith(_PNG):
            check_size(*struct.unpack_from(">II", head, 16), 4)
        elif head[4:8] == b"jP  " or head[:4] == b"\xff\x4f\xff\x51":
            examine_jpeg2000(ByteWindow(structure.stream, position + 8), check_size)
        position += length


def examine_tiff(structure: Structure, name: str, check_size: CheckSize) -> None:
    window = ByteWindow(structure.stream)
    order = "little" if window.read(0, 2) == b"II" else "big"
    wide = window.number(2, 2, order) == 43
    begin = window.number(8 if wide else 4, 8 if wide else 4, order)
    if window.read(8, 4) == b"CR\x02\x00":
        raise InputError(
            "image_unknown_format", f"{name} is a camera's raw file: develop it to JPEG, PNG or TIFF first"
        )
    count = None if begin is None else window.number(begin, 8 if wide else 2, order)
    if begin is None or count is None or not 0 < count <= _MOST_TAGS:
        raise Damaged
    entry, field = (20, 8) if wide else (12, 4)
    first, tags = begin + (8 if wide else 2), {}
    for at in range(first, first + count * entry, entry):
        tag, kind, items = (
            window.number(at, 2, order),
            window.number(at + 2, 2, order),
            window.number(at + 4, field, order),
        )
        if tag is None or kind is None or items is None:
            raise Damaged
        unit = _TIFF_UNITS.get(kind, 1)
        place: int | None = at + 4 + field
        if items * unit > field:
            place = window.number(at + 4 + field, field, order)
        # Of several values the first: no tag that is asked for here differs between the samples.
        tags[tag] = window.number(place or 0, unit, order), at, items

    def value(tag: int, default: int) -> int:
        told = tags[tag][0] if tag in tags else None
        return default if told is None else told

    if 50706 in tags or (value(254, 0) & 1 and 330 in tags):
        raise InputError(
            "image_unknown_format", f"{name} is a camera's raw file: develop it to JPEG, PNG or TIFF first"
        )
    bits, samples, white_is_zero = value(258, 1), value(277, 1), value(262, 1) == 0
    channels = 1 if bits == samples == 1 else max(3, min(samples, 4))
    check_size(value(256, 0), value(257, 0), channels)
    if 322 in tags or 323 in tags:
        check_size(value(322, 1), value(323, 1), channels)
    planes = samples if value(284, 1) == 2 else 1
    if 324 in tags:
        across, down = value(322, 1) or 1, value(323, 1) or 1
        pieces, listed = -(-value(256, 0) // across) * -(-value(257, 0) // down), tags[324][2]
    else:
        rows = value(278, 0) or value(257, 0)
        pieces, listed = -(-value(257, 0) // rows), tags[273][2] if 273 in tags else 0
    if listed < pieces * planes:
        raise Damaged  # a decoder would leave what has no data black
    if value(339, 1) == 3:
        raise InputError("image_dtype", f"{name} holds floats: convert it to 8-bit or 16-bit levels first")
    if bits in (12, 16) and samples == 1:
        structure.levels = 1 << bits
        structure.white_is_zero = white_is_zero
        if white_is_zero:  # read as black-is-zero by what knows no other, and turned afterwards
            structure.stream = _with_black_zero(structure.stream, tags[262][1] + 4 + field, order)


def _with_black_zero(stream: BufferedIOBase, place: int, order: str) -> io.BytesIO:
    stream.seek(0)
    data = bytearray(stream.read())
    data[place : place + 2] = b"\x01\x00" if order == "little" else b"\x00\x01"
    return io.BytesIO(bytes(data))
