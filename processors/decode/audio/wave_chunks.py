"""WAV and its relatives (RIFF, RIFX, RF64, BW64, W64): where the samples are, whatever the sizes in the header say."""

import struct
from dataclasses import dataclass, field
from io import BufferedIOBase

from processors.decode.audio.mpeg_frames import mpeg_segments
from processors.decode.audio.segments import AudioSegment, id3_size, truncated
from processors.errors import InputError
from processors.io.splice import Piece
from processors.io.truncation import is_placeholder
from processors.waveform import MAX_CHANNELS, checked_rate

_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_WAVE = b"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_KNOWN = {
    b"data", b"fmt ", b"fact", b"LIST", b"JUNK", b"junk", b"bext", b"cue ", b"smpl", b"inst", b"id3 ", b"ID3 ", b"iXML",
    b"PEAK", b"PAD ", b"FLLR", b"_PMX", b"afsp", b"axml", b"chna", b"ds64", b"plst", b"labl", b"note", b"SNDM", b"acid",
    b"strc", b"DISP", b"levl", b"minf", b"elm1", b"regn", b"umid", b"cart", b"wavl", b"slnt", b"qlty", b"mext", b"LGWV",
}  # fmt: skip
_PCM_TAG, _EXTENSIBLE_TAG = 1, 0xFFFE
_MPEG_TAGS = {0x50, 0x55}
_MOST_RIFF = 0xFFFFFF00


