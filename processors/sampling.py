"""Which frames of a clip to keep: how many, and which of them are on the screen at evenly spaced times."""

import math

import numpy as np
from jaxtyping import Float64, Int64

from processors.config import VideoConfig
from processors.errors import InputError

_SLACK_SECONDS = 1e-6


def frame_count(
    total: int,
    duration: float,
    config: VideoConfig,
    fps: float | int | None,
    num_frames: int | None,
    constant: bool = True,
) -> int:
    """How many frames to sample, by the rule of Qwen2-VL's video processor or, where frames are spread to the last one,
    of Qwen3-VL's, which knows no multiples of `temporal_patch_size`.

    Args:
        total: frames in the clip.
        duration: of the clip, in seconds.
        config: the default fps, and the limits of the count.
        fps: frames a second to sample, instead of the configured one.
        num_frames: the count itself; by the first rule rounded to a multiple of `temporal_patch_size`.
        constant: whether all frames stay equally long. Where they do not, one may be sampled several times, and the
            count may exceed the total.

    Returns:
        By the first rule a multiple of `temporal_patch_size`, or all frames of a clip that has fewer.

    Raises:
        InputError: `video_sampling`, both are given, or the count is not 1 to `total`, or fps is not positive.
    """
    step = 1 if config.to_last_frame else config.temporal_patch_size
    if num_frames is not None:
        if fps is not None:
            raise InputError("video_sampling", "fps and num_frames are two ways to say one thing: give one of them")
        count = round(num_frames / step) * step
        if not 1 <= num_frames <= total or count > total:
            raise InputError("video_sampling", f"num_frames {num_frames}: the video has {total} frames")
        return max(count, min(step, total))
    fps = config.fps if fps is None else fps
    if not 0 < fps < math.inf:
        raise InputError("video_sampling", f"fps {fps}: needed is a number above 0")
    wanted = max(duration * fps, min(config.min_frames, total))
    wanted = min(wanted, config.max_frames, total if constant else math.inf)
    return math.floor(wanted / step) * step or min(step, total)


def spread(total: int, count: int, to_last: bool = False) -> Int64[np.ndarray, "frames"]:
    """Indices of `count` frames spread evenly over `total`, from the first one on, or from the first to the last."""
    if to_last:
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    return np.arange(count) * total // count


def sampled_rate(times: Float64[np.ndarray, "frames"]) -> float:
    """Frames a second of frames that were spread from the first to the last; of a single one, one."""
    return (len(times) - 1) / float(times[-1] - times[0]) if times[-1] > times[0] else 1.0


def shown_at(
    times: Float64[np.ndarray, "total"], end: float, count: int, to_last: bool = False
) -> Int64[np.ndarray, "frames"]:
    """Indices of the frames on the screen at `count` times spread evenly over the clip; `spread` by the clock.

    Args:
        times: when each frame comes on, ascending, in seconds.
        end: when the last one goes, in seconds.
        count: frames to choose; one that stays long may be chosen several times.
        to_last: whether the last time is when the last frame comes on.
    """
    every = (times[-1] - times[0]) / max(count - 1, 1) if to_last else (end - times[0]) / count
    # The slack keeps rounding from putting a frame that comes on exactly at its time after it.
    ticks = times[0] + np.arange(count) * every + _SLACK_SECONDS
    return np.searchsorted(times, ticks, side="right") - 1
