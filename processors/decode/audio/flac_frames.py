"""FLAC: its frames counted one by one, since the header of what was written to a pipe does not say."""

import re
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np

from processors.decode.audio.segments import AudioSegment, chunks, corrupt, truncated
from processors.errors import InputError
from processors.io.splice import Piece

# A stream laid behind another, whose first block is STREAMINFO, the last block or not.
_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_LONGEST_HEADER = 16
# Bytes inside a frame may look like the header of one, but hardly of one that is not far behind.
_FAR = 4096
_MOST_SAMPLES = (1 << 36) - 1


def _crc8_table() -> bytes:
    table = bytearray(256)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
        table[byte] = value
    return bytes(table)


_CRC8 = _crc8_table()


@dataclass
class _Stream:
    info: bytes  # STREAMINFO, 34 bytes
    frames: int  # where the frames begin
    end: int = 0
    samples: int = 0
    expected: int | None = None  # number of the next frame, or of its first sample
    kind: bytes = b""  # what the headers of all frames have in common
    lost: bool = False

    @property
    def promised(self) -> int:
        return int.from_bytes(self.info[13:18], "big") & _MOST_SAMPLES


def flac_segments(stream: BufferedIOBase, name: str, start: int) -> list[AudioSegment]:
    """Counts the frames of each FLAC stream from a position on.

    Raises:
        InputError: `audio_truncated`, a header promises more samples; `audio_corrupt`, frames are missing or damaged.
    """
    end = stream.seek(0, 2)
    streams = [_open(stream, name, start)]
    for base, block in chunks(stream, start, end, overlap=_LONGEST_HEADER):
        last = base + len(block) == end
        for at in _marks(block):
            position = base + at
            # The same place is in the next block too, with more behind it.
            if position < streams[-1].frames or (not last and at >= len(block) - _LONGEST_HEADER):
                continue
            if block[at : at + 1] == b"f":
                streams[-1].end = position
                streams.append(_open(stream, name, position))
            else:
                _count(streams[-1], block[at : at + _LONGEST_HEADER])
    streams[-1].end = end
    return [_segment(one, name) for one in streams]


def _marks(block: bytes) -> list[int]:
    """Where a frame's first two bytes are, or those of another stream."""
    levels = np.frombuffer(block, np.uint8)
    at = np.flatnonzero(levels[:-1] == 0xFF)
    marks = at[levels[at + 1] & 0xFE == 0xF8].tolist()
    begins = [match.start() for match in _BEGIN.finditer(block)] if b"fLaC" in block else []
    return sorted(marks + begins) if begins else marks


def _open(stream: BufferedIOBase, name: str, position: int) -> _Stream:
    stream.seek(position + 4)
    info = b""
    position += 4
    while True:
        head = stream.read(4)
        if len(head) < 4:
            raise truncated(name)
        size = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 0:
            info = stream.read(34)
        position += 4 + size
        stream.seek(position)
        if head[0] & 0x80:
            break
    if len(info) != 34:
        raise corrupt(name, "it has no stream information")
    return _Stream(info, position)


def _count(stream: _Stream, header: bytes) -> None:
    """Adds a frame's samples if these bytes begin one and it is the next."""
    parsed = _parse(header)
    if parsed is None:
        return
    number, samples, by_sample = parsed
    kind = bytes((header[1], header[2] & 15, header[3] & 15))
    if stream.expected is None or number == stream.expected:
        stream.samples += samples
        stream.expected, stream.kind = number + (samples if by_sample else 1), kind
    elif kind == stream.kind and 0 < number - stream.expected < (_FAR * samples if by_sample else _FAR):
        stream.lost = True


def _parse(header: bytes) -> tuple[int, int, bool] | None:
    """The number, the samples, and whether numbers count samples; None where it is no frame's header."""
    if len(header) < 6:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 15
    channels, depth, reserved = header[3] >> 4, header[3] >> 1 & 7, header[3] & 1
    if size_code == 0 or rate_code == 15 or channels > 10 or depth == 3 or reserved:
        return None
    # The number is written as UTF-8 writes a character, up to 36 bits.
    lead = header[4]
    extra = 0 if lead < 0x80 else 7 - (lead ^ 0xFF).bit_length()
    if extra < 0 or (lead >= 0x80 and extra == 0) or extra > 6:
        return None
    number = lead if extra == 0 else lead & (0x3F >> extra)
    for byte in header[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    at = 5 + extra
    width = {6: 1, 7: 2}.get(size_code, 0)
    coded = int.from_bytes(header[at : at + width], "big") + 1
    at += width + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(header):
        return None
    crc = 0
    for byte in header[:at]:
        crc = _CRC8[crc ^ byte]
    if crc != header[at]:
        return None
    samples = coded if width else 192 if size_code == 1 else 144 << size_code if size_code < 6 else 1 << size_code
    return number, samples, bool(header[1] & 1)


def _segment(stream: _Stream, name: str) -> AudioSegment:
    if stream.promised > stream.samples:
        raise truncated(name, f"{stream.samples:,} of {stream.promised:,} samples are there")
    if stream.lost:
        raise corrupt(name, "frames are missing")
    if not stream.samples:
        raise InputError("audio_empty", f"{name} holds no samples")
    # The number as counted, and no checksum: that of a stream of another length is another's.
    info = bytearray(stream.info)
    info[13:18] = (int.from_bytes(info[13:18], "big") & ~_MOST_SAMPLES | stream.samples).to_bytes(5, "big")
    info[18:34] = bytes(16)
    pieces: list[Piece] = [b"fLaC\x80\x00\x00\x22" + bytes(info), (stream.frames, stream.end)]
    return AudioSegment(pieces, stream.samples)
