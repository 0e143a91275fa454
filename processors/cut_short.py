"""Whether a container ends before its own header says: decoders read such files without a word."""

from io import BufferedIOBase

# What writers put where a length is not known beforehand: 0, or a number about as large as can be.
_UNKNOWN_LENGTH = 0x7FFF_0000


def is_cut_short(stream: BufferedIOBase) -> bool:
    """Compares the lengths in a RIFF, Matroska or ISO (MP4, QuickTime) container with what is there.

    Args:
        stream: seekable; left at its start.

    Returns:
        True where data are missing; False where none are, or where the container does not say.
    """
    length = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(12)
    try:
        if head[:4] == b"RIFF":
            return _riff_is_short(stream, length)
        if head[:4] == b"\x1aE\xdf\xa3":
            return _matroska_is_short(stream, length)
        return head[4:8] in {b"ftyp", b"moov", b"wide", b"free", b"mdat"} and _iso_is_short(stream, length)
    finally:
        stream.seek(0)


def _riff_is_short(stream: BufferedIOBase, length: int) -> bool:
    while len(chunk := stream.read(12)) >= 8:
        size = int.from_bytes(chunk[4:8], "little")
        start = stream.tell() - len(chunk) + 8
        if chunk[:4] == b"data" or (chunk[:4] == b"LIST" and chunk[8:] == b"movi"):
            return 0 < size < _UNKNOWN_LENGTH and start + size > length
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
