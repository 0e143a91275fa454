"""Short clips: a shape that moves, and views that pan over photographs."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from samples.demo_recipe import photographs
from samples.demo_recipe.pictures import Thing, draw_placed


class Way(NamedTuple):
    """A step on the picture's axes, and what is said of it."""

    step: tuple[int, int]
    direction: str
    verb: str


WAYS = {
    "left": Way((-1, 0), "to the left", "moves to the left"),
    "right": Way((1, 0), "to the right", "moves to the right"),
    "up": Way((0, -1), "up", "moves up"),
    "down": Way((0, 1), "down", "moves down"),
    "still": Way((0, 0), "it does not move", "stays where it is"),
}


def moving(random: np.random.RandomState, thing: Thing, way: str) -> bytes:
    """An MP4 of two to three seconds; the very same ground and shape in every frame."""
    return moving_placed(random, thing, way)[0]


def moving_placed(random: np.random.RandomState, thing: Thing, way: str) -> tuple[bytes, list[tuple[float, float]]]:
    """The clip, and where the thing's middle lies in each frame, across and down, from 0 to 1."""
    dx, dy = WAYS[way].step
    seed, side = int(random.randint(1 << 30)), int(random.choice([96, 128, 160]))
    reach = random.uniform(0.35, 1.05)
    middle = Thing(thing.shape, thing.colour, 1, 1)
    aside = random.uniform(-0.7, 0.7, 2) if way == "still" else random.uniform(-0.7, 0.7, 2) * [dx == 0, dy == 0]
    frames, middles = [], []
    for along in np.linspace(-reach, reach, _count(random)):
        shift = (aside[0] + dx * along, aside[1] + dy * along)
        picture, (at,) = draw_placed(np.random.RandomState(seed), [middle], shift, side)
        frames.append(np.asarray(picture.resize((side, side))))
        middles.append(at)
    return _film(random, frames), middles


def panning(random: np.random.RandomState, *, test: bool) -> bytes:
    """An MP4 in which the view wanders over a photograph."""
    whole = photographs.part(random, test=test, side=192)
    start, end = random.randint(0, 65, (2, 2))
    frames = []
    for along in np.linspace(0, 1, _count(random)):
        x, y = (start + (end - start) * along).astype(int)
        frames.append(np.asarray(whole.crop((x, y, x + 128, y + 128))))
    return _film(random, frames)


def _count(random: np.random.RandomState) -> int:
    return int(random.randint(8, 13))


def _film(random: np.random.RandomState, frames: Sequence[np.ndarray]) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(4))
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(int(random.randint(18, 28))), "preset": "ultrafast"}
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(video.encode())
    return stream.getvalue()
