"""The packets of MPEG transport streams, and their continuity counters."""

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from processors.decode.container.walk import Damaged, Walk

_SYNC = 0x47
_SYNCS = 6  # in turn, as where the format is told
_NULL_PID = 0x1FFF
_BLOCK_PACKETS = 8192


def walk_transport(walk: Walk) -> None:
    """Find stretches that were cut out in the middle of a packetised frame.

    A counter may jump where streams were joined, or segments of one: there every track goes on with a new frame.
    A track that goes on in the middle of one has lost some of it.
    """
    shape = _layout(walk)
    if shape is None:
        return
    start, size, before = shape
    counters, media = np.full(1 << 13, -1, np.int64), np.zeros(1 << 13, bool)
    for place in range(start, walk.length - size + 1, size * _BLOCK_PACKETS):
        data = np.frombuffer(walk.read(place, size * _BLOCK_PACKETS), np.uint8)
        packets = data[: len(data) // size * size].reshape(-1, size)[:, before : before + 188]
        if (packets[:, 0] != _SYNC).any():
            first = int(np.argmax(packets[:, 0] != _SYNC))
            if place + (first + 1) * size < walk.length - size:
                raise Damaged(f"no packet begins at byte {place + first * size:,}")
            packets = packets[:first]
        _check_counters(packets, counters, media)


def _layout(walk: Walk) -> tuple[int, int, int] | None:
    """Where the first packet begins, how long packets are, and how many bytes of each come before its sync byte."""
    head = walk.read(0, 1 << 16)
    for size, before in ((188, 0), (192, 4), (204, 0)):
        for start in range(min(size, len(head))):
            places = head[start::size]
            if len(places) > 1 and b"G" * min(len(places), _SYNCS) in places:
                # Packets may be missing among the first as anywhere else.
                first = start + places.index(b"G") * size
                return max(0, first - before), size, min(before, first)
    return None


def _check_counters(
    packets: UInt8[np.ndarray, "packets bytes"], counters: Int64[np.ndarray, "pids"], media: Bool[np.ndarray, "pids"]
) -> None:
    """Compare each packet's counter with the one before; tables may be thinned out, so that only tracks count."""
    pids = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
    carries = (packets[:, 3] & 0x10 > 0) & (pids != _NULL_PID)
    adapted = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0)
    announced = adapted & (packets[:, 5] & 0x80 > 0)
    starts = packets[:, 1] & 0x40 > 0
    payload = np.minimum(4 + np.where(packets[:, 3] & 0x20 > 0, packets[:, 4].astype(np.int64) + 1, 0), 184)
    leads = packets[np.arange(len(packets))[:, None], payload[:, None] + np.arange(3)]
    media[pids[starts & carries & (leads == (0, 0, 1)).all(1)]] = True
    counts = packets[:, 3].astype(np.int64) & 15
    for pid in np.unique(pids[carries]):
        mine = carries & (pids == pid)
        row = counts[mine]
        previous = np.concatenate([[counters[pid]], row[:-1]])
        counters[pid] = row[-1]
        jump = (previous >= 0) & (row != previous + 1 & 15) & (row != previous)
        if media[pid] and _any(jump & ~announced[mine] & ~starts[mine]):
            raise Damaged("packets of its transport stream are missing")


def _any(flags: Bool[np.ndarray, "packets"]) -> bool:
    return bool(flags.any())
