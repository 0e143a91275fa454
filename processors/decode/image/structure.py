"""Structure of PNG, JPEG, WebP, GIF and JPEG 2000 files: what they claim, and whether what they promise is there."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase

from processors.io.byte_window import ByteWindow

_PIECE = 1 << 20
_MOST_CHUNKS = 200_000
_MOST_MARKERS = 4096
_KEPT_CHUNK = 1 << 20
# What decoding asks for beside the critical chunks: the clear colour and what tells the orientation.
_KEPT = {b"tRNS", b"eXIf"}
_KEPT_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
_MOST_SCANS = 500
_END = b"\xff\xd9"
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)

CheckSize = Callable[[int, int, int], None]
"""Refuses a size: takes width, height and bytes a pixel: one of a scan of one bit, three or more of all others."""


class Damaged(Exception):
    """What is promised is not there, or contradicts itself."""


@dataclass
class Structure:
    """What a look into a file told.

    Attributes:
        stream: what to decode.
        plugin: what decodes it.
        levels: how many levels the samples have, where the decoder does not scale them to a whole byte or two.
        white_is_zero: whether the decoder leaves levels that grow darker.
        unfinished: whether the file ends before the mark of its end.
        scan: where the first scan of a JPEG begins.
    """

    stream: BufferedIOBase
    plugin: str
    levels: int | None = None
    white_is_zero: bool = False
    unfinished: bool = False
    scan: int = 0


def examine_png(structure: Structure, check_size: CheckSize) -> None:
    """Checks every chunk that decoding needs, and leaves the others out: profiles and texts may be bombs or damaged."""
    stream = structure.stream
    size = stream.seek(0, 2)
    position, segments, dropped, ended, pixels = 8, [(0, 8)], False, False, False
    for _ in range(_MOST_CHUNKS):
        stream.seek(position)
        header = stream.read(8)
        if len(header) < 8:
            break
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        end = position + 12 + length
        needed = not kind[0] & 0x20
        if end > size and kind == b"IEND":
            break
        if end > size and (needed or not pixels):
            raise Damaged
        if position == 8:
            if kind != b"IHDR" or length < 13:
                raise Damaged
            width, height, depth, colour = struct.unpack(">IIBB", stream.read(10))
            channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
            check_size(width, height, 1 if depth == 1 and colour == 0 else max(3, channels))
            structure.levels = 1 << depth if depth in (1, 2, 4, 16) else None
        keep = end <= size and (needed or _is_wanted(stream, position + 8, kind, length))
        if keep and not _is_intact(stream, position, length):
            if needed:
                raise Damaged
            keep = False
        pixels = pixels or kind == b"IDAT"
        if keep:
            segments.append((position, end))
        dropped = dropped or not keep
        position = end
        if kind == b"IEND":
            ended = True
            break
    else:
        raise Damaged
    if dropped or not ended:
        structure.stream = _joined(stream, segments, b"" if ended else b"\x00\x00\x00\x00IEND\xaeB`\x82")


def _is_wanted(stream: BufferedIOBase, position: int, kind: bytes, length: int) -> bool:
    if length > _KEPT_CHUNK:
        return False
    if kind in _KEPT:
        return True
    stream.seek(position)
    # A text that zlib holds could be any number of megabytes.
    return kind in (b"iTXt", b"tEXt") and stream.read(22).startswith(_KEPT_TEXTS)


def _is_intact(stream: BufferedIOBase, position: int, length: int) -> bool:
    stream.seek(position + 4)
    left, crc = length + 4, 0
    while left > 0:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            return False
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    return crc == int.from_bytes(stream.read(4), "big")


def _joined(stream: BufferedIOBase, segments: list[tuple[int, int]], tail: bytes) -> io.BytesIO:
    out = io.BytesIO()
    for start, end in segments:
        stream.seek(start)
        out.write(stream.read(end - start))
    out.write(tail)
    return out


def examine_jpeg(structure: Structure, check_size: CheckSize) -> None:
    window = ByteWindow(structure.stream)
    position, scan = 2, None
    for _ in range(_MOST_MARKERS):
        header = window.read(position, 4)
        if len(header) < 4 or header[0] != 0xFF:
            raise Damaged
        marker, length = header[1], int.from_bytes(header[2:], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            position += 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = window.read(position + 5, min(length, 64))
            if len(frame) < 5:
                raise Damaged
            height, width, channels = struct.unpack_from(">HHB", frame)
            check_size(width, height, max(3, channels))
            _check_blocks(width, height, frame[6 : 5 + 3 * channels : 3], marker, window.size)
            scan = marker
        if marker == 0xDA:
            break
        if marker == 0xD9 or length < 2:
            raise Damaged
        position += 2 + length
    if scan is None:
        raise Damaged
    structure.scan = position
    if scan in _PROGRESSIVE:
        structure.stream.seek(position)
        data = structure.stream.read()
        end = data.find(_END)
        _check_scans(data[: end if end >= 0 else None])
        _end_image(structure, end < 0)
        return
    structure.stream.seek(max(position, window.size - (1 << 16)))
    if _END not in structure.stream.read():
        _end_image(structure, not _holds(structure.stream, _END, position))


def _check_blocks(width: int, height: int, sampling: bytes, marker: int, size: int) -> None:
    """Checks that a file could hold a code for each block: two bits, or one where the scans share them out."""
    bits = {0xC0: 2, 0xC1: 2, 0xC2: 1}.get(marker, 0)
    across, down = max((byte >> 4 for byte in sampling), default=1), max((byte & 15 for byte in sampling), default=1)
    if not across or not down:
        raise Damaged
    blocks = sum(-(-width * (byte >> 4) // (8 * across)) * -(-height * (byte & 15) // (8 * down)) for byte in sampling)
    if bits * blocks > 8 * size:
        raise Damaged


def _end_image(structure: Structure, unfinished: bool) -> None:
    """Adds the mark of a JPEG's end where it is missing: without it a decoder waits for more, whether or not it is."""
    if unfinished:
        structure.unfinished = True
        structure.stream.seek(0)
        structure.stream = io.BytesIO(structure.stream.read() + _END)


