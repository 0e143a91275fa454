"""Media as the reference's processors make them: patches and spectrograms of one medium at a time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image as Pillow

from omni.errors import InputError
from omni.media.types import Image, Video
from processors import VideoConfig, load_image
from processors.decode.video.decoder import open_video
from processors.io.access import Access
from processors.video import VideoFeatures


@dataclass(eq=False)
class ReadMedium:
    """One medium on its way through the reference; torch tensors where not said otherwise.

    Attributes:
        kind: `image`, `audio` or `video`.
        pixels: normalised patches, an array.
        levels: the same as grey levels, an array, in our form.
        grid: patches in time, height and width, an array.
        seconds_per_grid: of a video.
        timestamps: of the frames of a video, in seconds.
        mel: spectrogram of the audio, an array.
        tokens: what the vision tower gives.
        deepstack: likewise, for the first layers.
        audio_tokens: what the audio tower gives.
    """

    kind: str
    pixels: Any = None
    levels: Any = None
    grid: Any = None
    seconds_per_grid: float | None = None
    timestamps: list[float] = field(default_factory=list)
    mel: Any = None
    tokens: Any = None
    deepstack: Any = None
    audio_tokens: Any = None


def read_image(read: ReadMedium, image: Image, processor: Any, access: Access) -> None:
    """Patches of an image, in its own limits where it has some."""
    limits = {"shortest_edge": image.min_pixels, "longest_edge": image.max_pixels}
    if any(limits.values()):
        own = {"shortest_edge": processor.size["shortest_edge"], "longest_edge": processor.size["longest_edge"]}
        limits = {name: own[name] if value is None else value for name, value in limits.items()}
        called = processor(load_image(image.source, access=access), size=limits, return_tensors="np")
    else:
        called = processor(load_image(image.source, access=access), return_tensors="np")
    read.pixels, read.grid = np.asarray(called["pixel_values"]), np.asarray(called["image_grid_thw"])[0]
    frames = _frames_apart(read.pixels, processor)
    read.levels = _levels(frames[:, :, :1], processor)


def resize_video(video: Video, features: VideoFeatures, config: VideoConfig, access: Access) -> np.ndarray:
    """The sampled frames of a video at the size of its patches, by Pillow; an odd count repeats the last."""
    _, rows, columns = features.grid_thw[0].tolist()
    size = columns * config.patch_size, rows * config.patch_size
    with open_video(video.source, config, video.fps, video.num_frames, access) as sampled:
        frames = [np.asarray(frame.resize(size, Pillow.Resampling.BICUBIC)) for frame in sampled.frames]
    frames += frames[-1:] * (-len(frames) % config.temporal_patch_size)
    return np.stack(frames)


def read_video(read: ReadMedium, frames: np.ndarray, features: VideoFeatures, processor: Any) -> None:
    """Patches of a video: those of its frames, each an image that stands for all frames of a patch, put together."""
    depth = processor.temporal_patch_size
    called = [processor(frame, do_resize=False, return_tensors="np") for frame in frames]
    grid = np.asarray(called[0]["image_grid_thw"])[0]
    single = [_frames_apart(np.asarray(one["pixel_values"]), processor)[:, :, :1] for one in called]
    steps = [np.concatenate(single[i : i + depth], axis=2) for i in range(0, len(single), depth)]
    whole = np.concatenate(steps)
    read.pixels = whole.reshape(len(whole), -1)
    read.levels = _levels(whole, processor)
    read.grid = np.asarray([len(steps), grid[1], grid[2]])
    read.seconds_per_grid = features.seconds_per_grid
    read.timestamps = features.timestamps.tolist()


def read_audio(read: ReadMedium, waveform: np.ndarray, extractor: Any) -> None:
    """The spectrogram of a waveform, without what the reference pads it with."""
    called = extractor(
        waveform,
        sampling_rate=extractor.sampling_rate,
        padding=True,
        truncation=False,
        return_attention_mask=True,
        return_tensors="np",
    )
    frames = int(np.asarray(called["attention_mask"]).sum())
    read.mel = np.ascontiguousarray(np.asarray(called["input_features"], np.float32)[0, :, :frames])


def _frames_apart(pixels: np.ndarray, processor: Any) -> np.ndarray:
    """[patches, channels, frames, values]."""
    return pixels.reshape(len(pixels), 3, processor.temporal_patch_size, -1)


def _levels(values: np.ndarray, processor: Any) -> np.ndarray:
    """Normalised values as the grey levels that they were."""
    mean, deviation = (np.asarray(v, np.float64)[:, None, None] for v in (processor.image_mean, processor.image_std))
    levels = (values * deviation + mean) / processor.rescale_factor
    if np.abs(levels - np.round(levels)).max() > 0.01:
        raise InputError("no_reference", "the reference's pixels are no grey levels")
    return np.clip(np.round(levels), 0, 255).astype(np.uint8).reshape(len(values), -1)
