"""MPEG audio (MP1, MP2, MP3): its frames counted one by one, since no header need say how many there are.

A decoder that is not told the number guesses it from the size of the first frame, and stops there. Tags, covers and
whatever else is not a frame are left out, and files laid end to end come apart where a header or the format says so.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from io import BufferedIOBase

from processors.decode.audio.segments import AudioSegment, corrupt, id3_size, truncated
from processors.io.splice import Piece

_V1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_V2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# All that size and format depend on; and what the frames of one stream have in common.
_SIZED, _SAME = 0xFFFEFEC0, 0xFFFE0C00
# ... and the number of channels, which makes a stream of its own here.
_KEPT = _SAME | 0xC0
# ... and the bit rate, which is free.
_FREE = _SAME | 0xF0C0
_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff]")
_LONGEST = 1 << 13
_DECODER_DELAY = 529
_BLOCK = 1 << 20
# An empty ID3v2 tag. Without one libsndfile looks for a file named "._" in the working directory before it looks for
# MPEG frames, and takes the medium for what that file says.
_TAG = b"ID3\3\0\0\0\0\0\x0a" + bytes(10)
# Bytes that look like a frame and are none: a picture has a few, and more are made to cost time.
_MOST_MISSES = 20_000


@dataclass(frozen=True)
class _Frame:
    size: int  # 0 for a free bit rate, which no table gives
    samples: int
    rate: int
    channels: int
    layer: int
    padding: int
    side: int  # bytes from the start to the end of the side information


@dataclass
class _Run:
    """Consecutive frames of one format, maybe behind a header frame."""

    first: int
    frame: _Frame
    header: tuple[int, int] | None = None
    promised: int | None = None
    counted: int = 0  # where the header's number of frames is
    delay: int = 0
    native: bool = False  # the decoder understands the header
    count: int = 0
    partial: bool = False
    ranges: list[list[int]] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        self.count += 1
        if self.ranges and self.ranges[-1][1] == start:
            self.ranges[-1][1] = end
        else:
            self.ranges.append([start, end])


class _Bytes:
    """Any stretch of a stream, out of a window that moves on."""

    def __init__(self, stream: BufferedIOBase, end: int):
        self._stream, self.end = stream, end
        self.base, self.block = 0, b""
        self.misses = 0
        self.free = 0  # bytes of a frame of a free bit rate, without its padding

    def at(self, position: int, size: int) -> bytes:
        offset = position - self.base
        if not 0 <= offset <= len(self.block) - size:
            self._stream.seek(position)
            self.base, self.block, offset = position, self._stream.read(max(_BLOCK, size)), 0
        return self.block[offset : offset + size]

    def header(self, position: int) -> int:
        return int.from_bytes(self.at(position, 4), "big") if position + 4 <= self.end else 0


def mpeg_segments(stream: BufferedIOBase, name: str, start: int, search: int = 0) -> list[AudioSegment] | None:
    """Counts the frames from a position on.

    Args:
        stream: seekable.
        name: what messages call it.
        start: where the first frame is.
        search: so many bytes behind it are searched for the first frame.

    Returns:
        One segment for each stream laid end to end; None where no frames begin.

    Raises:
        InputError: `audio_truncated`, a header promises more frames; `audio_corrupt`, bytes between frames.
    """
    data = _Bytes(stream, stream.seek(0, 2))
    first = start if _chained(data, start) else _next_sync(data, start, start + search) if search else None
    if first is None:
        return None
    runs = _runs(data, name, first)
    if not runs:
        return None
    return [_segment(run, name) for run in runs]


@lru_cache(maxsize=4096)
def _parse(header: int) -> _Frame | None:
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    place, column = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or place == 15 or column == 3:
        return None
    rate, padding = _RATES[version][column], header >> 9 & 1
    kilobits = (_V1 if version == 3 else _V2)[layer][place]
    channels = 1 if header >> 6 & 3 == 3 else 2
    samples = 384 if layer == 1 else 1152 if version == 3 or layer == 2 else 576
    side = 4 + ((32, 17)[channels == 1] if version == 3 else (17, 9)[channels == 1])
    padding = 4 * padding if layer == 1 else padding
    size = (12_000 * kilobits // rate * 4 if layer == 1 else samples * 125 * kilobits // rate) + padding
    return _Frame(size if kilobits else 0, samples, rate, channels, layer, padding, side)


def _size(data: _Bytes, position: int, header: int, frame: _Frame) -> int:
    """The frame's size; a free bit rate's is the distance to the next header of the same kind."""
    if frame.size:
        return frame.size
    if data.free and not (data.header(position + data.free + frame.padding) ^ header) & _FREE:
        return data.free + frame.padding
    block = data.at(position, min(_LONGEST, data.end - position))
    for match in _SYNC.finditer(block, frame.side):
        here = match.start()
        if not (int.from_bytes(block[here : here + 4], "big") ^ header) & _FREE:
            data.free = here - frame.padding
            return here
    return len(block) if position + len(block) == data.end else 0


def _chained(data: _Bytes, position: int, wanted: int = 3) -> bool:
    """Whether frames follow one another here, so many of them or up to the end."""
    header = first = data.header(position)
    for number in range(wanted):
        frame = _parse(header & _SIZED)
        if frame is None or (header ^ first) & _SAME:
            # A single frame, and a tag or nothing behind it.
            return number > 0 and (position >= data.end or _tag_size(data, position) > 0)
        size = _size(data, position, header, frame)
        if not size:
            return False
        position += size
        if position > data.end:
            return number > 0
        header = data.header(position)
    return True


def _next_sync(data: _Bytes, position: int, end: int) -> int | None:
    end = min(end, data.end)
    while position < end:
        size = min(_BLOCK, end - position)
        block = data.at(position, size)
        for match in _SYNC.finditer(block):
            here = position + match.start()
            frame = _parse(data.header(here) & _SIZED)
            # A free bit rate is not searched for: bytes by chance would be measured one by one.
            if frame is None or not frame.size:
                continue
            if _chained(data, here):
                return here
            data.misses += 1
            if data.misses > _MOST_MISSES:
                return None
        position += max(1, size - 1)
    return None


def _tag_size(data: _Bytes, position: int) -> int:
    """Bytes of the tag, or of the zeros, at a position; 0 where there is none."""
    head = data.at(position, min(32, data.end - position))
    if size := id3_size(head):
        return size
    if head[:3] == b"TAG":
        return min(227 + 128 if head[:4] == b"TAG+" else 128, data.end - position)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        # The size covers the items and the end; a header in front counts on its own.
        is_header = int.from_bytes(head[20:24], "little") >> 29 & 1
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    if head[:11] == b"LYRICSBEGIN":
        block = data.at(position, min(_BLOCK, data.end - position))
        ends = [block.find(mark) + 9 for mark in (b"LYRICS200", b"LYRICSEND") if mark in block]
        return min(ends, default=len(block))
    if head[:1] == b"\0":
        size = 0
        while block := data.at(position + size, min(_LONGEST, data.end - position - size)):
            zeros = len(block) - len(block.lstrip(b"\0"))
            size += zeros
            if zeros < len(block):
                break
        return size
    return 0


def _runs(data: _Bytes, name: str, position: int) -> list[_Run]:
    runs: list[_Run] = []
    run: _Run | None = None
    while position + 4 <= data.end:
        header = data.header(position)
        frame = _parse(header & _SIZED)
        known = False
        if run is not None and frame is not None:
            known = not (header ^ run.first) & _SAME and bool(frame.size) == bool(run.frame.size)
        # A free bit rate is believed from the start or not at all.
        if frame is None or not (known or ((frame.size or run is None) and _chained(data, position))):
            if tag := _tag_size(data, position):
                position += tag
                continue
            following = _next_sync(data, position + 1, data.end)
            if following is None:
                break
            # What is left of a frame where a file was cut before another was laid behind it is lost anyway.
            if run is not None and following - position >= max(run.frame.size, 24):
                raise corrupt(name, f"{following - position:,} bytes between its frames are none")
            position = following
            continue
        size = _size(data, position, header, frame)
        if not size or position + size > data.end:
            if run is not None:
                run.partial = True
            break
        begun = _header_frame(data, position, size, header, frame)
        if begun is not None:
            runs.append(run := begun)
            position += size
            continue
        if run is None or not known or run.frame.channels != frame.channels:
            runs.append(run := _Run(header, frame))
        run.add(position, position + size)
        position = _follow(data, run, position + size)
    return [run for run in runs if run.count]


def _follow(data: _Bytes, run: _Run, position: int) -> int:
    """Adds the frames that follow inside the window as long as nothing is odd about them, which is nearly always."""
    block, base = data.block, data.base
    at = start = position - base
    most, count, kept = len(block) - _LONGEST, 0, run.first & _KEPT
    headers = run.frame.layer == 3
    side = run.frame.side
    while 0 <= at < most:
        header = int.from_bytes(block[at : at + 4], "big")
        frame = _parse(header & _SIZED)
        if frame is None or not frame.size or header & _KEPT != kept:
            break
        # Numbers in place of audio: looked at closely by the caller.
        mark = block[at + side : at + side + 6]
        if headers and (b"Xing" in mark or b"Info" in mark or block.startswith(b"VBRI", at + 36)):
            break
        at += frame.size
        count += 1
    if count:
        run.add(base + start, base + at)
        run.count += count - 1
    return base + at


def _header_frame(data: _Bytes, position: int, size: int, header: int, frame: _Frame) -> _Run | None:
    """A frame that holds no audio but numbers about those behind it."""
    if frame.layer != 3:
        return None
    body = data.at(position, min(size, 256))
    for at in (frame.side, frame.side + 2):
        if body[at : at + 4] in (b"Xing", b"Info"):
            flags = int.from_bytes(body[at + 4 : at + 8], "big")
            run = _Run(header, frame, (position, position + size), native=True)
            if flags & 1:
                run.promised, run.counted = int.from_bytes(body[at + 8 : at + 12], "big"), position + at + 8
            encoder = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
            if body[encoder : encoder + 1].strip(b"\0") and len(body) >= encoder + 24:
                run.delay = (body[encoder + 21] << 4 | body[encoder + 22] >> 4) + _DECODER_DELAY
            return run
    if body[36:40] == b"VBRI":
        return _Run(header, frame, (position, position + size), int.from_bytes(body[50:54], "big"))
    return None


def _segment(run: _Run, name: str) -> AudioSegment:
    pieces: list[Piece] = [(start, end) for start, end in run.ranges]
    # Some writers count the header frame too.
    if run.promised and run.promised > run.count + (not run.partial):
        raise truncated(name, f"{run.count:,} of {run.promised:,} frames are there")
    if run.native and run.header and run.promised in (run.count, run.count + 1):
        start, end = run.header
        head: list[Piece] = [(start, run.counted), run.count.to_bytes(4, "big"), (run.counted + 4, end)]
        return AudioSegment([_TAG, *head, *pieces])
    # A silent frame of the smallest size before the others: the decoder's guess is too large then, and it reads on.
    frame = run.frame
    skipped = frame.samples + run.delay
    return AudioSegment([_TAG, _silence(run.first), *pieces], max(0, run.count * frame.samples - run.delay), skipped)


def _silence(header: int) -> bytes:
    # No checksum, the lowest bit rate, no padding; everything behind the header is 0.
    header = (header | 0x10000) & 0xFFFF0DFF | 0x1000
    frame = _parse(header & _SIZED)
    assert frame is not None
    return header.to_bytes(4, "big") + bytes(frame.size - 4)
