"""Any video to the frames that are kept of it, upright and in RGB, one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from processors.config import VideoConfig
from processors.decode.audio.track import track_blocks
from processors.decode.container.pyav import (
    av_module,
    first_track,
    may_end_anywhere,
    maybe_track,
    open_container,
    raise_if_exhausted,
)
from processors.decode.container.structure import check_structure
from processors.decode.container.timeline import Timeline
from processors.decode.image.animation import animation_format, animation_frames, frame_edges
from processors.decode.pool import isolated_video
from processors.decode.video.frame_arrays import from_frames
from processors.decode.video.frame_index import FrameIndex, read_frame_index
from processors.decode.video.frame_to_rgb import FrameConverter
from processors.decode.video.sampled_frames import SampledFrames
from processors.errors import InputError
from processors.frame_sampling import Count, Rate, frame_count, sampled_rate, shown_at, spread
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.sources import Source, describe, is_source, open_source

VideoSource = Source | np.ndarray | list[Any] | tuple[Any, ...] | Any
"""A path, URL, data URI or bytes; an array [frames, height, width, channels]; or a list of images, one a frame."""

# Frames that are decoded in vain rather than skipped by a seek, which empties the decoder's threads.
_SEEK_GAP = 24
# Decoders leave out frames that are not to be shown, but never so many in a row: more is a hole.
_MOST_LEFT_OUT = 32


def load_video(
    source: VideoSource,
    fps: Rate | None = None,
    num_frames: Count | None = None,
    config: VideoConfig | None = None,
    *,
    access: Access = DEFAULT_ACCESS,
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Decode the sampled frames of a video at their own size, all at once; arguments and errors as `open_video`."""
    with open_video(source, config or VideoConfig(), fps, num_frames, access) as sampled:
        count, frames = len(sampled.timestamps), sampled.frames
        first = next(frames)
        _check_total(count, *first.size, access)
        out = np.empty((count, first.height, first.width, 3), np.uint8)
        for place, frame in enumerate(chain([first], frames)):
            out[place] = np.asarray(frame)
        return out


@contextmanager
def open_video(
    source: VideoSource,
    config: VideoConfig,
    fps: Rate | None = None,
    num_frames: Count | None = None,
    access: Access = DEFAULT_ACCESS,
) -> Iterator[SampledFrames]:
    """Open a video and choose its frames.

    Of a file with a constant frame rate, `count` frames are spread evenly over the total; with a variable one, the
    frames on the screen at evenly spaced times are taken, and these times are theirs. Rotation and mirroring that the
    file asks for are applied, transparency is laid on white, frames that change their size on the way get that of the
    first. A clock that starts again, as in files that were joined, goes on.

    Args:
        source: a path, http(s) URL, base64 data URI or encoded bytes of a video container, or of an animated GIF, PNG,
            WebP or AVIF; or frames: an array [frames, height, width, channels] or a list of images.
        config: the default fps and the limits of the count.
        fps: of a file, frames a second to sample; of frames, their rate (`config.fps` without it), and all are kept.
        num_frames: how many to sample instead, at least one.
        access: limits, source policy and deadline, and whether to decode in a process apart.

    Raises:
        InputError: `video_unknown_format`, `video_needs_video_extra`, `video_no_track`, `video_unknown_codec`,
            `video_corrupt`, `video_truncated`, `video_too_large`, `video_empty`, `video_shape`, `video_frame_sizes`,
            `video_sampling`, `decoder_crashed`, `decoder_time`, or the codes of `open_source` and `load_image`.
    """
    if not is_source(source):
        yield from_frames(source, config, fps, num_frames, access)
        return
    name = describe(source)
    with open_source(source, access) as stream:
        if access.isolate:
            with isolated_video(stream, name, config, fps, num_frames, access) as sampled:
                yield sampled
        else:
            yield sample_stream(stream, name, config, fps, num_frames, access)


