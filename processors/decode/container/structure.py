"""Whether a video container holds what its own structure promises: FFmpeg steps over holes without a word.

Only the structure tells: sizes, chunk names, counters. A long time without a frame is no hole.
"""

from collections.abc import Callable
from io import BufferedIOBase

import numpy as np

from processors.decode.container.avi import walk_avi
from processors.decode.container.format import MATROSKA, MOV, container_format
from processors.decode.container.matroska import walk_matroska
from processors.decode.container.transport_stream import walk_transport
from processors.decode.container.walk import Damaged, Layout, Truncated, Walk
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.splice import splice
from processors.io.truncation import is_truncated

# AVC and HEVC, whose packets say what they are.
_FLV_PACKET_CODECS = {7, 12}
_FLV_TAGS = {8, 9, 15, 18}
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def check_structure(
    stream: BufferedIOBase, name: str, kind: str = "video", access: Access = DEFAULT_ACCESS
) -> tuple[BufferedIOBase, tuple[int, ...], int]:
    """Walk a container of a known format from its start to its end, and leave the stream at its start.

    Args:
        stream: seekable.
        name: what messages call it.
        kind: `audio` or `video`, the first word of the codes.
        access: deadline.

    Returns:
        A stream of what FFmpeg is to read, the one passed but for headers that it would take for the end; and positions
        in it at which further files of the same format were joined to the first; and how many frames at least its
        first video track has, 0 where the structure does not tell.

    Raises:
        InputError: `<kind>_truncated`, it ends before its structure says; `<kind>_corrupt`, something is missing or
            damaged on the way.
    """
    demuxer = container_format(stream) or ""
    try:
        if is_truncated(stream):
            raise Truncated
        layout = _WALKS[demuxer](Walk(stream, access)) if demuxer in _WALKS else None
        if layout is None:
            return stream, (), 0
        spliced = splice(stream, layout.pieces) if layout.pieces else stream
        return spliced, tuple(layout.joints), 0 if layout.joints else layout.frames
    except Truncated:
        raise InputError(f"{kind}_truncated", f"{name} is cut short: it ends before its structure says") from None
    except Damaged as damage:
        raise InputError(f"{kind}_corrupt", f"{name} is damaged: {damage}") from None
    finally:
        stream.seek(0)


def _walk_mov(walk: Walk) -> None:
    """The movie header tells where everything lies: without it nothing can be read, and of two one is ignored."""
    place, kinds = 0, []
    while place + 8 <= walk.length:
        size, kind = walk.number(place, 4), walk.read(place + 4, 4)
        if size == 1:
            size = walk.number(place + 8, 8)
        size = walk.length - place if size == 0 else size
        if size < 8 or not kind.isascii() or not kind.decode().isprintable():
            if b"moov" in kinds:  # what follows a movie, which no player reads
                break
            raise Damaged(f"no box begins at byte {place:,}")
        kinds.append(kind)
        place += size
    if b"moov" not in kinds and b"meta" not in kinds:
        raise Truncated
    if kinds.count(b"moov") > 1:
        raise Damaged("files are laid end to end, of which the first alone could be read: join them with ffmpeg")


def _walk_flv(walk: Walk) -> Layout:
    """Leave out further headers, which FFmpeg would take for the end."""
    start, place, layout, codec = 0, walk.number(5, 4) + 4, Layout(), None
    while place + 11 <= walk.length:
        head = walk.read(place, 11)
        if head[:4] == b"FLV\x01":
            layout.pieces.append((start, place))
            layout.joints.append(layout.length)
            start = place = place + int.from_bytes(head[5:9], "big") + 4
            continue
        size = int.from_bytes(head[1:4], "big")
        # Always 0, but for writers that number streams; those tell the size right.
        numbered = head[8:11] != b"\0\0\0" and walk.number(place + 11 + size, 4) != 11 + size
        if head[0] & 0x1F not in _FLV_TAGS or numbered:
            raise Damaged(f"no tag begins at byte {place:,}")
        if head[0] & 0x1F == 9 and size:
            codec, frame = _check_video_tag(walk, place + 11, size, codec)
            layout.frames += frame
        if head[0] & 0x1F == 18:
            _check_file_size(walk, place + 11, size)
        place += 11 + size + 4
    # The last tag's own size may be missing behind it.
    if place > walk.length + 4 or 4 < walk.length - place:
        raise Truncated
    if layout.pieces:
        layout.pieces.append((start, walk.length))
    return layout


