"""The chunks of AVI files, held against what their index and their header promise."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from processors.decode.container.walk import Damaged, Layout, Truncated, Walk
from processors.io.truncation import is_placeholder

_MOVI_NAMES = (b"JUNK", b"LIST", b"indx", b"ix")
_DATA_KINDS = (b"__", b"dc", b"db", b"wb", b"pc", b"tx", b"dd", b"iv", b"sb")
_FRAME_KINDS = (b"__", b"dc", b"db", b"dd", b"iv")
_HEX = set(b"0123456789abcdefABCDEF")
_UNKNOWN_SIZE = 0x7FFF_0000
# What FFmpeg puts for the number of frames where it cannot come back to tell it.
_UNKNOWN_FRAMES = 0x4000_0000


@dataclass
class _Avi:
    """What is there and what is promised.

    Attributes:
        chunks: how many each stream has, without the empty ones.
        frames: the same with the empty ones, which stand for a frame that is shown for longer.
        indexed: how many of each the indices list, without the empty ones.
        streams: headers of streams.
        video: the number of the first video stream.
        filled: frames of the first video stream, without the empty ones.
        promises: numbers of frames in headers.
        places: where the chunks begin, without the empty ones.
        listed: where they begin as the indices have it, from any one place on.
        indices: stretches of the indices.
    """

    chunks: Counter[int] = field(default_factory=Counter)
    frames: Counter[int] = field(default_factory=Counter)
    indexed: Counter[int] = field(default_factory=Counter)
    streams: int = 0
    video: int | None = None
    filled: int = 0
    promises: dict[bytes, int] = field(default_factory=dict)
    places: array = field(default_factory=lambda: array("q"))
    listed: list[np.ndarray] = field(default_factory=list)
    indices: list[tuple[int, int]] = field(default_factory=list)


def walk_avi(walk: Walk) -> Layout:
    """Walk every chunk, and compare their number with the index, or with the header where no index lists them all."""
    place, joints, avis = 0, [], [_Avi()]
    moved = False
    while place + 12 <= walk.length:
        if not _is_name(walk.read(place, 4)) and _is_name(walk.read(place - 1, 4)):
            place -= 1  # some writers forget the byte that makes a size even
        kind, size, form = walk.read(place, 4), walk.number(place + 4, 4, "little"), walk.read(place + 8, 4)
        if not _is_name(kind):
            if moved:  # what follows the movie, which no player reads
                break
            raise Damaged(f"no chunk begins at byte {place:,}")
        if kind == b"RIFF":
            if form == b"AVI " and place:
                joints.append(place)
                avis.append(_Avi())
            place += 12
        elif kind == b"LIST" and form == b"movi":
            known, moved = 0 < size < _UNKNOWN_SIZE, True
            place = _walk_movi(walk, avis[-1], place + 12, place + 8 + size if known else walk.length, known)
        elif kind == b"LIST" and form in (b"hdrl", b"strl", b"odml"):
            place += 12
        else:
            _read_promise(walk, avis[-1], kind, place + 8, min(size, walk.length - place - 8))
            place += 8 + size + size % 2
    if not moved:
        raise Truncated
    for avi in avis:
        _check(avi)
    layout = Layout(joints=joints, frames=sum(avi.filled for avi in avis))
    if not joints and avis[0].indices and not _is_right(avis[0]):
        # FFmpeg would follow it, and leave out what it does not list.
        ends = [0, *(at for stretch in avis[0].indices for at in stretch), walk.length]
        layout.pieces += zip(ends[::2], ends[1::2], strict=True)
    return layout


def _is_right(avi: _Avi) -> bool:
    """Whether the indices list every chunk, each at its place from the start of the file or of its movie on."""
    places, listed = np.frombuffer(avi.places, np.int64), np.sort(np.concatenate(avi.listed))
    if len(listed) < len(places):
        # In an extended file it lists the chunks of the first part alone.
        places = places[: len(listed)] if b"dmlh" in avi.promises else places
    return len(listed) == len(places) and len(np.unique(listed - places)) <= 1


def _check(avi: _Avi) -> None:
    for number, listed in avi.indexed.items():
        if listed > avi.chunks[number]:
            raise Damaged(f"its index lists {listed:,} frames, and {avi.chunks[number]:,} are there")
    if avi.streams and max(avi.chunks, default=0) >= avi.streams:
        raise Damaged(f"it has chunks of a stream {max(avi.chunks)}, and the headers of {avi.streams}")
    # An index of every chunk is right about their number, whatever the header says.
    if avi.video is None or avi.indexed[avi.video] == avi.chunks[avi.video] > 0:
        return
    # That of the whole file is in the extended header; the first part's alone in the main one.
    total = avi.promises.get(b"dmlh") or avi.promises.get(b"avih")
    known = [number for number in (total, avi.promises.get(b"strh")) if number]
    there = avi.frames[avi.video]
    if known and min(known) > there:
        raise Damaged(f"its header promises {min(known):,} frames, and {there:,} are there")


def _read_promise(walk: Walk, avi: _Avi, kind: bytes, body: int, size: int) -> None:
    at = {b"avih": 16, b"dmlh": 0, b"strh": 32}.get(kind)
    if kind == b"idx1":
        _read_index(walk, avi, body, size)
    if at is None or size < at + 4:
        return
    if kind == b"strh":
        avi.streams += 1
        if avi.video is not None or walk.read(body, 4) not in (b"vids", b"iavs"):
            return
        avi.video = avi.streams - 1
    number = walk.number(body + at, 4, "little")
    avi.promises[kind] = 0 if is_placeholder(number) or number == _UNKNOWN_FRAMES else number


def _walk_movi(walk: Walk, avi: _Avi, place: int, end: int, known: bool) -> int:
    while place + 8 <= end:
        if not _is_movi_chunk(walk.read(place, 4)) and _is_movi_chunk(walk.read(place - 1, 4)):
            place -= 1
        kind, size = walk.read(place, 4), walk.number(place + 4, 4, "little")
        if not known and kind in (b"idx1", b"RIFF"):
            return place
        if not _is_movi_chunk(kind):
            raise Damaged(f"no chunk begins at byte {place:,}")
        if kind == b"LIST":
            place += 12
            continue
        if kind[2:] in _DATA_KINDS and kind[:2].isdigit():
            avi.chunks[int(kind[:2])] += size > 0
            if size:
                avi.places.append(place)
            avi.frames[int(kind[:2])] += kind[2:] in _FRAME_KINDS
            avi.filled += size > 0 and kind[2:] in _FRAME_KINDS and int(kind[:2]) == avi.video
        place += 8 + size + size % 2
        if place > end + 1:
            raise Truncated
    return end + end % 2 if known else place


def _is_name(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= byte < 127 for byte in kind) and kind.strip() != b""


def _is_movi_chunk(kind: bytes) -> bool:
    """Two digits of a stream's number, and two letters of what it is; DV has underscores there."""
    digits, letters = kind[:2], kind[2:].replace(b"_", b"x")
    return kind.startswith(_MOVI_NAMES) or (len(kind) == 4 and set(digits) <= _HEX and letters.isalnum())


def _read_index(walk: Walk, avi: _Avi, start: int, size: int) -> None:
    entries = np.frombuffer(walk.read(start, size // 16 * 16), "<u4").reshape(-1, 4)
    kinds = entries[:, 0] >> 16
    data = np.isin(kinds, [int.from_bytes(kind, "little") for kind in _DATA_KINDS]) & (entries[:, 3] > 0)
    # An entry may stand there twice.
    listed = np.unique(entries[data][:, [2, 0]], axis=0)
    tens, ones = (listed[:, 1] & 0xFF).astype(np.int64) - 48, (listed[:, 1] >> 8 & 0xFF).astype(np.int64) - 48
    digits = (tens >= 0) & (tens < 10) & (ones >= 0) & (ones < 10)
    avi.indexed += Counter((10 * tens + ones)[digits].tolist())
    avi.listed.append(listed[digits, 0].astype(np.int64))
    avi.indices.append((start - 8, min(start + size + size % 2, walk.length)))
