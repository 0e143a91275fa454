"""The presentation times of all frames of a video, read from its packets without decoding any."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

# Rounding to the ticks of a container moves a frame by this much, in seconds; more is a variable rate.
_JITTER = 2e-3


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in order of presentation.

    Attributes:
        times: when each comes on, in seconds on the container's clock.
        ticks: the same in the container's own unit; None where it has no trustworthy times, and frames can be told
            by their count only.
        keyframe: whether decoding can start at it.
        end: when the last one goes, in seconds.
        rate: frames a second, on average.
        constant: whether all stay equally long.
    """

    times: Float64[np.ndarray, "total"]
    ticks: Int64[np.ndarray, "total"] | None
    keyframe: Bool[np.ndarray, "total"]
    end: float
    rate: float
    constant: bool

    @property
    def total(self) -> int:
        return len(self.times)


def read_frame_index(container: Any, track: Any) -> FrameIndex | None:
    """Reads the packets of a track to the end; None where there are none."""
    packets = [
        (packet.pts, packet.is_keyframe, packet.duration or 0)
        for packet in container.demux(track)
        if packet.size and not packet.is_discard
    ]
    if not packets:
        return None
    pts = [packet[0] for packet in packets]
    # AVI stores no presentation times: what FFmpeg reports is the order of decoding.
    if container.format.name == "avi" or None in pts or len(set(pts)) < len(pts):
        rate = float(track.guessed_rate or track.average_rate or 25)
        times = np.arange(len(packets)) / rate
        keyframe = np.zeros(len(packets), bool)
        return FrameIndex(times, None, keyframe, len(packets) / rate, rate, True)
    packets.sort(key=lambda packet: packet[0])
    ticks = np.array([packet[0] for packet in packets], np.int64)
    keyframe = np.array([packet[1] for packet in packets], bool)
    unit = float(track.time_base)
    times = ticks * unit
    nominal = float(track.average_rate or track.guessed_rate or 0)
    total, span = len(ticks), times[-1] - times[0]
    if total == 1:
        rate = nominal or 1 / (packets[0][2] * unit or 1)
        return FrameIndex(times, ticks, keyframe, times[0] + 1 / rate, rate, True)
    even = np.linspace(times[0], times[-1], total)
    if np.abs(times - even).max() <= max(_JITTER, 1.5 * unit):
        # The nominal rate is exact where the measured one carries the rounding of ticks.
        measured = (total - 1) / span
        rate = nominal if abs(nominal - measured) < 0.01 * measured else measured
        return FrameIndex(times, ticks, keyframe, times[0] + total / rate, rate, True)
    end = times[-1] + (packets[-1][2] * unit or float(np.median(np.diff(times))))
    return FrameIndex(times, ticks, keyframe, end, total / (end - times[0]), False)