def _check_video_tag(walk: Walk, start: int, size: int, codec: int | None) -> tuple[int | None, bool]:
    """Refuse another codec, or a header that is none: players skip these. Gives the codec, and if it is a frame."""
    first, packet, *rest = walk.read(start, 6).ljust(6, b"\0")
    if first >> 4 & 7 == 5 and size <= 5:  # a command
        return codec, False
    newer = first & 0x80 > 0
    mine = -1 if newer else first & 15
    damaged = first >> 4 & 7 == 5 or (codec is not None and mine != codec)
    if mine in _FLV_PACKET_CODECS:
        header, end = packet == 0 and (rest[3] == 1 or mine == 12), packet == 2 and size <= 5
        damaged = damaged or not (packet == 1 or header or end)
    if damaged:
        raise Damaged(f"no video begins at byte {start:,}")
    return mine, not newer and size > 5 and (packet == 1 or mine not in _FLV_PACKET_CODECS)


def _check_file_size(walk: Walk, start: int, size: int) -> None:
    script = walk.read(start, min(size, 1 << 16))
    key = b"\0\x08filesize\0"
    place = script.find(key)
    value = script[place + len(key) : place + len(key) + 8]
    if place >= 0 and len(value) == 8 and np.frombuffer(value, ">f8")[0] > walk.length:
        raise Truncated


def _walk_asf(walk: Walk) -> None:
    end, place = walk.number(16, 8, "little"), 30
    packet_size = live = 0
    while place + 24 <= min(end, walk.length):
        size = walk.number(place + 16, 8, "little")
        if walk.read(place, 16) == _ASF_FILE:
            live, least, packet_size = (walk.number(place + at, 4, "little") for at in (88, 92, 96))
            packet_size *= least == packet_size
        if size < 24:
            return
        place += size
    if walk.read(end, 16) != _ASF_DATA:
        return
    size, packets = walk.number(end + 16, 8, "little"), walk.number(end + 40, 8, "little")
    if live & 1:
        return
    if end + size > walk.length or (packet_size and end + 50 + packets * packet_size > walk.length):
        raise Truncated
    if packet_size and packets:
        _check_packets(walk, end + 50, packet_size, packets)


def _check_packets(walk: Walk, start: int, size: int, count: int) -> None:
    """Every packet begins with the same three bytes of error correction, where the first one has them."""
    first = walk.read(start, 3)
    if first != b"\x82\0\0":
        return
    step = max(1, (1 << 20) // size)
    for number in range(0, count, step):
        block = np.frombuffer(walk.read(start + number * size, min(step, count - number) * size), np.uint8)
        if (block.reshape(-1, size)[:, :3] != np.frombuffer(first, np.uint8)).any():
            raise Damaged("packets are missing in its middle")


def _walk_ogg(walk: Walk) -> None:
    """Pages of each logical stream are numbered."""
    place, numbers = 0, {}
    while place + 27 <= walk.length:
        head = walk.read(place, 27)
        if head[:4] != b"OggS":
            raise Damaged(f"no page begins at byte {place:,}")
        serial, number = head[14:18], int.from_bytes(head[18:22], "little")
        # A recording of a broadcast has the headers, and then pages from where it began.
        if numbers.get(serial, 0) > 2 and number != numbers[serial] + 1 and not head[5] & 2:
            raise Damaged("pages are missing in its middle")
        numbers[serial] = number
        lacing = walk.read(place + 27, head[26])
        place += 27 + len(lacing) + sum(lacing)
    if place > walk.length:
        raise Truncated


_WALKS: dict[str, Callable[[Walk], Layout | None]] = {
    MOV: _walk_mov,
    MATROSKA: walk_matroska,
    "avi": walk_avi,
    "flv": _walk_flv,
    "asf": _walk_asf,
    "ogg": _walk_ogg,
    "mpegts": walk_transport,
}
