"""Truncation: whether a container ends before its own header says, which decoders read without a word."""

from io import BufferedIOBase


def is_placeholder(size: int) -> bool:
    """Whether a 32-bit size is one that writers put where they do not know it yet.

    0; the largest number with or without a sign, less a header or rounded down; sox's and arecord's own.
    """
    return size == 0 or size >= 0xFFFF0000 or 0x7FFE0000 <= size <= 0x80000000 or size == 0x7F000000


def is_truncated(stream: BufferedIOBase) -> bool:
    """Compares the lengths in an AVI, Matroska or ISO (MP4, QuickTime) container with what is there.

    Files of audio alone are measured where they are read: WAV and its relatives, AIFF, AU, CAF, FLAC, Ogg, MPEG audio.

    Args:
        stream: seekable; left at its start.

    Returns:
        True where data are missing; False where none are, or where the container does not say.
    """
    length = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    try:
        if head[:4] == b"RIFF" and head[8:12] != b"WAVE":
            return _riff_is_short(stream, length)
        if head[:4] == b"\x1aE\xdf\xa3":
            return _matroska_is_short(stream, length)
        return head[4:8] in {b"ftyp", b"moov", b"wide", b"free", b"mdat"} and _iso_is_short(stream, length)
    finally:
        stream.seek(0)


def _riff_is_short(stream: BufferedIOBase, length: int) -> bool:
    stream.seek(12)
    while len(chunk := stream.read(12)) >= 8:
        size = int.from_bytes(chunk[4:8], "little")
        start = stream.tell() - len(chunk) + 8
        if chunk[:4] == b"LIST" and chunk[8:] == b"movi":
            return not is_placeholder(size) and start + size > length
        stream.seek(start + size + size % 2)
    return False


def _matroska_is_short(stream: BufferedIOBase, length: int) -> bool:
    stream.seek(4)
    header = _read_vint(stream)
    if header is None:
        return False
    stream.seek(header, 1)
    if stream.read(4) != b"\x18\x53\x80\x67":
        return False
    segment = _read_vint(stream)
    return segment is not None and stream.tell() + segment > length


def _read_vint(stream: BufferedIOBase) -> int | None:
    """A length in EBML's variable coding, or None for "unknown", all ones."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + stream.read(extra), "big") & ((1 << 7 * (extra + 1)) - 1)
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _iso_is_short(stream: BufferedIOBase, length: int) -> bool:
    position = 0
    while position + 8 <= length:
        stream.seek(position)
        box = stream.read(16)
        size = int.from_bytes(box[:4], "big")
        if size == 1:
            size = int.from_bytes(box[8:16], "big")
        # Only these carry the medium; whatever else trails a file may be rubbish with any length.
        if box[4:8] in {b"mdat", b"moov", b"moof"} and position + size > length:
            return True
        if size < 8:
            return False
        position += size
    return False