def sample_stream(
    stream: BufferedIOBase,
    name: str,
    config: VideoConfig,
    fps: Rate | None,
    num_frames: Count | None,
    access: Access,
) -> SampledFrames:
    """Choose the frames of an encoded video in this process; arguments as `open_video`, the stream seekable."""
    if form := animation_format(stream):
        edges, size = frame_edges(stream, form, name, access)
        lengths = np.diff(edges)
        index = FrameIndex(
            times=edges[:-1],
            ticks=None,
            keyframe=np.zeros(len(lengths), bool),
            end=float(edges[-1]),
            rate=len(lengths) / float(edges[-1]),
            constant=bool(np.ptp(lengths) < 1e-6),
        )
        ranks, times, rate = _choose(index, config, fps, num_frames, access)
        return SampledFrames(animation_frames(stream, form, ranks, name, access), times, rate, size=size)
    container_stream, joints, least = check_structure(stream, name, "video", access)
    with open_container(container_stream, name, "video", access) as container:
        track = first_track(container, name, "video", access)
        size = (track.codec_context.width, track.codec_context.height)
        index = read_frame_index(container, track, maybe_track(container, "audio"), joints, access)
    if index is None:
        raise InputError("video_empty", f"{name}: its video track holds no frames")
    if index.packets < least:
        raise InputError("video_corrupt", f"{name}: {least - index.packets:,} of {least:,} frames cannot be read")
    ranks, times, rate = _choose(index, config, fps, num_frames, access)
    start = None if index.ticks is None else float(index.times[0])
    return SampledFrames(
        frames=_decode(container_stream, name, index, ranks, access),
        timestamps=times,
        fps=rate,
        start=start,
        size=size,
        audio=lambda rate: track_blocks(stream, name, rate, start, access),
    )


def _choose(
    index: FrameIndex, config: VideoConfig, fps: Rate | None, num_frames: Count | None, access: Access
) -> tuple[Int64[np.ndarray, "frames"], np.ndarray, float]:
    """The ranks of the frames to keep, when they are shown, and their rate."""
    duration = index.total / index.rate
    count = frame_count(index.total, duration, config, fps, num_frames, index.constant)
    if count > access.limits.sampled_frames:
        limit = int(access.limits.sampled_frames)
        raise InputError("video_too_large", f"{count:,} frames to sample, the limit is {limit:,}")
    if index.constant:
        ranks = spread(index.total, count, config.to_last_frame)
        # Free of the rounding to a container's ticks, which may show where times are written with one digit.
        times = ranks / index.rate
    else:
        ranks, times = shown_at(index.times, index.end, count, config.to_last_frame)
    return ranks, times, sampled_rate(times) if config.to_last_frame else count / duration


def _check_total(count: int, width: int, height: int, access: Access) -> None:
    """Bound frames that are held all at once as tokens bound them elsewhere: 32 x 32 pixels and two frames make one."""
    most = int(access.limits.media_tokens) * 2 * 32 * 32
    if count * width * height > most:
        raise InputError(
            "video_too_large",
            f"{count:,} frames of {width} x {height} pixels at once, the limit is {most:,} pixels: sample fewer",
        )


def _decode(
    stream: BufferedIOBase, name: str, index: FrameIndex, ranks: Int64[np.ndarray, "frames"], access: Access
) -> Iterator[Image.Image]:
    wanted, repeats = np.unique(ranks, return_counts=True)
    with open_container(stream, name, "video", access) as container:
        track = first_track(container, name, "video", access)
        track.thread_type = "AUTO"
        first, to_rgb = None, FrameConverter(container.size, name, access)
        for frame, times in zip(_kept(container, track, index, wanted.tolist(), name, access), repeats, strict=True):
            picture = to_rgb(frame)
            first = first or picture.size
            if picture.size != first:
                picture = picture.resize(first, Image.Resampling.BICUBIC)
            for _ in range(times):
                yield picture


