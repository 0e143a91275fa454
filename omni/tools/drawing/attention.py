"""Attention as light on the image that it goes to."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from processors.drawing.patches import frames_of
from processors.drawing.picture import Picture
from processors.image import ImageFeatures

_COLUMNS, _SIDE = 5, 2.6


def attention_picture(features: ImageFeatures, shares: Mapping[str, Float[np.ndarray, "cells"]]) -> Picture:
    """A picture of an image once for each map of shares, dark where little is read.

    Args:
        features: of one image.
        shares: by the title of each map, numbers of its patches, or of its tokens of several patches, row by row.
    """
    frame = frames_of(features, 0)[0]
    caption = f"{len(shares)} maps of attention; the brightest cell of each is read most"
    return Picture("attention", caption, lambda: draw_attention(frame, shares))


def draw_attention(
    frame: UInt8[np.ndarray, "height width 3"], shares: Mapping[str, Float[np.ndarray, "cells"]]
) -> Figure:
    """Draw a frame side by side under its maps.

    Args:
        frame: RGB.
        shares: by title, cells row by row; each has the form of the frame.
    """
    height, width = frame.shape[:2]
    columns = min(_COLUMNS, len(shares))
    rows = -(-len(shares) // columns)
    figure = Figure(figsize=(columns * _SIDE, rows * (_SIDE * height / width + 0.4) + 0.4), layout="constrained")
    for i, (title, cells) in enumerate(shares.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        down = max(1, round(np.sqrt(len(cells) * height / width)))
        grid = np.asarray(cells, np.float64).reshape(down, -1)
        axes.imshow(frame, extent=(0, width, height, 0))
        # Black that lets through what is read.
        veil = np.zeros((*grid.shape, 4))
        veil[..., 3] = 0.85 * (1 - grid / max(float(grid.max()), 1e-12))
        axes.imshow(veil, extent=(0, width, height, 0), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
