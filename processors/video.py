"""Videos to patches, with their clock and their audio."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from processors.config import VideoConfig
from processors.decode.video.decoder import VideoSource, open_video
from processors.decode.video.sampled_frames import SampledFrames
from processors.errors import InputError
from processors.frame_sampling import Count, Rate, with_frame_limits
from processors.image import with_pixel_limits
from processors.io.access import DEFAULT_ACCESS, Access
from processors.notebook import shown
from processors.patches import normalise, write_patches
from processors.resize import frame_size, resize_frame
from processors.waveform import AUDIO_RATE, bounded, joined


@dataclass(frozen=True)
class VideoFeatures:
    """Patches of one video.

    Attributes:
        pixels: grey levels, each patch flattened as (channel, time, height, width), patches in merge-block order,
            `temporal_patch_size` frames at a time; an odd count repeats the last frame.
        grid_thw: patches in time, height and width.
        seconds_per_grid: seconds from one step of the grid in time to the next, by the frames really sampled.
        timestamps: when each sampled frame is shown, in seconds from the first frame of the video.
        audio: the audio from the first frame of the video on, mono at 16 kHz, where it was asked for and is there.
        config: the settings that they were made with.
    """

    pixels: UInt8[np.ndarray, "patches values"]
    grid_thw: Int32[np.ndarray, "1 3"]
    seconds_per_grid: float
    timestamps: Float64[np.ndarray, "frames"]
    audio: Float32[np.ndarray, "samples"] | None
    config: VideoConfig

    @property
    def grid_timestamps(self) -> tuple[float, ...]:
        """Return when each step of the grid is shown, in seconds: the mean of its first and its last frame."""
        depth, times = self.config.temporal_patch_size, self.timestamps.tolist()
        times += times[-1:] * (-len(times) % depth)
        return tuple((first + last) / 2 for first, last in zip(times[::depth], times[depth - 1 :: depth], strict=True))

    @property
    def pixel_values(self) -> Float32[np.ndarray, "patches values"]:
        """Return rescaled and normalised patches, equal to the reference's."""
        patches, values = self.pixels.shape
        return normalise(self.pixels.reshape(patches, 3, 1, values // 3), self.config).reshape(patches, values)

    @shown
    def _repr_png_(self) -> bytes:
        from processors.drawing.contact_sheet import contact_sheet

        return contact_sheet(self, "video").png()


class VideoProcessor:
    """Turns a video into patches: frames sampled, upright, resized once and cut, never more than one held at a time.

    Args:
        config: patch geometry, pixel limits of a frame, sampling and normalisation.
        access: limits and source policy of every call that brings none of its own.
    """

    def __init__(self, config: VideoConfig | None = None, *, access: Access = DEFAULT_ACCESS):
        self.config: VideoConfig = config or VideoConfig()
        self.access: Access = access

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, access: Access = DEFAULT_ACCESS) -> "VideoProcessor":
        """Read the settings that lie beside a checkpoint; errors as `VideoConfig.from_pretrained`.

        Args:
            directory: the checkpoint's.
            access: limits and source policy of calls that bring none of their own.
        """
        return cls(VideoConfig.from_pretrained(directory), access=access)

    def __call__(
        self,
        video: VideoSource,
        fps: Rate | None = None,
        num_frames: Count | None = None,
        audio: bool = False,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        total_pixels: Count | None = None,
        min_frames: Count | None = None,
        max_frames: Count | None = None,
        access: Access | None = None,
    ) -> VideoFeatures:
        """Process one video.

        Args:
            video: a path, http(s) URL, base64 data URI or encoded bytes of a video container, or of an animated GIF,
                PNG, WebP or AVIF; or frames: an array [frames, height, width, channels], of NumPy or through
                `__array__`, DLPack or the buffer protocol, or a list of whatever `load_image` takes.
            fps: of a file, frames a second to sample; of frames, their rate (`config.fps` without it), and all are
                kept.
            num_frames: how many to sample instead.
            audio: whether to decode the audio as well.
            min_pixels: least area of a resized frame, or of all together, instead of the configured one.
            max_pixels: greatest area, likewise.
            total_pixels: greatest area of all frames together, two frames that share a patch counted once, as in
                qwen-vl-utils: it lowers `max_pixels` as far as the number of frames asks for, but not below 1.05 times
                `min_pixels`.
            min_frames: least number of frames to sample of a file that has as many, instead of the configured one.
            max_frames: greatest number, likewise.
            access: limits, source policy and deadline of this call.

        Raises:
            InputError: `pixel_limits`, `aspect_ratio`, `video_too_large`, or the codes of `open_video` and
                `audio_track_blocks`.
        """
        access = access or self.access
        config = with_pixel_limits(self.config, min_pixels, max_pixels)
        config = with_frame_limits(config, min_frames, max_frames)
        with open_video(video, config, fps, num_frames, access) as sampled:
            count = len(sampled.timestamps)
            if total_pixels is not None:
                config = with_total_pixels(config, total_pixels, count)
            pixels, grid = _write_frames(sampled, config, access)
            waveform = _waveform(sampled, access) if audio else None
        seconds = config.temporal_patch_size / sampled.fps
        return VideoFeatures(pixels, grid, seconds, sampled.timestamps, waveform, config)


def with_total_pixels(config: VideoConfig, total_pixels: Count, frames: int) -> VideoConfig:
    """Return the settings with `max_pixels` lowered so that the area of all frames together is bounded.

    Raises:
        InputError: `pixel_limits`, it is not a number above 0.
    """
    number = isinstance(total_pixels, int | float | np.number) and not isinstance(total_pixels, bool)
    if not number or not 1 <= total_pixels < 1 << 62:
        raise InputError("pixel_limits", f"total_pixels {total_pixels!r:.40}: needed is a number above 0")
    depth = config.temporal_patch_size
    if config.clip_limits:
        most = int(total_pixels) * depth
    else:
        most = int(total_pixels / frames * depth)
    least = int(config.min_pixels * 1.05)
    return replace(config, max_pixels=max(config.min_pixels, min(config.max_pixels, max(most, least))))


def _write_frames(
    sampled: SampledFrames, config: VideoConfig, access: Access
) -> tuple[UInt8[np.ndarray, "patches values"], Int32[np.ndarray, "1 3"]]:
    depth, size, count = config.temporal_patch_size, config.patch_size, len(sampled.timestamps)
    steps = -(-count // depth)
    if sampled.size is not None and min(sampled.size) > 0:
        _resized(steps, count, *sampled.size, config, access)
    first = next(sampled.frames)
    height, width = _resized(steps, count, first.width, first.height, config, access)
    rows, columns = height // size, width // size
    patches = np.empty((steps, rows * columns, 3, depth, size, size), np.uint8)
    for place, frame in enumerate(chain([first], sampled.frames)):
        access.check()
        write_patches(resize_frame(frame, height, width), patches[place // depth, :, :, place % depth], config)
    for place in range(count, steps * depth):
        patches[-1, :, :, place % depth] = patches[-1, :, :, place % depth - 1]
    grid = np.array([[steps, rows, columns]], np.int32)
    return patches.reshape(steps * rows * columns, -1), grid


def _resized(steps: int, count: int, width: int, height: int, config: VideoConfig, access: Access) -> tuple[int, int]:
    """Height and width of the resized frames, before memory is taken for them."""
    height, width = frame_size(count, height, width, config)
    tokens = steps * (height // config.factor) * (width // config.factor)
    if tokens > access.limits.media_tokens:
        limit = int(access.limits.media_tokens)
        raise InputError(
            "video_too_large",
            f"{count:,} frames of {width} x {height} pixels are {tokens:,} tokens, the limit is {limit:,}: "
            "give fewer frames, max_pixels or total_pixels",
        )
    if height * width > access.limits.resized_pixels:
        limit = int(access.limits.resized_pixels)
        raise InputError("video_too_large", f"resized frames of {width} x {height} pixels, the limit is {limit:,}")
    return height, width


def _waveform(sampled: SampledFrames, access: Access) -> Float32[np.ndarray, "samples"] | None:
    if sampled.audio is None:
        return None
    try:
        # What was decoded is held against its file's size where it is decoded.
        return joined(bounded(sampled.audio(AUDIO_RATE), AUDIO_RATE, None, access.limits))
    except InputError as error:
        if error.code in {"audio_no_track", "audio_empty"}:
            return None
        raise
