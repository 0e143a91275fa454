"""Segments: stretches of an audio file that a decoder reads to a length that was counted, not believed."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from processors.errors import InputError
from processors.io.splice import Piece

_SKIPPED = 1 << 13


@dataclass(frozen=True)
class AudioSegment:
    """A stretch of one sampling rate and number of channels; files laid end to end have several.

    Attributes:
        pieces: the bytes that a decoder is handed.
        samples: how many there are, by counting; None where the decoder tells.
        skipped: samples at the start that are not part of the audio.
        open_end: the decoder's own length is not to be compared with what is read.
        wide: bytes of a sample, where they are more than a decoder takes, and the first of the pieces is the header
            for four.
        big_endian: whether the upper bytes of these come first.
    """

    pieces: list[Piece]
    samples: int | None = None
    skipped: int = 0
    open_end: bool = False
    wide: int = 0
    big_endian: bool = False


def truncated(name: str, what: str = "it ends before its header says") -> InputError:
    """Returns the error for a file that is cut short."""
    return InputError("audio_truncated", f"{name} is cut short: {what}")


def corrupt(name: str, what: str = "it cannot be decoded") -> InputError:
    """Returns the error for a damaged file."""
    return InputError("audio_corrupt", f"{name} is damaged: {what}")


def audio_start(stream: BufferedIOBase) -> int:
    """Returns where the file proper begins, behind ID3v2 tags and zeros."""
    position = 0
    while True:
        stream.seek(position)
        head = stream.read(10)
        if size := id3_size(head):
            position += size
        elif head[:4] == bytes(4) and (zeros := _zeros(stream, position)):
            position += zeros
        else:
            return position


def id3_size(head: bytes) -> int:
    """Returns the size of the ID3v2 tag that begins with these ten bytes, its own header included; 0 for none."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] == 0xFF or max(head[6:10]) > 127:
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + footer + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _zeros(stream: BufferedIOBase, position: int) -> int:
    """The zeros at a position; 0 where the first thing behind them is a size, as in a box of MP4."""
    stream.seek(position)
    count = 0
    while block := stream.read(_SKIPPED):
        rest = block.lstrip(b"\0")
        count += len(block) - len(rest)
        if rest:
            return count if count >= 16 else 0
    return 0


def chunks(stream: BufferedIOBase, start: int, end: int, size: int = 1 << 20, overlap: int = 0) -> Iterator:
    """Yields (position, bytes) of consecutive blocks; each begins `overlap` bytes before the last one's end."""
    position = start
    while position < end:
        stream.seek(position)
        block = stream.read(min(size, end - position))
        yield position, block
        if position + len(block) >= end or not block:
            return
        position += len(block) - overlap
