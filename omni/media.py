"""What a user may wrap a medium in, to say how it should be read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Image:
    """A picture and its pixel budget.

    Attributes:
        source: path, URL, bytes, data URI, PIL image or uint8 array [height, width, 3].
        min_pixels: fewest pixels after resizing; the checkpoint's own setting when None.
        max_pixels: most pixels after resizing; the checkpoint's own setting when None.
    """

    source: Any
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Audio:
    """A recording.

    Attributes:
        source: path, URL, bytes, data URI, or an array of samples.
        sampling_rate: rate of the array in Hz; files carry their own.
    """

    source: Any
    sampling_rate: int | None = None


@dataclass(frozen=True)
class Video:
    """A clip and how to sample it.

    Attributes:
        source: path, URL, bytes, data URI, or uint8 frames [frames, height, width, 3].
        fps: frames a second to sample from a file; for an array, the rate of the frames given (all are used).
        num_frames: how many frames to sample from a file, instead of `fps`.
        audio: True also hears the file's sound track, interleaved in time with the frames; a recording (anything
            that `Audio` takes; an array as `Audio(array, rate)`) is heard in its place.
    """

    source: Any
    fps: float | None = None
    num_frames: int | None = None
    audio: Any = False
