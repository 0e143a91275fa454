"""Ogg: its pages checked one by one, and chained or multiplexed streams taken apart.

A decoder that meets a damaged or a missing page goes on behind it without a word, and stops where the first stream of a
chain ends.
"""

import zlib
from dataclasses import dataclass, field
from io import BufferedIOBase
from itertools import accumulate, pairwise

from processors.decode.audio.segments import AudioSegment, corrupt, truncated
from processors.errors import InputError
from processors.io.splice import Piece

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# What the first packet of an audio stream begins with, and how many packets of headers there are.
_HEADERS = {b"\x01vorbis": 3, b"OpusHead": 2}
_AUDIO = (*_HEADERS, b"\x7fFLAC", b"Speex   ")
_BOS, _EOS = 2, 4
# Samples at 48 kHz of a frame of Opus: four lengths of each mode of SILK, two of each of the hybrid, four of CELT.
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


@dataclass
class _Logical:
    """One logical stream: the pages of one serial number."""

    first: bytes
    pages: list["_Place"] = field(default_factory=list)
    packets: int = 0
    begun: bytes = b""  # of a packet that goes on in the next page
    jumped: bool = False

    @property
    def headers(self) -> int:
        """How many packets of headers there are."""
        return next((count for kind, count in _HEADERS.items() if self.first.startswith(kind)), 3)


@dataclass(frozen=True)
class _Place:
    """Where a page is, and what it says; `audio` counts the packets that end in it and are no headers."""

    start: int
    end: int
    flags: int
    sequence: int
    granule: int
    audio: int
    samples: int


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    body: bytes


def ogg_segments(stream: BufferedIOBase, name: str, start: int) -> list[AudioSegment] | None:
    """Checks every page from a position on.

    Returns:
        One segment for each link of a chain; None for codecs that only FFmpeg reads.

    Raises:
        InputError: `audio_truncated`, the last page or packet ends early; `audio_corrupt`, a page is damaged or
            missing.
    """
    links: list[dict[int, _Logical]] = []
    beginning = False
    for page in _pages(stream, name, start):
        if page.flags & _BOS:
            if not beginning:
                links.append({})
            links[-1][page.serial] = _Logical(page.body[:8])
        beginning = bool(page.flags & _BOS)
        if not links:
            raise corrupt(name, "its first page is missing")
        logical = links[-1].get(page.serial)
        if logical is not None:
            _add(logical, page, name)
    segments = []
    for link in links:
        audio = next((one for one in link.values() if one.first.startswith(_AUDIO)), None)
        if audio is None:
            continue
        if not audio.first.startswith(tuple(_HEADERS)):
            return None
        if audio.begun:
            raise truncated(name, "its last packet ends early")
        if audio.packets <= audio.headers:
            raise InputError("audio_empty", f"{name} holds no samples")
        # Every page is there and whole: what positions say beyond that is a pause of the sender, and no promise.
        segments.append(AudioSegment(_pieces(stream, audio), open_end=True))
    return segments or None


def _add(logical: _Logical, page: _Page, name: str) -> None:
    if logical.pages and page.sequence != (logical.pages[-1].sequence + 1) & 0xFFFFFFFF:
        # Of a broadcast one gets the headers, and then the pages from when one tuned in.
        if logical.packets > logical.headers:
            raise corrupt(name, "pages are missing")
        logical.jumped = True
    packets, logical.begun = _packets(logical.begun, page)
    logical.packets += len(packets)
    audio = min(len(packets), max(0, logical.packets - logical.headers))
    samples = sum(map(_opus_samples, packets)) if audio and logical.first == b"OpusHead" else 0
    place = _Place(page.start, page.end, page.flags, page.sequence, page.granule, audio, samples)
    logical.pages.append(place)


