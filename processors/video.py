"""Clips to patches, with their clock and their sound."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from processors.access import DEFAULT_ACCESS, Access
from processors.config import VideoConfig
from processors.decode_audio_track import load_audio_track
from processors.decode_video import SampledFrames, VideoSource, open_video
from processors.errors import InputError
from processors.image import with_pixel_limits
from processors.patches import frame_size, normalise, resize_frame, write_patches
from processors.sources import describe

AUDIO_RATE = 16_000


@dataclass(frozen=True)
class VideoFeatures:
    """Patches of one clip.

    Attributes:
        pixels: grey levels, each patch flattened as (channel, time, height, width), patches in merge-block order,
            `temporal_patch_size` frames at a time; an odd count repeats the last frame.
        grid_thw: patches in time, height and width.
        seconds_per_grid: seconds from one step of the grid in time to the next, by the frames really sampled.
        timestamps: when each sampled frame comes on, in seconds from the first frame of the clip.
        audio: the sound from the first frame of the clip on, mono at 16 kHz, where it was asked for and is there.
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
        """When each step of the grid is shown, in seconds: the mean of its first and its last frame."""
        depth, times = self.config.temporal_patch_size, self.timestamps.tolist()
        times += times[-1:] * (-len(times) % depth)
        return tuple((first + last) / 2 for first, last in zip(times[::depth], times[depth - 1 :: depth], strict=True))

    @property
    def pixel_values(self) -> Float32[np.ndarray, "patches values"]:
        """Rescaled and normalised patches, equal to the reference's."""
        patches, values = self.pixels.shape
        return normalise(self.pixels.reshape(patches, 3, 1, values // 3), self.config).reshape(patches, values)


class VideoProcessor:
    """Turns a clip into patches: frames sampled, upright, resized once and cut, never more than one held at a time.

    Args:
        config: patch geometry, pixel limits of a frame, sampling and normalisation.
        access: limits and source policy of every call that brings none of its own.
    """

    def __init__(self, config: VideoConfig | None = None, *, access: Access = DEFAULT_ACCESS):
        self.config, self.access = config or VideoConfig(), access

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, access: Access = DEFAULT_ACCESS) -> "VideoProcessor":
        """Reads the settings that lie beside a checkpoint; errors as `VideoConfig.from_pretrained`."""
        return cls(VideoConfig.from_pretrained(directory), access=access)

    def __call__(
        self,
        video: VideoSource,
        fps: float | int | None = None,
        num_frames: int | None = None,
        audio: bool = False,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        access: Access | None = None,
    ) -> VideoFeatures:
        """Processes one clip.

        Args:
            video: a path, http(s) URL, base64 data URI or encoded bytes of any container that FFmpeg opens; or frames:
                an array [frames, height, width, channels] or a list of images.
            fps: of a file, frames a second to sample; of frames, their rate (`config.fps` without it), and all are
                kept.
            num_frames: how many to sample instead.
            audio: whether to decode the sound as well.
            min_pixels: least area of a resized frame, or of all together, instead of the configured one.
            max_pixels: greatest area, likewise.
            access: limits, source policy and deadline of this call.

        Raises:
            InputError: `pixel_limits`, `aspect_ratio`, or the codes of `open_video` and `load_audio_track`.
        """
        config = with_pixel_limits(self.config, min_pixels, max_pixels)
        with open_video(video, config, fps, num_frames, access or self.access) as sampled:
            pixels, grid = _write_frames(sampled, config)
            sound = _sound(sampled, describe(video)) if audio else None
        return VideoFeatures(pixels, grid, config.temporal_patch_size / sampled.fps, sampled.timestamps, sound, config)


def _write_frames(
    sampled: SampledFrames, config: VideoConfig
) -> tuple[UInt8[np.ndarray, "patches values"], Int32[np.ndarray, "1 3"]]:
    depth, size = config.temporal_patch_size, config.patch_size
    steps = -(-len(sampled.timestamps) // depth)
    first = next(sampled.frames)
    height, width = frame_size(len(sampled.timestamps), first.height, first.width, config)
    rows, columns = height // size, width // size
    patches = np.empty((steps, rows * columns, 3, depth, size, size), np.uint8)
    for place, frame in enumerate(chain([first], sampled.frames)):
        write_patches(resize_frame(frame, height, width), patches[place // depth, :, :, place % depth], config)
    for place in range(len(sampled.timestamps), steps * depth):
        patches[-1, :, :, place % depth] = patches[-1, :, :, place % depth - 1]
    grid = np.array([[steps, rows, columns]], np.int32)
    return patches.reshape(steps * rows * columns, -1), grid


def _sound(sampled: SampledFrames, name: str) -> Float32[np.ndarray, "samples"] | None:
    if sampled.stream is None:
        return None
    try:
        return load_audio_track(sampled.stream, name, AUDIO_RATE, sampled.start)
    except InputError as error:
        if error.code in {"audio_no_track", "audio_empty"}:
            return None
        raise
