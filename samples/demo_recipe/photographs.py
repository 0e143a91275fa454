"""Pictures of other things: parts of photographs, and patterns."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[1]
# Of the photographs that scikit-image brings, and those of the samples; what is tested is never trained on.
_TRAINED = (
    "brick.png",
    "camera.png",
    "cell.png",
    "clock_motion.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
_TESTED = ("chelsea.png", "coffee.png")
_SAMPLES_TESTED = ("astronaut.jpg", "china.jpg", "flower.jpg")


@cache
def _photographs(test: bool) -> list[Image.Image]:
    import skimage

    shipped = Path(skimage.__file__).parent / "data"
    paths = [shipped / name for name in (_TESTED if test else _TRAINED)]
    paths += [SAMPLES / name for name in _SAMPLES_TESTED if test]
    found = [Image.open(path).convert("RGB") for path in paths]
    for picture in found:
        picture.thumbnail((1024, 1024))
    if not test:
        faces = np.load(shipped / "lfw_subset.npy")[:100]
        found += [
            Image.fromarray((face * 255).astype(np.uint8)).resize((200, 200)).convert("RGB") for face in faces[::8]
        ]
    return found


def part(random: np.random.RandomState, *, test: bool, side: int = 0) -> Image.Image:
    """A part of a photograph; in training mirrored, tinted, lighter or darker as well."""
    chosen = _photographs(test)
    whole = chosen[random.randint(len(chosen))]
    size = int(min(whole.size) * random.uniform(0.35, 1.0))
    x, y = random.randint(0, whole.width - size + 1), random.randint(0, whole.height - size + 1)
    cut = whole.crop((x, y, x + size, y + size)).resize((side or int(random.choice([96, 128, 160])),) * 2)
    if test:
        return cut
    levels = np.asarray(cut, np.float32)[..., random.permutation(3) if random.rand() < 0.3 else [0, 1, 2]]
    levels = np.rot90(levels, random.randint(4)) if random.rand() < 0.3 else levels
    levels = (levels - 128) * random.uniform(0.6, 1.3) + 128 + random.uniform(-40, 40)
    # Those without colours get some: what is grey is not all that is unknown.
    tint = random.uniform(0.6, 1.2, 3) if random.rand() < 0.5 else 1
    return Image.fromarray(np.clip(levels * tint, 0, 255).astype(np.uint8))


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