def is_wave(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one of the family."""
    if head[:4] in {b"RIFF", b"RIFX", b"RF64", b"BW64"}:
        return head[8:12] == b"WAVE"
    return head[:16] == _W64 and head[24:40] == _W64_WAVE


@dataclass
class _Wave:
    start: int
    big_endian: bool
    w64: bool
    sizes: dict[bytes, int] = field(default_factory=dict)  # of ds64
    form: bytes = b""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    promised: int = 0  # samples of each channel
    next: int | None = None  # a file laid behind it

    def integer(self, data: bytes) -> int:
        return int.from_bytes(data, "big" if self.big_endian else "little")


def wave_segments(stream: BufferedIOBase, name: str, start: int) -> list[AudioSegment]:
    """Walks the chunks from a position on.

    Returns:
        One segment for each file laid end to end.

    Raises:
        InputError: `audio_truncated`, there is less than the header says; `audio_corrupt` or `audio_empty`.
    """
    end = stream.seek(0, 2)
    segments: list[AudioSegment] = []
    position: int | None = start
    while position is not None:
        wave = _walk(stream, name, position, end)
        segments += _segments(stream, name, wave)
        position = wave.next
    return segments


def _walk(stream: BufferedIOBase, name: str, start: int, end: int) -> _Wave:
    stream.seek(start)
    head = stream.read(40)
    wave = _Wave(start, big_endian=head[:4] == b"RIFX", w64=head[:4] == b"riff")
    position = start + (40 if wave.w64 else 12)
    while position < end and (chunk := _chunk(stream, wave, position, end)) is not None:
        kind, body, size = chunk
        if kind == b"fmt " and not wave.form:
            stream.seek(body)
            wave.form = stream.read(min(size, 1 << 12))
        elif kind == b"ds64":
            stream.seek(body)
            sizes = stream.read(16)
            wave.sizes = {b"data": int.from_bytes(sizes[8:16], "little")}
        elif kind == b"fact" and size >= (8 if wave.w64 else 4):
            stream.seek(body)
            promised = wave.integer(stream.read(8 if wave.w64 else 4))
            wave.promised = promised if promised < 1 << 62 and not (is_placeholder(promised) and not wave.w64) else 0
        elif kind == b"data":
            position = _data(stream, name, wave, body, size, end)
            continue
        elif kind in {b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff"}:
            wave.next = position
            break
        position = _behind(stream, wave, body, size, end)
    return wave


def _chunk(stream: BufferedIOBase, wave: _Wave, position: int, end: int) -> tuple[bytes, int, int] | None:
    """The name, the position of the body and the size of a chunk; None where there is none."""
    stream.seek(position)
    head = stream.read(40)
    if wave.w64:
        if len(head) < 24:
            return None
        size = int.from_bytes(head[16:24], "little")
        if head[:16] == _W64:
            return b"riff", position + 40, 0
        return (head[:4], position + 24, size - 24) if size >= 24 or head[:4] == b"data" else None
    if len(head) < 8:
        return None
    if is_wave(head):
        return head[:4], position + 12, 0
    return head[:4], position + 8, wave.integer(head[4:8])


def _behind(stream: BufferedIOBase, wave: _Wave, body: int, size: int, end: int) -> int:
    """Where the next chunk begins: sizes are padded to 2 bytes, to 8 in W64, and some writers forget it."""
    if wave.w64:
        return body + size + -size % 8
    if size % 2 and body + size + 8 <= end:
        stream.seek(body + size)
        if _plausible(stream.read(4)) and body + size + 1 < end:
            stream.seek(body + size + 1)
            if not _plausible(stream.read(4)):
                return body + size
    return body + size + size % 2


def _plausible(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= byte < 127 for byte in kind)


def _data(stream: BufferedIOBase, name: str, wave: _Wave, body: int, size: int, end: int) -> int:
    """Adds the samples of a data chunk, and gives the position behind it."""
    if wave.sizes.get(b"data") and not wave.w64 and size in (0, 0xFFFFFFFF):
        size = wave.sizes[b"data"]
        unknown = size >= 1 << 62
    else:
        unknown = size <= 0 or size >= 1 << 62 if wave.w64 else is_placeholder(size)
    if unknown and (wave.w64 or size <= 0 or body + size > end):
        chain = size <= 0 and _chain(stream, wave, body, end)
        wave.ranges.append((body, body if chain else end))
        return body if chain else end
    if body + size > end:
        # Some writers put the size of the whole file there.
        if size in (end - wave.start, end - wave.start - 8) and size > end - body:
            wave.ranges.append((body, end))
            return end
        raise truncated(name, f"{end - body:,} of {size:,} bytes of samples are there")
    behind = _behind(stream, wave, body, size, end)
    rest = end - behind
    if rest > 0 and not _chain(stream, wave, behind, end) and not _known_tail(stream, behind, end):
        # A header that was written while the file still grew.
        wave.ranges.append((body, end))
        return end
    wave.ranges.append((body, body + size))
    return behind


def _chain(stream: BufferedIOBase, wave: _Wave, position: int, end: int) -> bool:
    """Whether chunks, or another file, follow here, and nothing else up to the end."""
    first = True
    while position < end:
        chunk = _chunk(stream, wave, position, end)
        if chunk is None or not _plausible(chunk[0]):
            return not first and end - position < 8
        kind, body, size = chunk
        if kind in _KNOWN or kind in {b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff"}:
            return True
        if size < 0 or body + size > end + 1:
            return False
        position, first = _behind(stream, wave, body, size, end), False
    return not first


def _known_tail(stream: BufferedIOBase, position: int, end: int) -> bool:
    """Whether what is behind the samples is a tag or padding."""
    stream.seek(position)
    head = stream.read(1 << 16)
    tag = head[:3] == b"TAG" or head[:8] == b"APETAGEX" or id3_size(head[:10]) > 0
    return tag or not head.strip(b"\0") or end - position < 8


def _segments(stream: BufferedIOBase, name: str, wave: _Wave) -> list[AudioSegment]:
    if len(wave.form) < 16 or not wave.ranges:
        what = "format" if len(wave.form) < 16 else "samples"
        raise truncated(name, f"its chunk of {what} is missing")
    if not any(end > start for start, end in wave.ranges):
        raise InputError("audio_empty", f"{name} holds no samples")
    tag = wave.integer(wave.form[:2])
    checked_rate(wave.integer(wave.form[4:8]))
    channels = wave.integer(wave.form[2:4])
    if not 0 < channels <= MAX_CHANNELS:
        raise InputError("audio_shape", f"{name}: {channels:,} channels, the limit is {MAX_CHANNELS}")
    if tag in _MPEG_TAGS and (segments := mpeg_segments(stream, name, wave.ranges[0][0])):
        return segments
    size = sum(end - start for start, end in wave.ranges)
    # Writers count samples, those of all channels, or bytes; no codec makes more of a byte than of its bits.
    if wave.promised > 8 * size:
        raise truncated(name, f"{size:,} bytes of {wave.promised:,} samples are there")
    wide = _wide_samples(wave, tag, channels)
    order = ">" if wave.big_endian else "<"
    form = wave.form + b"\0" * (len(wave.form) % 2)
    if wide:
        size = size // wide * 4
        rate = wave.integer(wave.form[4:8])
        form = struct.pack(order + "HHIIHH", _PCM_TAG, channels, rate, rate * channels * 4, channels * 4, 32)
    head = b"WAVEfmt " + struct.pack(order + "I", len(form) if wide else len(wave.form)) + form
    if size < _MOST_RIFF:
        outer = struct.pack(order + "I", len(head) + 8 + size)
        start = (b"RIFX" if wave.big_endian else b"RIFF") + outer + head + b"data" + struct.pack(order + "I", size)
    else:
        sizes = struct.pack("<IQQQI", 28, len(head) + 44 + size, size, 0, 0)
        start = b"RF64" + b"\xff" * 4 + b"WAVEds64" + sizes + head[4:] + b"data" + b"\xff" * 4
    pieces: list[Piece] = [start, *wave.ranges]
    return [AudioSegment(pieces, wide=wide, big_endian=wave.big_endian)]


def _wide_samples(wave: _Wave, tag: int, channels: int) -> int:
    """Bytes of a sample of integers wider than 32 bits; 0 for all else."""
    width, rest = divmod(wave.integer(wave.form[12:14]), channels)
    integers = tag == _PCM_TAG or (tag == _EXTENSIBLE_TAG and wave.integer(wave.form[24:26]) == _PCM_TAG)
    bits = wave.integer(wave.form[14:16])
    return width if integers and not rest and 4 < width <= 8 and 8 * width - 7 <= bits <= 8 * width else 0
