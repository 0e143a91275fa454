"""AIFF, AIFF-C, AU and CAF: their sizes held against what is there, and set right where a writer left them open."""

from io import BufferedIOBase

from processors.audio_segments import AudioSegment, truncated
from processors.errors import InputError
from processors.splice import Piece
from processors.truncation import is_placeholder

# Bytes a sample of AIFF-C's kinds; a packet of ima4 holds 64 samples of a channel in 34.
_WIDTHS = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"raw ": 1}
_AU_UNKNOWN = 0xFFFFFFFF


def iff_segments(stream: BufferedIOBase, name: str, start: int) -> list[AudioSegment] | None:
    """Reads the header at a position.

    Returns:
        The file in one segment, with the sizes as they are; None where the header is of no such file.

    Raises:
        InputError: `audio_truncated`, there is less than the header says; `audio_empty`.
    """
    stream.seek(start)
    head = stream.read(32)
    end = stream.seek(0, 2)
    if head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}:
        pieces = _aiff(stream, name, start, end, head[8:12] == b"AIFC")
    elif head[:4] in {b".snd", b"dns."}:
        pieces = _au(name, start, end, head)
    elif head[:4] == b"caff":
        pieces = _caf(stream, name, start, end)
    else:
        return None
    return [AudioSegment(pieces)]


def _aiff(stream: BufferedIOBase, name: str, start: int, end: int, compressed: bool) -> list[Piece]:
    position = start + 12
    common: tuple[int, bytes] | None = None
    while position + 8 <= end:
        stream.seek(position)
        head = stream.read(8)
        size = int.from_bytes(head[4:], "big")
        body = position + 8
        if head[:4] == b"COMM":
            common = body, stream.read(min(size, 64))
        elif head[:4] == b"SSND":
            empty = size <= 8 and not _is_chunk(stream, body + size)
            if empty or (is_placeholder(size) and body + size > end):
                size = end - body
            if body + size > end:
                raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
            if size <= 8:
                raise InputError("audio_empty", f"{name} holds no samples")
            if common is None:
                # The header may be behind the samples, where the decoder finds it.
                return [(start, end)]
            return _aiff_pieces(stream, start, common, body, size, end, compressed)
        position = body + size + size % 2
    raise truncated(name, "its samples are missing")


def _is_chunk(stream: BufferedIOBase, position: int) -> bool:
    stream.seek(position)
    kind = stream.read(4)
    return len(kind) == 4 and kind.strip().isalnum()


def _aiff_pieces(
    stream: BufferedIOBase, start: int, common: tuple[int, bytes], body: int, size: int, end: int, compressed: bool
) -> list[Piece]:
    """The file with the number of frames that its samples make."""
    at, fields = common
    channels, depth = int.from_bytes(fields[:2], "big"), int.from_bytes(fields[6:8], "big")
    kind = fields[18:22] if compressed else b"NONE"
    width = 34 if kind == b"ima4" else _WIDTHS.get(kind, (depth + 7) // 8)
    if kind in {b"GSM ", b"MAC3", b"MAC6"} or not channels or not width:
        return [(start, end)]
    stream.seek(body)
    offset = int.from_bytes(stream.read(4), "big")
    frames = max(0, size - 8 - offset) // (channels * width)
    whole = body + size
    return [
        (start, start + 4), _four(whole - start - 8), (start + 8, at + 2), _four(frames), (at + 6, body - 4),
        _four(size), (body, whole),
    ]  # fmt: skip


def _four(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "big")


def _au(name: str, start: int, end: int, head: bytes) -> list[Piece]:
    order = "big" if head[:1] == b"." else "little"
    body = start + int.from_bytes(head[4:8], order)
    size = int.from_bytes(head[8:12], order)
    if body >= end:
        raise InputError("audio_empty", f"{name} holds no samples") if size == 0 else truncated(name)
    if body + size > end and not is_placeholder(size):
        raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
    # Nothing stands behind the samples of an AU file: what is there is more of them.
    return [(start, start + 8), min(end - body, _AU_UNKNOWN).to_bytes(4, order), (start + 12, end)]


def _caf(stream: BufferedIOBase, name: str, start: int, end: int) -> list[Piece]:
    position = start + 8
    while position + 12 <= end:
        stream.seek(position)
        head = stream.read(12)
        size = int.from_bytes(head[4:], "big", signed=True)
        body = position + 12
        if head[:4] == b"data":
            if size in (0, -1) or (size == 4 and not _is_chunk(stream, body + 4)):
                size = end - body
            if body + size > end:
                raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
            if size <= 4:
                raise InputError("audio_empty", f"{name} holds no samples")
            return [(start, position + 4), size.to_bytes(8, "big"), (body, end)]
        if size < 0:
            break
        position = body + size
    raise truncated(name, "its samples are missing")
