"""Which frames of a video to keep: how many, and which of them are on the screen at evenly spaced times."""

import math
import numbers
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from processors.config import VideoConfig
from processors.errors import InputError

Rate = float | int | Any
"""Frames a second: a real number of any kind, which is checked by its value."""
Count = int | Any
"""A number of frames or pixels: a whole number of any kind, which is checked by its value."""

_SLACK_SECONDS = 1e-6
# No camera and no screen goes faster; what asks for more is a mistake.
_MAX_RATE = 1e6


def check_rate(fps: Rate) -> float:
    """Return a rate in frames a second as a number.

    Raises:
        InputError: `video_sampling`, it is not a number above 0 and up to a million.
    """
    if _is_number(fps) and 0 < fps <= _MAX_RATE:
        return float(fps)
    raise InputError("video_sampling", f"fps {fps!r:.40}: needed is a number above 0, at most {_MAX_RATE:,.0f}")


def check_count(count: Count, name: str) -> int:
    """Return a number of frames as an integer.

    Raises:
        InputError: `video_sampling`, it is not a whole number above 0.
    """
    if _is_number(count) and 1 <= count < 1 << 62 and count == int(count):
        return int(count)
    raise InputError("video_sampling", f"{name} {count!r:.40}: needed is a whole number above 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool_ | np.complexfloating)


def with_frame_limits(config: VideoConfig, min_frames: Count | None, max_frames: Count | None) -> VideoConfig:
    """Return the settings with the least and the greatest number of sampled frames of one call in place of their own.

    As in qwen-vl-utils, where frames are taken in whole temporal patches, the least is rounded up to one and the
    greatest down. One that is given moves the other, configured one out of its way.

    Raises:
        InputError: `video_sampling`, they are not 1 <= min_frames <= max_frames, or leave no whole temporal patch.
    """
    if min_frames is None and max_frames is None:
        return config
    step = 1 if config.to_last_frame else config.temporal_patch_size
    low = None if min_frames is None else -(-check_count(min_frames, "min_frames") // step) * step
    high = None if max_frames is None else check_count(max_frames, "max_frames") // step * step
    if high is None:
        high = max(config.max_frames, low or 0)
    low = min(config.min_frames, high) if low is None else low
    if not 1 <= low <= high:
        raise InputError(
            "video_sampling",
            f"min_frames {min_frames} and max_frames {max_frames}: needed is min <= max, and at least {step}",
        )
    return replace(config, min_frames=low, max_frames=high)


def frame_count(
    total: int,
    duration: float,
    config: VideoConfig,
    fps: Rate | None,
    num_frames: Count | None,
    constant: bool = True,
) -> int:
    """Return how many frames to sample, by the rule of Qwen2-VL's video processor or, where frames are spread to the
    last one, of Qwen3-VL's, which knows no multiples of `temporal_patch_size`.

    Args:
        total: frames in the video.
        duration: of the video, in seconds.
        config: the default fps, and the limits of the count.
        fps: frames a second to sample, instead of the configured one.
        num_frames: the count itself; by the first rule rounded to a multiple of `temporal_patch_size`.
        constant: whether all frames stay equally long. Where they do not, one may be sampled several times, and the
            count may exceed the total.

    Returns:
        By the first rule a multiple of `temporal_patch_size`, or all frames of a video that has fewer.

    Raises:
        InputError: `video_sampling`, both are given, or the count is not 1 to `total`, or fps is not positive.
    """
    step = 1 if config.to_last_frame else config.temporal_patch_size
    if num_frames is not None:
        if fps is not None:
            raise InputError("video_sampling", "fps and num_frames are two ways to say one thing: give one of them")
        num_frames = check_count(num_frames, "num_frames")
        count = round(num_frames / step) * step
        if not 1 <= num_frames <= total or count > total:
            raise InputError("video_sampling", f"num_frames {num_frames}: the video has {total} frames")
        return max(count, min(step, total))
    fps = config.fps if fps is None else check_rate(fps)
    wanted = max(duration * fps, min(config.min_frames, total))
    wanted = min(wanted, config.max_frames, total if constant else math.inf)
    return math.floor(wanted / step) * step or min(step, total)


def spread(total: int, count: int, to_last: bool = False) -> Int64[np.ndarray, "frames"]:
    """Return indices of `count` frames spread evenly over `total`: from the first on, or from the first to the last."""
    if to_last:
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    return np.arange(count) * total // count


def sampled_rate(times: Float64[np.ndarray, "frames"]) -> float:
    """Return the frames a second of frames that were spread from the first to the last; of a single one, one."""
    return (len(times) - 1) / float(times[-1] - times[0]) if times[-1] > times[0] else 1.0


def shown_at(
    times: Float64[np.ndarray, "total"], end: float, count: int, to_last: bool = False
) -> tuple[Int64[np.ndarray, "frames"], Float64[np.ndarray, "frames"]]:
    """Return the indices of the frames on the screen at `count` times spread evenly; `spread` by the clock.

    Args:
        times: when each frame comes on, ascending, in seconds.
        end: when the last one goes, in seconds.
        count: frames to choose; one that stays long may be chosen several times.
        to_last: whether the last time is when the last frame comes on.

    Returns:
        The indices, and the times of the samples themselves, from the first frame on: a frame that stays is shown at
        all of them.
    """
    every = (times[-1] - times[0]) / max(count - 1, 1) if to_last else (end - times[0]) / count
    samples = np.arange(count) * float(every)
    # The slack keeps rounding from putting a frame that comes on exactly at its time after it.
    return np.searchsorted(times, times[0] + samples + _SLACK_SECONDS, side="right") - 1, samples
