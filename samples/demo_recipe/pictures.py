"""Pictures of coloured shapes and of handwritten digits."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Shades vary about these; no two names may be confused.
COLOURS = {
    "red": (215, 35, 35),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "yellow": (240, 215, 40),
    "orange": (245, 140, 25),
    "purple": (130, 50, 170),
    "pink": (245, 150, 190),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
    "brown": (120, 75, 40),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Thing:
    """A shape in a picture; x and y are cells of a 3 x 3 grid."""

    shape: str
    colour: str
    x: int
    y: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


def held_out(things: list[Thing]) -> bool:
    """One composition in eight is kept for testing: which things lie where, whatever their shades and sizes."""
    key = "|".join(sorted(f"{t.name}{t.x}{t.y}" for t in things))
    return sum(ord(c) * (i + 7) for i, c in enumerate(key)) % 8 == 0


def some_things(random: np.random.RandomState, count: int, *, test: bool) -> list[Thing]:
    """Things of different names in different cells, of a composition of that split."""
    while True:
        cells = random.permutation(9)[:count]
        things = [
            Thing(
                SHAPES[random.randint(len(SHAPES))],
                list(COLOURS)[random.randint(len(COLOURS))],
                int(c % 3),
                int(c // 3),
            )
            for c in cells
        ]
        if len({t.name for t in things}) == count and held_out(things) == test:
            return things


def draw(
    random: np.random.RandomState, things: list[Thing], shift: tuple[float, float] = (0, 0), side: int = 0
) -> Image.Image:
    """A picture of things on a plain, sloped or speckled ground."""
    return draw_placed(random, things, shift, side)[0]


def draw_placed(
    random: np.random.RandomState, things: list[Thing], shift: tuple[float, float] = (0, 0), side: int = 0
) -> tuple[Image.Image, list[tuple[float, float]]]:
    """The picture, and about where each thing's middle lies, across and down, from 0 to 1: the middle of its cell.

    It is drawn four times too large, for smooth edges.
    """
    side = side or int(random.choice([96, 112, 128, 144, 160, 192]))
    width, height = side, side if random.rand() < 0.7 else int(side * random.uniform(0.75, 1.3))
    ground = _ground(random, width, height, [COLOURS[t.colour] for t in things])
    canvas = ground.resize((width * 4, height * 4), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    middles = [((thing.x + 0.5 + shift[0]) / 3, (thing.y + 0.5 + shift[1]) / 3) for thing in things]
    laid_out = _laid_out(random, things, middles, shift == (0, 0), width, height)
    for thing, (x, y, radius) in zip(things, laid_out, strict=True):
        shade, turn = _shade(random, COLOURS[thing.colour]), random.uniform(-12, 12)
        _draw_shape(pen, thing.shape, x * 4, y * 4, radius * 4, shade, turn)
    return _worn(random, canvas.resize((width, height), Image.Resampling.LANCZOS)), middles


def _laid_out(
    random: np.random.RandomState,
    things: list[Thing],
    middles: list[tuple[float, float]],
    whole: bool,
    width: int,
    height: int,
) -> list[tuple[float, float, float]]:
    """Middle and radius of each thing, in pixels: near the middles of their cells, or anywhere there and of any size.

    No two touch. Where all are to be whole, none is cut off but one that is alone in the middle and fills the picture.
    """
    cell, loose = min(width, height) / 3, whole and random.rand() < 0.6
    alone = whole and len(things) == 1 and (things[0].x, things[0].y) == (1, 1)
    while True:
        least, most, off = (0.2, random.uniform(0.3, 0.85), 0.36) if loose else (0.26, 0.42, 0.1)
        found, fits = [], True
        for thing, (across, down) in zip(things, middles, strict=True):
            radius = cell * random.uniform(least, 1.2 if alone else most)
            x, y = (at + random.uniform(-off, off) / 3 for at in (across, down))
            if whole:
                x, y = (_inside(at, 1.3 * radius / side) for at, side in ((x, width), (y, height)))
                fits = fits and (int(3 * x), int(3 * y)) == (thing.x, thing.y)
            x, y = x * width, y * height
            fits = fits and all(np.hypot(x - u, y - v) > 1.25 * (radius + r) for u, v, r in found)
            found.append((x, y, radius))
        if fits:
            return found
        # Many things leave little room.
        loose = loose and random.rand() < 0.9


def _inside(at: float, reach: float) -> float:
    return min(max(at, reach), 1 - reach) if reach < 0.5 else 0.5


def draw_digits(random: np.random.RandomState, digits: np.ndarray) -> Image.Image:
    """Handwritten digits of 8 x 8 levels from 0 to 16 in a row, larger, slanted, in some ink on some paper."""
    side = int(random.choice([96, 112, 128])) if len(digits) == 1 else int(random.choice([64, 72, 80]))
    weight = np.concatenate([_written(random, digit, side) for digit in digits], axis=1)[..., None]
    weight = np.clip(weight * random.uniform(1.1, 1.9) - random.uniform(0, 0.25), 0, 1)
    ink, paper = random.randint(0, 90, 3), random.randint(170, 256, 3)
    if random.rand() < 0.4:
        ink, paper = paper, ink
    return _worn(random, Image.fromarray((weight * ink + (1 - weight) * paper).astype(np.uint8)))


def _written(random: np.random.RandomState, digit: np.ndarray, side: int) -> np.ndarray:
    """How much ink lies where, from 0 to 1: the digit turned, slanted, narrowed and moved."""
    grey = Image.fromarray((np.clip(digit / 16, 0, 1) * 255).astype(np.uint8)).resize(
        (64, 64), Image.Resampling.BICUBIC
    )
    scale, turn, slant = random.uniform(0.6, 1.05), np.radians(random.uniform(-16, 16)), random.uniform(-0.25, 0.25)
    matrix = np.array([[np.cos(turn), -np.sin(turn) + slant], [np.sin(turn), np.cos(turn)]]) * 64 / side / scale
    matrix = matrix * [[random.uniform(0.85, 1.2)], [random.uniform(0.9, 1.1)]]
    middle = np.array([32, 32]) - matrix @ (np.array([side, side]) / 2 + random.uniform(-0.08, 0.08, 2) * side)
    grey = grey.transform(
        (side, side), Image.Transform.AFFINE, (*matrix[0], middle[0], *matrix[1], middle[1]), Image.Resampling.BICUBIC
    )
    if random.rand() < 0.4:  # a thicker or a thinner pen
        grey = grey.filter(ImageFilter.MaxFilter(3) if random.rand() < 0.5 else ImageFilter.MinFilter(3))
    return np.asarray(grey, np.float32) / 255


def encoded(random: np.random.RandomState, picture: Image.Image) -> tuple[bytes, str]:
    """The bytes of a file, and its suffix."""
    stream = io.BytesIO()
    if random.rand() < 0.7:
        picture.save(stream, "JPEG", quality=int(random.randint(55, 96)))
        return stream.getvalue(), "jpg"
    picture.save(stream, "PNG")
    return stream.getvalue(), "png"


def _shade(random: np.random.RandomState, colour: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(
        np.clip(np.asarray(colour) * random.uniform(0.9, 1.08) + random.randint(-10, 11, 3), 0, 255).astype(int)
    )


def _ground(random: np.random.RandomState, width: int, height: int, taken: list[tuple[int, int, int]]) -> Image.Image:
    """Far enough from the colours of all things that each can be seen."""
    while True:
        colour = (
            random.randint(0, 256, 3)
            if random.rand() < 0.5
            else np.full(3, random.randint(60, 256)) + random.randint(-8, 9, 3)
        )
        if all(np.abs(colour - np.asarray(t)).sum() > 170 for t in taken):
            break
    plane = np.ones((height, width, 3)) * colour
    if random.rand() < 0.4:
        plane += np.linspace(-18, 18, width)[None, :, None] * random.choice([-1, 1])
    if random.rand() < 0.3:
        plane += random.randint(-12, 13, (height, width, 1))
    return Image.fromarray(np.clip(plane, 0, 255).astype(np.uint8))


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, colour: tuple, turn: float) -> None:
    def around(angles: list[float], radii: list[float]) -> list[tuple[float, float]]:
        return [
            (x + q * np.sin(np.radians(a + turn)), y - q * np.cos(np.radians(a + turn)))
            for a, q in zip(angles, radii, strict=True)
        ]

    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "ring":
        pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=int(r * 0.38))
    elif shape == "square":
        pen.polygon(around([45, 135, 225, 315], [r * 1.2] * 4), fill=colour)
    elif shape == "triangle":
        pen.polygon(around([0, 120, 240], [r * 1.2] * 3), fill=colour)
    elif shape == "star":
        pen.polygon(around([36.0 * i for i in range(10)], [r * 1.2, r * 0.5] * 5), fill=colour)
    else:
        for a in (0, 90):
            pen.polygon(around([a + 18, a + 162, a + 198, a + 342], [r * 1.1] * 4), fill=colour)


def _worn(random: np.random.RandomState, picture: Image.Image) -> Image.Image:
    """Blurred or speckled, sometimes."""
    if random.rand() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.0)))
    if random.rand() < 0.35:
        levels = np.asarray(picture, np.float32) + random.normal(0, random.uniform(2, 9), (*picture.size[::-1], 3))
        picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    return picture
