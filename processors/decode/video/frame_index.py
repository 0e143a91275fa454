"""The presentation times of all frames of a video, read from its packets without decoding any."""

from array import array
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from processors.decode.container.timeline import Timeline
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access

# Rounding to the ticks of a container moves a frame by this much, in seconds; more is a variable rate.
_JITTER = 2e-3
_USUAL_RATE = 25.0


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in order of presentation.

    Attributes:
        times: when each comes on, in seconds on the container's clock, repaired where it starts again.
        ticks: the same in the container's own unit; None where it has no trustworthy times, and frames can be told
            by their count only.
        keyframe: whether decoding can start at it.
        end: when the last one goes, in seconds.
        rate: frames a second, on average.
        constant: whether all stay equally long.
        joints: positions in the file at which other files were joined to it.
        packets: how many packets the track has, those among them that are not to be shown.
        parts: stretches of the clock; where there are several, the file is decoded from its start.
    """

    times: Float64[np.ndarray, "total"]
    ticks: Int64[np.ndarray, "total"] | None
    keyframe: Bool[np.ndarray, "total"]
    end: float
    rate: float
    constant: bool
    joints: tuple[int, ...] = ()
    parts: int = 1
    packets: int = 0

    @property
    def total(self) -> int:
        return len(self.times)


def read_frame_index(
    container: Any,
    track: Any,
    beside: Any | None = None,
    joints: tuple[int, ...] = (),
    access: Access = DEFAULT_ACCESS,
) -> FrameIndex | None:
    """Read the packets of a track to the end.

    Args:
        container: at its start.
        track: the video track.
        beside: the audio track, which shares the clock.
        joints: positions in the file at which other files were joined to it.
        access: limits and deadline.

    Returns:
        None where the track holds no frames.

    Raises:
        InputError: `video_too_large`, more frames than the limit.
    """
    # AVI stores no presentation times: what FFmpeg reports is the order of decoding.
    by_count = container.format.name == "avi"
    ticks, keyframe = array("q"), bytearray()
    packets, missing, latest, last_length = 0, 0, -(1 << 63), 0
    timeline = Timeline(container, joints)
    for number, packet in enumerate(container.demux(track if beside is None else [track, beside])):
        if not number % 64:
            access.check()
        if not packet.size:
            continue
        timeline.place(packet)
        if packet.stream.index != track.index:
            continue
        packets += 1
        if packet.is_discard:
            continue
        time = packet.dts if by_count else packet.pts
        missing += time is None
        ticks.append(time or 0)
        keyframe.append(packet.is_keyframe)
        if ticks[-1] >= latest:
            latest, last_length = ticks[-1], packet.duration or 0
        if len(ticks) > access.limits.video_frames:
            raise InputError("video_too_large", f"more than {int(access.limits.video_frames):,} frames")
    if not ticks:
        return None
    stored, keys = np.frombuffer(ticks, np.int64), np.frombuffer(keyframe, bool)
    if (np.diff(stored) < 0).any():
        order = np.argsort(stored, kind="stable")
        stored, keys = stored[order], keys[order]
    clock = stored.astype(np.float64) * float(track.time_base)
    # A clock that stands still for most frames tells nothing of them.
    if missing or (len(stored) > 1 and np.count_nonzero(np.diff(stored)) < len(stored) / 2):
        rate = float(track.guessed_rate or track.average_rate or _USUAL_RATE)
        index = _counted(np.arange(len(stored)) / rate, rate, joints, timeline.parts)
    else:
        index = _timed(track, clock, None if by_count else stored, keys, last_length, joints, timeline.parts)
    return replace(index, packets=packets)


def _counted(times: Float64[np.ndarray, "total"], rate: float, joints: tuple[int, ...], parts: int) -> FrameIndex:
    total = len(times)
    return FrameIndex(times, None, np.zeros(total, bool), total / rate, rate, True, joints, parts)


def _timed(
    track: Any,
    times: Float64[np.ndarray, "total"],
    ticks: Int64[np.ndarray, "total"] | None,
    keyframe: Bool[np.ndarray, "total"],
    last_length: int,
    joints: tuple[int, ...],
    parts: int,
) -> FrameIndex:
    unit, total, span = float(track.time_base), len(times), float(times[-1] - times[0])
    nominal = float(track.average_rate or track.guessed_rate or 0)
    if total == 1:
        rate = nominal or 1 / (last_length * unit or 1)
        return FrameIndex(times, ticks, keyframe, times[0] + 1 / rate, rate, True, joints, parts)
    even = np.linspace(times[0], times[-1], total)
    constant = bool(np.abs(times - even).max() <= max(_JITTER, 1.5 * unit))
    if constant:
        # The nominal rate is exact where the measured one carries the rounding of ticks.
        measured = (total - 1) / span
        rate = nominal if abs(nominal - measured) < 0.01 * measured else measured
        if ticks is None:
            return _counted(np.arange(total) / rate, rate, joints, parts)
        return FrameIndex(times, ticks, keyframe, times[0] + total / rate, rate, True, joints, parts)
    if ticks is None:
        keyframe = np.zeros(total, bool)
    end = times[-1] + (last_length * unit or float(np.median(np.diff(times))))
    return FrameIndex(times, ticks, keyframe, end, total / (end - times[0]), False, joints, parts)