def _check_scans(data: bytes) -> None:
    """Checks the scans of a progressive image: each goes over the whole of it, and together they give every bit."""
    finest: dict[tuple[int, int], int] = {}
    for number, start in enumerate(re.finditer(b"\xff\xda", data)):
        header = data[start.end() : start.end() + 20]
        components = header[2] if len(header) > 2 else 0
        if number >= _MOST_SCANS or not 1 <= components <= 4 or len(header) < 6 + 2 * components:
            raise Damaged
        first, last, bits = header[3 + 2 * components : 6 + 2 * components]
        for component in header[3 : 3 + 2 * components : 2]:
            for place in range(first, min(last, 63) + 1):
                finest[component, place] = bits & 15
    components = {component for component, _ in finest}
    if any(finest.get((component, place), 1) for component in components for place in range(64)):
        raise Damaged


def _holds(stream: BufferedIOBase, what: bytes, position: int) -> bool:
    """Whether two bytes stand somewhere behind a position."""
    stream.seek(position)
    last = b""
    while piece := stream.read(_PIECE):
        if what in last + piece[:1] or what in piece:
            return True
        last = piece[-1:]
    return False


def examine_webp(structure: Structure, check_size: CheckSize) -> None:
    window = ByteWindow(structure.stream)
    head = window.read(0, 30)
    if len(head) < 30 or int.from_bytes(head[4:8], "little") + 8 > window.size + 1:  # the last padding may be absent
        raise Damaged
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        channels = 4
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height, channels = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        channels = 3
    else:
        raise Damaged
    check_size(width, height, channels)


def examine_gif(structure: Structure, check_size: CheckSize) -> None:
    window = ByteWindow(structure.stream)
    head = window.read(0, 13)
    if len(head) < 13:
        raise Damaged
    width, height = struct.unpack_from("<HH", head, 6)
    position = 13 + (3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0)
    for _ in range(_MOST_CHUNKS):
        mark = window.read(position, 10)
        if mark[:1] == b"," and len(mark) == 10:
            left, top, across, down = struct.unpack_from("<HHHH", mark, 1)
            check_size(max(width, left + across), max(height, top + down), 3)
            return
        position += 2 if mark[:1] == b"!" else 1
        if mark[:1] not in (b"!", b"\x00"):
            break
        while mark[:1] == b"!" and (length := window.number(position, 1)):
            position += 1 + length
        position += mark[:1] == b"!"
    check_size(width, height, 3)


def examine_jpeg2000(window: ByteWindow, check_size: CheckSize) -> None:
    """Checks the size that the code stream claims: the boxes around it may claim another."""
    head = window.read(0, 1 << 16)
    at = head.find(b"\xff\x4f\xff\x51")
    size = head[at + 8 : at + 44]
    if at < 0 or len(size) < 36:
        raise Damaged
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", size)
    channels = int.from_bytes(size[32:34], "big")
    if not tile_width or not tile_height:
        raise Damaged
    check_size(right - left, bottom - top, max(3, min(channels, 4)))
    if -(-right // tile_width) * -(-bottom // tile_height) > 1 << 16:
        raise Damaged
