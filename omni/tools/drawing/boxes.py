"""Boxes and points drawn onto the image that they are of."""

from collections.abc import Sequence
from typing import Any

from PIL import Image as Pillow
from PIL import ImageDraw

from omni.generation.boxes import Box, Point
from omni.media.types import Image
from processors import load_image

# Told apart on most pictures, and by most eyes (Okabe and Ito, 2008).
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_LINES_A_SIDE = 300


def draw(image: Any, marks: Sequence[Box | Point]) -> Pillow.Image:
    """Return the image, upright, with boxes and points and their labels on it; those of one label have one colour.

    Args:
        image: as `Reply.boxes` takes it.
        marks: what `Reply.boxes` and `Reply.points` gave.

    Raises:
        InputError: the image cannot be read.
    """
    picture = Pillow.fromarray(load_image(image.source if isinstance(image, Image) else image))
    pen = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // _LINES_A_SIDE)
    labels = list(dict.fromkeys(mark.label for mark in marks))
    for mark in marks:
        colour = _COLOURS[labels.index(mark.label) % len(_COLOURS)]
        if isinstance(mark, Box):
            pen.rectangle((mark.left, mark.top, mark.right, mark.bottom), outline=colour, width=width)
            x, y = mark.left, mark.top
        else:
            x, y = mark.x, mark.y
            pen.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), outline=colour, width=width)
        if mark.label:
            place = (x + 2 * width, y + 2 * width)
            pen.text(place, mark.label, fill=colour, stroke_width=1, stroke_fill="black", font_size=10 * width)
    return picture