def _kept(container: Any, track: Any, index: FrameIndex, wanted: list[int], name: str, access: Access) -> Iterator[Any]:
    """Decoded frames of ascending ranks, jumping over stretches that hold none of them."""
    for start, run in _runs(index, wanted):
        if start:
            container.seek(int(index.ticks[start]), stream=track)  # pyright: ignore[reportOptionalSubscript]
        frames = _ranked(container, track, index, name, access)
        first = next(frames, None)
        if start and (first is None or first[0] > run[0]):  # the container's own index led astray
            container.seek(int(index.ticks[0]), stream=track)  # pyright: ignore[reportOptionalSubscript]
            frames = _ranked(container, track, index, name, access)
            first = next(frames, None)
        if first is None:
            raise InputError("video_corrupt", f"{name}: none of its frames can be decoded")
        yield from _on_screen(chain([first], frames), run, name if index.ticks is not None else None)


def _runs(index: FrameIndex, wanted: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Split ranks where a keyframe lies far enough ahead: pairs of the rank to start at and the ranks to take."""
    keyframes = np.flatnonzero(index.keyframe) if index.parts == 1 else np.zeros(0, np.int64)
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


def _ranked(container: Any, track: Any, index: FrameIndex, name: str, access: Access) -> Iterator[tuple[int, Any]]:
    """Decode on from where the container stands: pairs of a rank and a frame, in the video's own colours."""
    av = av_module("video", name)
    beside = maybe_track(container, "audio") if index.parts > 1 else None
    timeline = Timeline(container, index.joints) if index.parts > 1 else None
    count, last, again, damaged = 0, None, 0, False
    for packet in container.demux(track if beside is None else [track, beside]):
        access.check()
        if timeline is not None and packet.size:
            timeline.place(packet)
        if packet.stream.index != track.index:
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            raise_if_exhausted(error)
            # A video may start in the middle of a group of frames; damage after that leaves a hole.
            damaged = count > 0
            continue
        for frame in frames:
            if frame.is_corrupt:
                damaged = damaged or count > 0
                continue
            if damaged:
                raise InputError("video_corrupt", f"{name}: its video track is damaged")
            if index.ticks is None:
                yield count, frame
            elif frame.pts is not None:
                again = again + 1 if frame.pts == last else 0
                last = frame.pts
                low = int(np.searchsorted(index.ticks, frame.pts, side="left"))
                high = int(np.searchsorted(index.ticks, frame.pts, side="right")) - 1
                # Frames may share one tick of a coarse clock.
                yield min(low + again, high) if low < high else high, frame
            count += 1
    if damaged and not may_end_anywhere(container):
        raise InputError("video_corrupt", f"{name}: the end of its video track is damaged")


def _on_screen(frames: Iterator[tuple[int, Any]], wanted: list[int], name: str | None = None) -> Iterator[Any]:
    """For each wanted rank the frame of that rank, or where the decoder left it out the one before.

    Args:
        frames: pairs of a rank and a frame, ascending.
        wanted: ranks, ascending.
        name: what messages call a video that may have no long holes; None for one whose frames have no times.
    """
    waiting = iter(wanted)
    rank_wanted = next(waiting)
    previous, last = None, None
    for rank, frame in frames:
        while rank >= rank_wanted:
            if rank > rank_wanted and last is not None:
                _check_hole(last, rank, name)
            yield frame if rank == rank_wanted or previous is None else previous
            rank_wanted = next(waiting, None)
            if rank_wanted is None:
                return
        previous, last = frame, rank
    for rank in chain([rank_wanted], waiting):
        _check_hole(last if last is not None else rank, rank, name)
        yield previous


def _check_hole(last: int, rank: int, name: str | None) -> None:
    if name is not None and rank - last > _MOST_LEFT_OUT:
        raise InputError("video_corrupt", f"{name}: {rank - last:,} frames in a row of its video track are missing")
