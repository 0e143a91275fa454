"""AIFF, AIFF-C, AU and CAF: their sizes held against what is there, and set right where a writer left them open."""

from io import BufferedIOBase

import numpy as np

from processors.decode.audio.segments import AudioSegment, truncated
from processors.errors import InputError
from processors.io.splice import Piece
from processors.io.truncation import is_placeholder

# Bytes a sample of AIFF-C's kinds; a packet of ima4 holds 64 samples of a channel in 34.
_WIDTHS = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"raw ": 1}
_AS_WIDE_AS_SAID = {b"NONE", b"twos", b"sowt", b"in24", b"in32", b"42ni", b"23ni"}
_IMA_SAMPLES = 64
_MOST_PACKET_BYTES = 1 << 26
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
    samples: tuple[int, int, bool] | None = None
    while position + 8 <= end and (common is None or samples is None):
        stream.seek(position)
        head = stream.read(8)
        size = int.from_bytes(head[4:], "big")
        body = position + 8
        if head[:4] == b"COMM":
            common = body, stream.read(min(size, 64))
        elif head[:4] == b"SSND" and samples is None:
            empty = size <= 8 and not _is_chunk(stream, body + size)
            unknown = empty or (is_placeholder(size) and body + size > end)
            if unknown:
                size = end - body
            if body + size > end:
                raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
            if size <= 8:
                raise InputError("audio_empty", f"{name} holds no samples")
            samples = body, size, unknown
        position = body + size + size % 2
    if samples is None:
        raise truncated(name, "its samples are missing")
    # Where the header is missing, the decoder tells.
    return [(start, end)] if common is None else _aiff_pieces(stream, name, start, common, samples, end, compressed)


def _is_chunk(stream: BufferedIOBase, position: int) -> bool:
    stream.seek(position)
    kind = stream.read(4)
    return len(kind) == 4 and kind.strip().isalnum()


def _aiff_pieces(
    stream: BufferedIOBase,
    name: str,
    start: int,
    common: tuple[int, bytes],
    samples: tuple[int, int, bool],
    end: int,
    compressed: bool,
) -> list[Piece]:
    """The file with the number of frames that its samples make."""
    at, fields = common
    body, size, unknown = samples
    channels, depth = int.from_bytes(fields[:2], "big"), int.from_bytes(fields[6:8], "big")
    kind = fields[18:22] if compressed else b"NONE"
    plain = (depth + 7) // 8 if kind in _AS_WIDE_AS_SAID else 0
    width = 34 if kind == b"ima4" else _WIDTHS.get(kind, plain)
    if not channels or not width:
        return [(start, end)]
    stream.seek(body)
    offset = int.from_bytes(stream.read(4), "big")
    frames, promised = max(0, size - 8 - offset) // (channels * width), int.from_bytes(fields[2:6], "big")
    # Of packets, some writers count the samples.
    in_samples = kind == b"ima4" and (frames - 1) * _IMA_SAMPLES < promised <= frames * _IMA_SAMPLES
    if promised > frames and not unknown and not in_samples:
        raise truncated(name, f"{frames:,} of {promised:,} frames are there")
    whole = body + size
    resized: list[tuple[int, int, bytes]] = [
        (start + 4, start + 8, _four((whole if at < body else end) - start - 8)),
        (at + 2, at + 6, _four(frames)),
        (body - 4, body, _four(size)),
    ]
    pieces: list[Piece] = []
    position = start
    for first, last, value in sorted(resized):
        pieces += [(position, first), value]
        position = last
    return [*pieces, (position, whole if at < body else end)]


def _four(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "big")


def _au(name: str, start: int, end: int, head: bytes) -> list[Piece]:
    order = "big" if head[:1] == b"." else "little"
    body = start + int.from_bytes(head[4:8], order)
    size = int.from_bytes(head[8:12], order)
    if body >= end:
        raise InputError("audio_empty", f"{name} holds no samples") if is_placeholder(size) else truncated(name)
    if body + size > end and not is_placeholder(size):
        raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
    # Nothing stands behind the samples of an AU file: what is there is more of them.
    return [(start, start + 8), min(end - body, _AU_UNKNOWN).to_bytes(4, order), (start + 12, end)]


def _caf(stream: BufferedIOBase, name: str, start: int, end: int) -> list[Piece]:
    position, layout, packets = start + 8, b"", b""
    samples: tuple[int, int] | None = None
    while position + 12 <= end:
        stream.seek(position)
        head = stream.read(12)
        size = int.from_bytes(head[4:], "big", signed=True)
        body = position + 12
        if head[:4] == b"desc":
            layout = stream.read(32)
        elif head[:4] == b"pakt":
            packets = stream.read(max(0, min(size, _MOST_PACKET_BYTES)))
        elif head[:4] == b"data" and samples is None:
            if size in (0, -1) or (size == 4 and not _is_chunk(stream, body + 4)):
                size = end - body
            if body + size > end:
                raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
            if size <= 4:
                raise InputError("audio_empty", f"{name} holds no samples")
            samples = body, size
        if size < 0:
            break
        position = body + size
    if samples is None:
        raise truncated(name, "its samples are missing")
    body, size = samples
    if len(packets) >= 24 and len(layout) == 32:
        _check_packets(name, layout, packets, size - 4)
    return [(start, body - 8), size.to_bytes(8, "big"), (body, end)]


def _check_packets(name: str, layout: bytes, packets: bytes, size: int) -> None:
    """Hold the table of packets against the samples, and the number of frames against the table."""
    each, frames_each = int.from_bytes(layout[16:20], "big"), int.from_bytes(layout[20:24], "big")
    count, valid = int.from_bytes(packets[:8], "big"), int.from_bytes(packets[8:16], "big")
    table = np.frombuffer(packets[24:], np.uint8)
    if each:
        needed = count * each
    elif np.count_nonzero(table < 128) < count:
        raise truncated(name, f"its table of {count:,} packets is missing")
    else:
        # Sizes in groups of seven bits, of which all but the last have the eighth set.
        ends = np.flatnonzero(table < 128)[:count]
        table = table[: ends[-1] + 1 if count else 0].astype(np.int64)
        behind = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(table))
        needed = int(((table & 127) << np.minimum(7 * behind, 55)).sum())
    if needed > size:
        raise truncated(name, f"{size:,} of {needed:,} bytes of packets are there")
    if frames_each and valid > count * frames_each:
        raise truncated(name, f"{count * frames_each:,} of {valid:,} frames are there")
