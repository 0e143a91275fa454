"""Videos handed over as frames: arrays and lists of pictures."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from processors.config import VideoConfig
from processors.decode.image.decoder import open_image
from processors.decode.video.sampled_frames import SampledFrames
from processors.errors import InputError
from processors.frame_sampling import Count, Rate, check_rate, frame_count, sampled_rate, spread
from processors.io.access import Access
from processors.io.sources import describe


def from_frames(
    source: Any, config: VideoConfig, fps: Rate | None, num_frames: Count | None, access: Access
) -> SampledFrames:
    """Sample frames that come as such: a list of whatever `load_image` takes, or one array of them.

    Args:
        source: a list or tuple, or anything that NumPy views as an array: by its own protocol, by DLPack or as a
            buffer.
        config: the default rate and the sampling.
        fps: their rate.
        num_frames: how many to keep; all without it.
        access: limits and deadline.

    Raises:
        InputError: `video_unknown_format`, `video_shape`, `video_empty`, `video_too_large`, `video_frame_sizes`,
            `video_sampling`, or the codes of `load_image`.
    """
    frames = source if isinstance(source, list | tuple) else _as_array(source)
    total, rate = len(frames), config.fps if fps is None else check_rate(fps)
    if not total:
        raise InputError("video_empty", "the video holds no frames")
    count = total if num_frames is None else frame_count(total, total / rate, config, None, num_frames)
    if count > access.limits.sampled_frames:
        limit = int(access.limits.sampled_frames)
        raise InputError("video_too_large", f"{count:,} frames, the limit is {limit:,}: give num_frames")
    ranks = spread(total, count, config.to_last_frame)
    times = ranks / rate
    return SampledFrames(
        frames=_same_size((open_image(frames[rank], access) for rank in ranks), access),
        timestamps=times,
        fps=sampled_rate(times) if config.to_last_frame else count / total * rate,
    )


def _as_array(source: Any) -> np.ndarray:
    try:
        if hasattr(source, "__array__"):
            array = np.asarray(source)
        elif hasattr(source, "__dlpack__"):
            array = np.from_dlpack(source)
        else:
            array = np.asarray(memoryview(source))
    except Exception:  # an array on another device, of another type, or no array at all: anything may be raised
        raise InputError("video_unknown_format", f"{describe(source)} is not a path, URL, bytes or frames") from None
    if array.ndim != 4:
        raise InputError("video_shape", f"frames must be [frames, height, width, channels], not {list(array.shape)}")
    if array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        raise InputError(
            "video_shape",
            f"frames must be [frames, height, width, channels], not channels first as {list(array.shape)}: "
            "move the channels last",
        )
    return array


def _same_size(frames: Iterator[Image.Image], access: Access) -> Iterator[Image.Image]:
    first = next(frames)
    for frame in chain([first], frames):
        access.check()
        if frame.size != first.size:
            raise InputError("video_frame_sizes", f"frames of one video differ in size: {first.size} and {frame.size}")
        yield frame
