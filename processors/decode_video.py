"""Any video to the frames that are kept of it, upright and in RGB, one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image

from processors.access import DEFAULT_ACCESS, Access
from processors.av_container import av_module, first_track, open_container
from processors.config import VideoConfig
from processors.cut_short import is_cut_short
from processors.decode_image import MAX_IMAGE_PIXELS, open_image
from processors.errors import InputError
from processors.frame_index import FrameIndex, read_frame_index
from processors.sampling import frame_count, sampled_rate, shown_at, spread
from processors.sources import Source, describe, is_source, open_source

VideoSource = Source | np.ndarray | list | tuple | Any
"""A path, URL, data URI or bytes; an array [frames, height, width, channels]; or a list of images, one a frame."""

# Frames that are decoded in vain rather than skipped by a seek, which empties the decoder's threads.
_SEEK_GAP = 24


@dataclass(frozen=True)
class SampledFrames:
    """The frames kept of a video, decoded as they are asked for.

    Attributes:
        frames: RGB, in order; each may be the one before it again.
        timestamps: when each comes on, in seconds from the first frame of the video.
        fps: frames a second that were really sampled.
        start: time of the video's first frame on the container's clock, in seconds; None where it has none.
        stream: the container, for its sound; None for frames given as such.
    """

    frames: Iterator[Image.Image]
    timestamps: Float64[np.ndarray, "frames"]
    fps: float
    start: float | None = None
    stream: BufferedIOBase | None = None


def load_video(
    source: VideoSource,
    fps: float | int | None = None,
    num_frames: int | None = None,
    config: VideoConfig | None = None,
    *,
    access: Access = DEFAULT_ACCESS,
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Decodes the sampled frames of a video at their own size, all at once; arguments and errors as `open_video`."""
    with open_video(source, config or VideoConfig(), fps, num_frames, access) as sampled:
        return np.stack([np.asarray(frame) for frame in sampled.frames])


@contextmanager
def open_video(
    source: VideoSource,
    config: VideoConfig,
    fps: float | int | None = None,
    num_frames: int | None = None,
    access: Access = DEFAULT_ACCESS,
) -> Iterator[SampledFrames]:
    """Opens a video and chooses its frames.

    Of a file with a constant frame rate, `count` frames are spread evenly over the total; with a variable one, the
    frames on the screen at evenly spaced times are taken. Rotation and mirroring that the file asks for are applied.

    Args:
        source: a path, http(s) URL, base64 data URI or encoded bytes of any container that FFmpeg opens; or frames: an
            array [frames, height, width, channels] or a list of images.
        config: the default fps and the limits of the count.
        fps: of a file, frames a second to sample; of frames, their rate (`config.fps` without it), and all are kept.
        num_frames: how many to sample instead, at least one.
        access: limits, source policy and deadline.

    Raises:
        InputError: `video_unknown_format`, `video_needs_video_extra`, `video_no_track`, `video_unknown_codec`,
            `video_corrupt`, `video_truncated`, `video_too_large`, `video_empty`, `video_shape`, `video_frame_sizes`,
            `video_sampling`, or the codes of `open_source` and `load_image`.
    """
    if not is_source(source):
        yield _from_frames(source, config, fps, num_frames, access)
        return
    name = describe(source)
    with open_source(source, access) as stream:
        if is_cut_short(stream):
            raise InputError("video_truncated", f"{name} is cut short: it ends before its header says")
        with open_container(stream, name, "video") as container:
            track = first_track(container, name, "video")
            index = read_frame_index(container, track)
        if index is None:
            raise InputError("video_empty", f"{name}: its video track holds no frames")
        duration = index.total / index.rate
        count = frame_count(index.total, duration, config, fps, num_frames, index.constant)
        if index.constant:
            ranks = spread(index.total, count, config.to_last_frame)
            # Free of the rounding to a container's ticks, which may show where times are written with one digit.
            times = ranks / index.rate
        else:
            ranks = shown_at(index.times, index.end, count, config.to_last_frame)
            times = index.times[ranks] - index.times[0]
        yield SampledFrames(
            frames=_decode(stream, name, index, ranks),
            timestamps=times,
            fps=sampled_rate(times) if config.to_last_frame else count / duration,
            start=None if index.ticks is None else float(index.times[0]),
            stream=stream,
        )


def _from_frames(
    source: Any, config: VideoConfig, fps: float | int | None, num_frames: int | None, access: Access
) -> SampledFrames:
    if not isinstance(source, list | tuple):
        if not hasattr(source, "__array__"):
            raise InputError("video_unknown_format", f"{describe(source)} is not a path, URL, bytes or frames")
        source = np.asarray(source)
        if source.ndim != 4:
            raise InputError(
                "video_shape", f"frames must be [frames, height, width, channels], not {list(source.shape)}"
            )
    total, rate = len(source), config.fps if fps is None else fps
    if not total:
        raise InputError("video_empty", "the video holds no frames")
    if not 0 < rate < float("inf"):
        raise InputError("video_sampling", f"fps {rate}: needed is a number above 0")
    count = total if num_frames is None else frame_count(total, total / rate, config, None, num_frames)
    ranks = spread(total, count, config.to_last_frame)
    times = ranks / rate
    frames = (open_image(source[rank], access) for rank in ranks)
    return SampledFrames(
        _same_size(frames), times, sampled_rate(times) if config.to_last_frame else count / total * rate
    )


