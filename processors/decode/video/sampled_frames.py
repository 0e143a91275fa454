"""The frames kept of a video, however they come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from PIL import Image


@dataclass(frozen=True)
class SampledFrames:
    """The frames kept of a video, decoded as they are asked for.

    Attributes:
        frames: RGB, in order; each may be the one before it again.
        timestamps: when each is shown, in seconds from the first frame of the video.
        fps: frames a second that were really sampled.
        start: time of the video's first frame on the container's clock, in seconds; None where it has none.
        size: width and height of a frame as stored, before it is turned upright; None where it is not known yet.
        audio: gives the audio track beside them from their first frame on, mono, block by block, at a rate; None where
            there can be none. Called when all frames have been taken.
    """

    frames: Iterator[Image.Image]
    timestamps: Float64[np.ndarray, "frames"]
    fps: float
    start: float | None = None
    size: tuple[int, int] | None = None
    audio: Callable[[int], Iterator[np.ndarray]] | None = None