def _packets(begun: bytes, page: _Page) -> tuple[list[bytes], bytes]:
    """The first bytes of the packets that end in a page, and of the one that does not."""
    packets, at = [], 0
    for size in page.lacing:
        begun = begun or page.body[at : at + 2] or b"\0"
        at += size
        if size < 255:
            packets.append(begun)
            begun = b""
    return packets, begun


def _opus_samples(packet: bytes) -> int:
    code = packet[0] & 3
    frames = packet[1] & 63 if code == 3 and len(packet) > 1 else 2 if code else 1
    return frames * _OPUS_FRAMES[packet[0] >> 3]


def _pieces(stream: BufferedIOBase, logical: _Logical) -> list[Piece]:
    """The pages, the last one marked as such, with positions that a decoder can go by."""
    pages, opus = logical.pages, logical.first == b"OpusHead"
    ending = [place for place in pages if place.audio]
    positions = [place.granule for place in ending]
    # Some writers leave the positions out, and a decoder would stop at the first that it does not believe.
    counted = positions[-1] <= 0 or any(after < before for before, after in pairwise([0, *positions]))
    # A page of Opus ends later than the one before; the last may be cut off whole, and Vorbis begins with a page of 0.
    counted |= opus and any(after == before for before, after in pairwise(positions[:-1]))
    if counted:
        positions = list(accumulate(place.samples for place in ending)) if opus else [-1] * len(ending)
    elif opus and (len(ending) > 1 or not logical.jumped):
        # The last may be earlier than its packets end, which cuts the padding off, and never later.
        most = (positions[-2] if len(positions) > 1 else 0) + ending[-1].samples
        positions[-1] = min(positions[-1], most)
    wanted = dict(zip((place.start for place in ending), positions, strict=True))
    pieces: list[Piece] = []
    for place in pages:
        granule = wanted.get(place.start, place.granule)
        flags = place.flags | (_EOS if place is pages[-1] else 0)
        if (granule, flags) != (place.granule, place.flags):
            pieces.append(_rewritten(stream, place, flags, granule))
        elif pieces and isinstance(previous := pieces[-1], tuple) and previous[1] == place.start:
            pieces[-1] = (previous[0], place.end)
        else:
            pieces.append((place.start, place.end))
    return pieces


def _rewritten(stream: BufferedIOBase, place: _Place, flags: int, granule: int) -> bytes:
    stream.seek(place.start)
    page = bytearray(stream.read(place.end - place.start))
    page[5] = flags
    page[6:14] = granule.to_bytes(8, "little", signed=True)
    page[22:26] = bytes(4)
    page[22:26] = _checksum(bytes(page)).to_bytes(4, "little")
    return bytes(page)


def _pages(stream: BufferedIOBase, name: str, position: int):
    end = stream.seek(0, 2)
    while position < end:
        stream.seek(position)
        head = stream.read(27)
        if head[:4] != b"OggS":
            rest = (head + stream.read(1 << 20)).lstrip(b"\0")
            if b"OggS\0" in rest:
                raise corrupt(name, "bytes between its pages are none")
            if rest and b"OggS".startswith(rest[:4]):
                raise truncated(name, "its last page ends early")
            return
        lacing = stream.read(head[26]) if len(head) == 27 else b""
        size = sum(lacing)
        body = stream.read(size)
        if len(head) < 27 or len(lacing) < head[26] or len(body) < size:
            raise truncated(name, "its last page ends early")
        whole = head + lacing + body
        if _checksum(whole[:22] + bytes(4) + whole[26:]) != int.from_bytes(head[22:26], "little"):
            raise corrupt(name, "the checksum of a page does not fit")
        yield _Page(
            position, position + len(whole), head[5], int.from_bytes(head[6:14], "little", signed=True),
            int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little"), lacing, body,
        )  # fmt: skip
        position += len(whole)


def _checksum(page: bytes) -> int:
    # zlib's polynomial is the same, with the bits of every byte and of the sum mirrored.
    value = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_MIRRORED), "big")