def _same_size(frames: Iterator[Image.Image]) -> Iterator[Image.Image]:
    first = next(frames)
    for frame in chain([first], frames):
        if frame.size != first.size:
            raise InputError("video_frame_sizes", f"frames of one video differ in size: {first.size} and {frame.size}")
        yield frame


def _decode(
    stream: BufferedIOBase, name: str, index: FrameIndex, ranks: Int64[np.ndarray, "frames"]
) -> Iterator[Image.Image]:
    wanted, repeats = np.unique(ranks, return_counts=True)
    with open_container(stream, name, "video") as container:
        track = first_track(container, name, "video")
        track.thread_type = "AUTO"
        pictures = _kept(container, track, index, wanted.tolist(), name)
        for frame, times in zip(pictures, repeats, strict=True):
            picture = _to_rgb(frame, name)
            for _ in range(times):
                yield picture


def _kept(container: Any, track: Any, index: FrameIndex, wanted: list[int], name: str) -> Iterator[Any]:
    """Decoded frames of ascending ranks, jumping over stretches that hold none of them."""
    for start, run in _runs(index, wanted):
        if start:
            container.seek(int(index.ticks[start]), stream=track)  # pyright: ignore[reportOptionalSubscript]
        frames = _ranked(container, track, index, name)
        first = next(frames, None)
        if start and (first is None or first[0] > run[0]):  # the container's own index led astray
            container.seek(int(index.ticks[0]), stream=track)  # pyright: ignore[reportOptionalSubscript]
            frames = _ranked(container, track, index, name)
            first = next(frames, None)
        if first is None:
            raise InputError("video_corrupt", f"{name}: none of its frames can be decoded")
        yield from _on_screen(chain([first], frames), run)


def _runs(index: FrameIndex, wanted: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Splits ranks where a keyframe lies far enough ahead: pairs of the rank to start at and the ranks to take."""
    keyframes = np.flatnonzero(index.keyframe)
    position, start, run = 0, 0, []
    for rank in wanted:
        before = np.searchsorted(keyframes, rank, side="right") - 1
        keyframe = int(keyframes[before]) if before >= 0 else 0
        if keyframe - position >= _SEEK_GAP:
            if run:
                yield start, run
            start, run = keyframe, []
        run.append(rank)
        position = rank
    yield start, run


def _ranked(container: Any, track: Any, index: FrameIndex, name: str) -> Iterator[tuple[int, Any]]:
    """Decodes on from where the container stands: pairs of a rank and a frame, still in the video's own colours."""
    av = av_module("video", name)
    count = 0
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            # A recording may start in the middle of a group of frames; damage after that would leave a hole.
            if count:
                raise InputError("video_corrupt", f"{name}: its video track is damaged") from None
            continue
        for frame in frames:
            if index.ticks is None:
                yield count, frame
            elif frame.pts is not None:
                yield int(np.searchsorted(index.ticks, frame.pts, side="right")) - 1, frame
            count += 1


def _on_screen(frames: Iterator[tuple[int, Any]], wanted: list[int]) -> Iterator[Any]:
    """For each wanted rank the frame of that rank, or where the decoder left it out the one before."""
    waiting = iter(wanted)
    rank_wanted = next(waiting)
    previous = None
    for rank, frame in frames:
        while rank >= rank_wanted:
            yield frame if rank == rank_wanted or previous is None else previous
            rank_wanted = next(waiting, None)
            if rank_wanted is None:
                return
        previous = frame
    for _ in chain([rank_wanted], waiting):
        yield previous


def _to_rgb(frame: Any, name: str) -> Image.Image:
    if frame.width * frame.height > MAX_IMAGE_PIXELS:
        raise InputError(
            "video_too_large", f"{name}: {frame.width} x {frame.height} pixels, the limit is {MAX_IMAGE_PIXELS:,}"
        )
    picture = frame.to_ndarray(format="rgb24")
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is not None:
        picture = _upright(picture, np.frombuffer(bytes(matrix), np.int32))
    return Image.fromarray(np.ascontiguousarray(picture))


def _upright(
    picture: UInt8[np.ndarray, "height width 3"], matrix: np.ndarray
) -> UInt8[np.ndarray, "upright_height upright_width 3"]:
    """Applies a display matrix, a point (x, y) going to (a x + c y, b x + d y), to the nearest right angle."""
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if abs(a) < abs(b):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
