"""Short clips of a moving shape, and pictures of other things."""

import io
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from samples.demo_recipe.pictures import Thing, draw

SAMPLES = Path(__file__).parents[1]
# Steps on the picture's axes, and what is said of them.
WAYS = {
    "left": ((-1, 0), "To the left."),
    "right": ((1, 0), "To the right."),
    "up": ((0, -1), "Up."),
    "down": ((0, 1), "Down."),
    "still": ((0, 0), "It does not move."),
}
_FRAMES, _RATE = 8, 4


def moving(random: np.random.RandomState, thing: Thing, way: str) -> bytes:
    """An MP4 of two seconds; the very same ground and shape in every frame."""
    (dx, dy), _ = WAYS[way]
    seed = int(random.randint(1 << 30))
    reach = random.uniform(0.3, 0.62)
    middle = Thing(thing.shape, thing.colour, 1, 1)
    aside = random.uniform(-0.3, 0.3) * np.array([dx == 0, dy == 0])
    frames = []
    for i in range(_FRAMES):
        along = (2 * i / (_FRAMES - 1) - 1) * reach
        shift = (aside[0] + dx * along, aside[1] + dy * along)
        frames.append(np.asarray(draw(np.random.RandomState(seed), [middle], shift, side=128).resize((128, 128))))
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(_RATE))
        video.width = video.height = 128
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(int(random.randint(18, 28))), "preset": "ultrafast"}
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(video.encode())
    return stream.getvalue()


@cache
def _photographs() -> dict[bool, list[Image.Image]]:
    """Those of the samples: two for training, the third for testing."""
    names = {False: ("china.jpg", "flower.jpg"), True: ("astronaut.jpg",)}
    return {test: [Image.open(SAMPLES / name).convert("RGB") for name in files] for test, files in names.items()}


def photograph(random: np.random.RandomState, *, test: bool) -> Image.Image:
    """A part of a photograph."""
    chosen = _photographs()[test]
    whole = chosen[random.randint(len(chosen))]
    side = int(min(whole.size) * random.uniform(0.3, 1.0))
    x, y = random.randint(0, whole.width - side + 1), random.randint(0, whole.height - side + 1)
    part = whole.crop((x, y, x + side, y + side)).resize((int(random.choice([96, 128, 160])),) * 2)
    levels = np.asarray(part, np.float32)[..., random.permutation(3) if random.rand() < 0.3 else [0, 1, 2]]
    return Image.fromarray(np.clip(levels * random.uniform(0.6, 1.3), 0, 255).astype(np.uint8))


def pattern(random: np.random.RandomState) -> Image.Image:
    """Clouds, waves and checks in any colours."""
    side = int(random.choice([96, 128, 160]))
    y, x = np.mgrid[0:side, 0:side] / side
    kind = random.randint(3)
    if kind == 0:
        small = random.randint(0, 256, (random.randint(4, 20), random.randint(4, 20), 3)).astype(np.uint8)
        return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    if kind == 1:
        turn = random.uniform(0, np.pi)
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * random.uniform(15, 80))
        weight = (wave[..., None] + 1) / 2
    else:
        cells = random.randint(3, 12)
        weight = ((np.floor(x * cells) + np.floor(y * cells)) % 2)[..., None]
    one, other = random.randint(0, 256, (2, 3))
    return Image.fromarray((weight * one + (1 - weight) * other).astype(np.uint8))
