"""The elements of Matroska and WebM files, walked block by block."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from processors.decode.container.walk import Damaged, Layout, Truncated, Walk

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_VOID, _CHECKSUM = 0xEC, 0xBF
# SeekHead, Info, Tracks, Cluster, Cues, Chapters, Attachments, Tags.
_TOP = {
    0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1043A770, 0x1941A469, 0x1254C367, _VOID, _CHECKSUM,
}  # fmt: skip
# Timestamp, SimpleBlock, BlockGroup, PrevSize, Position, SilentTracks, EncryptedBlock.
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, _VOID, _CHECKSUM}
# Tracks, TrackEntry, TrackNumber, TrackType, that of video; Cues, CuePoint, CueTrackPositions, CueClusterPosition.
_TRACKS, _TRACK, _NUMBER, _TYPE, _VIDEO = 0x1654AE6B, 0xAE, 0xD7, 0x83, 1
_CUES, _CUE, _CUE_PLACES, _CUE_CLUSTER = 0x1C53BB6B, 0xBB, 0xB7, 0xF1
_SIMPLE_BLOCK, _GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_LONGEST_HEADER = 12


@dataclass
class _Segment:
    """A segment.

    Attributes:
        size_place: where its size is written.
        start: where its content begins.
        end: where that ends.
        clusters: stretches of them.
        others: stretches of what is none.
        tracks: their numbers; none where they are not told before the clusters.
        video: the number of the first video track; 0 where it is not told before the clusters.
        frames: blocks of it that are not empty.
        cues: where clusters begin, as its index has it.
    """

    size_place: int
    start: int
    end: int = 0
    clusters: list[tuple[int, int]] = field(default_factory=list)
    others: list[tuple[int, int]] = field(default_factory=list)
    tracks: set[int] = field(default_factory=set)
    video: int = 0
    frames: int = 0
    cues: list[int] = field(default_factory=list)


def walk_matroska(walk: Walk) -> Layout:
    """Walk every element; of files that were joined, FFmpeg is to read one segment with the clusters of all."""
    place, segments = 0, []
    while place < walk.length:
        try:
            kind, size, start = _element(walk, place)
        except (Damaged, Truncated):
            if segments:
                break
            raise
        if kind == _SEGMENT:
            segment = _Segment(place + 4, start)
            segment.end = place = _walk_segment(walk, segment, None if size is None else start + size)
            segments.append(segment)
        elif kind == _EBML or (kind in (_VOID, _CHECKSUM) and size is not None):
            place = start + (size or 0)
        elif segments:  # what follows the segment, which no player reads
            break
        else:
            raise Damaged(f"no element begins at byte {place:,}")
    return _as_one(segments) if len(segments) > 1 else Layout(frames=sum(segment.frames for segment in segments))


def _as_one(segments: list[_Segment]) -> Layout:
    first, *others = segments
    width = first.start - first.size_place
    unknown = ((1 << 7 * width + 1) - 1).to_bytes(width, "big")
    layout = Layout([(0, first.size_place), unknown, (first.start, first.end)])
    for segment in others:
        layout.joints.append(layout.length)
        layout.pieces += segment.clusters
    return layout


def _walk_segment(walk: Walk, segment: _Segment, end: int | None) -> int:
    """Walk to the end of a segment of known size, or to where another file begins."""
    if end is not None and end > walk.length:
        raise Truncated
    place = segment.start
    while place < (walk.length if end is None else end):
        kind, size, start = _element(walk, place)
        if end is None and kind == _EBML:
            return place
        if kind not in _TOP:
            raise Damaged(f"no element begins at byte {place:,}")
        if kind == _CLUSTER:
            stop = _walk_cluster(walk, segment, start, None if size is None else start + size)
            segment.clusters.append((place, stop))
        else:
            if size is None:
                raise Damaged(f"the element at byte {place:,} has no size")
            stop = start + size
            segment.others.append((place, stop))
            if kind == _TRACKS:
                _read_tracks(walk, segment, start, stop)
            elif kind == _CUES:
                segment.cues += _numbers(walk, start, stop, _CUE_CLUSTER, (_CUE, _CUE_PLACES))
        if stop > (walk.length if end is None else end):
            raise Truncated
        place = stop
    _check_cues(segment)
    return place


def _check_cues(segment: _Segment) -> None:
    """No cluster that the index lists may lie inside of something else, which would have swallowed it."""
    starts = [place for place, _ in segment.others]
    for cue in segment.cues:
        number = bisect_left(starts, segment.start + cue) - 1
        if number >= 0 and segment.start + cue < segment.others[number][1]:
            raise Damaged(f"its index lists a cluster at byte {segment.start + cue:,}, and none is there")


def _numbers(walk: Walk, place: int, end: int, wanted: int, parents: tuple[int, ...]) -> Iterator[int]:
    """The values of all elements of an id, in any of their parents; what cannot be read is left out."""
    while place < min(end, walk.length):
        try:
            kind, size, start = _element(walk, place)
        except (Damaged, Truncated):
            return
        if size is None:
            return
        if kind in parents:
            yield from _numbers(walk, start, min(end, start + size), wanted, tuple(set(parents) - {kind}))
        elif kind == wanted and size <= 8:
            yield walk.number(start, size)
        place = start + size


def _read_tracks(walk: Walk, segment: _Segment, place: int, end: int) -> None:
    segment.tracks |= set(_numbers(walk, place, end, _NUMBER, (_TRACK,)))
    while place < end and not segment.video:
        kind, size, start = _element(walk, place)
        if size is None:
            return
        place = start + size
        if kind == _TRACK and _VIDEO in _numbers(walk, start, place, _TYPE, ()):
            segment.video = next(_numbers(walk, start, place, _NUMBER, ()), 0)


def _check_block(walk: Walk, segment: _Segment, kind: int, place: int, end: int) -> None:
    """A block of no track, or a group without a block, is what players leave out."""
    if kind == _GROUP:
        while kind != _BLOCK:
            if place >= end:
                raise Damaged(f"the group before byte {end:,} has no block")
            kind, size, start = _element(walk, place)
            if size is None:
                raise Damaged(f"the element at byte {place:,} has no size")
            place, end = (start, start + size) if kind == _BLOCK else (start + size, end)
    head = walk.read(place, 8)
    more = 9 - head[0].bit_length() if head and head[0] else 0
    number = int.from_bytes(head[:more], "big") & ((1 << 7 * more) - 1)
    if not more or (segment.tracks and number not in segment.tracks):
        raise Damaged(f"the block at byte {place:,} is of no track")
    segment.frames += number == segment.video and place + more + 3 < end


def _walk_cluster(walk: Walk, segment: _Segment, place: int, end: int | None) -> int:
    if end is not None and end > walk.length:
        raise Truncated
    while place < (walk.length if end is None else end):
        kind, size, start = _element(walk, place)
        if end is None and (kind in _TOP - {_VOID, _CHECKSUM} or kind == _EBML):
            return place
        if kind not in _IN_CLUSTER or size is None:
            raise Damaged(f"no block begins at byte {place:,}")
        place = start + size
        if kind in (_SIMPLE_BLOCK, _GROUP) and place <= walk.length:
            _check_block(walk, segment, kind, start, place)
        if end is not None and place > end:
            raise Damaged(f"the block before byte {place:,} is longer than its cluster")
    if place > walk.length:
        raise Truncated
    return place


def _element(walk: Walk, place: int) -> tuple[int, int | None, int]:
    """The id, the size (None for unknown) and the start of the content of an element."""
    head = walk.read(place, _LONGEST_HEADER)
    width = 9 - head[0].bit_length() if head and head[0] else 0
    if not 1 <= width <= 4:
        raise Damaged(f"no element begins at byte {place:,}")
    kind, rest = int.from_bytes(head[:width], "big"), head[width:]
    more = 9 - rest[0].bit_length() if rest and rest[0] else 0
    if not more or len(rest) < more:
        raise Truncated if len(head) < _LONGEST_HEADER else Damaged(f"no element begins at byte {place:,}")
    mask = (1 << 7 * more) - 1
    size = int.from_bytes(rest[:more], "big") & mask
    return kind, None if size == mask else size, place + width + more
