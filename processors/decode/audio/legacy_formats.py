"""VOC, 8SVX, NIST Sphere and AVR: their sizes held against what is there, which libsndfile leaves alone."""

import re
from io import BufferedIOBase

from processors.decode.audio.segments import truncated
from processors.io.truncation import is_placeholder

_NIST_FIELD = re.compile(rb"(sample_count|channel_count|sample_n_bytes) -i (\d{1,12})\s")


def check_legacy(stream: BufferedIOBase, name: str, start: int) -> None:
    """Raise if one of these files ends before its header says.

    Raises:
        InputError: `audio_truncated`.
    """
    end = stream.seek(0, 2)
    stream.seek(start)
    head = stream.read(1024)
    if head[:4] == b"FORM" and head[8:12] in {b"8SVX", b"16SV"}:
        needed = _svx(stream, start, end)
    elif head[:7] == b"NIST_1A":
        needed = _nist(start, head)
    elif head[:19] == b"Creative Voice File":
        needed = _voc(stream, start, end, head)
    elif head[:4] == b"2BIT":
        width = int.from_bytes(head[14:16], "big") // 8 * (2 if head[12:14] == b"\xff\xff" else 1)
        needed = start + 128 + int.from_bytes(head[26:30], "big") * width
    else:
        return
    if needed > end:
        raise truncated(name, f"{needed - end:,} bytes of its samples are missing")


def _svx(stream: BufferedIOBase, start: int, end: int) -> int:
    position, promised = start + 12, 0
    while position + 8 <= end:
        stream.seek(position)
        head = stream.read(8)
        size = int.from_bytes(head[4:], "big")
        if head[:4] == b"VHDR":
            fields = stream.read(16)
            packed = fields[15:16] == b"\1"  # two samples in a byte
            promised = (int.from_bytes(fields[:4], "big") + int.from_bytes(fields[4:8], "big")) >> packed
        if head[:4] == b"BODY" and is_placeholder(size):
            return 0
        if head[:4] == b"BODY":
            size = max(size, promised)
        position += 8 + size + (size % 2 if head[:4] != b"BODY" else 0)
        if head[:4] == b"BODY":
            break
    return position


def _nist(start: int, head: bytes) -> int:
    fields = {match[1]: int(match[2]) for match in _NIST_FIELD.finditer(head)}
    # Compressed samples are of any size.
    if b"shorten" in head or b"wavpack" in head or b"shortpack" in head or len(fields) < 3:
        return 0
    size = head[8:16].strip()
    return (
        start
        + (int(size) if size.isdigit() else 1024)
        + fields[b"sample_count"] * (fields[b"channel_count"] * fields[b"sample_n_bytes"])
    )


def _voc(stream: BufferedIOBase, start: int, end: int, head: bytes) -> int:
    """Walks the blocks up to the one that ends the file, or that is the first without an end."""
    position = start + int.from_bytes(head[20:22], "little")
    while position < end:
        stream.seek(position)
        block = stream.read(4)
        if block[:1] == b"\0":
            return position + 1
        size = int.from_bytes(block[1:], "little")
        if len(block) < 4 or size in (0, 0xFFFFFF):
            return 0
        position += 4 + size
    # Many writers leave the end out.
    return position
