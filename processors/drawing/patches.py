"""Resized frames under the grid that cuts them: patches, and the blocks that become tokens."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from processors.config import ImageConfig
from processors.drawing.picture import DPI, Picture

# In inches: the longer side of a frame, a token in it, and the least that a caption needs.
_LEAST, _MOST, _TOKEN, _CAPTION = 4.0, 14.0, 0.36, 5.0
_SMALLEST_LETTERS = 5.0


@runtime_checkable
class Patches(Protocol):
    """What image and video features have in common, and all that drawing their patches needs."""

    @property
    def pixels(self) -> UInt8[np.ndarray, "patches values"]: ...
    @property
    def grid_thw(self) -> Int32[np.ndarray, "media 3"]: ...
    @property
    def config(self) -> Any: ...


def frames_of(features: Patches, step: int) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Put the frames of one step of time together again from their patches.

    Args:
        features: what a processor made.
        step: counts the steps of all images, or of the video, from 0.

    Returns:
        One frame of an image, `temporal_patch_size` frames of a video.
    """
    config, start = features.config, 0
    for t, h, w in features.grid_thw.tolist():
        if step < t:
            break
        step, start = step - t, start + t * h * w
    else:
        raise IndexError("there is no such step")
    patch, merge = config.patch_size, config.merge_size
    pixels = features.pixels[start + step * h * w :][: h * w]
    depth = pixels.shape[1] // (3 * patch * patch)
    blocks = pixels.reshape(h // merge, w // merge, merge, merge, 3, depth, patch, patch)
    return list(blocks.transpose(5, 0, 2, 6, 1, 3, 7, 4).reshape(depth, h * patch, w * patch, 3))


def patch_pictures(features: Patches, name: str) -> Iterator[Picture]:
    """One picture for each image, and one of a video's first frame."""
    config = features.config
    start = 0
    for i, (t, h, w) in enumerate(features.grid_thw.tolist()):
        step, start = start, start + t
        tokens = h * w // config.merge_size**2
        of = "" if len(features.grid_thw) == 1 else f", image {i + 1}"
        frames = ", the first of its frames," if hasattr(features, "timestamps") else ""
        caption = (
            f"{name}{of}{frames} as resized to {w * config.patch_size} x {h * config.patch_size} pixels: "
            f"{h} x {w} patches of {config.patch_size} pixels, {tokens} tokens"
        )
        every = numbered_every(h // config.merge_size, w // config.merge_size)
        if every > 1:
            caption += f"; one in {every} rows and columns is numbered"
        yield Picture(f"{name} patches", caption, lambda step=step: draw_patches(frames_of(features, step)[0], config))


def draw_patches(frame: UInt8[np.ndarray, "height width 3"], config: ImageConfig) -> Figure:
    """Draw a frame with its patches (thin lines), the blocks that become one token (thick), and their numbers.

    Args:
        frame: RGB, sides multiples of `config.factor`.
        config: patch geometry.
    """
    height, width = frame.shape[:2]
    rows, columns = height // config.factor, width // config.factor
    token = _token_inches(rows, columns)
    size = max(columns * token + 0.8, _CAPTION), rows * token + 1.0
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(frame, extent=(0, width, height, 0))
    _draw_lines(axes, height, width, config.patch_size, token / config.merge_size, 0.4, "patches")
    _draw_lines(axes, height, width, config.factor, token, 1.0, "tokens")
    every = numbered_every(rows, columns)
    letters = _letters(rows * columns, token * every)
    for row in range(0, rows, every):
        for column in range(0, columns, every):
            y, x = row * config.factor, column * config.factor
            # Behind the number, and not in the corners.
            near, far = config.factor // 4, config.factor - config.factor // 4
            bright = frame[y + near : y + far, x + near : x + far].mean() > 127
            ink, edge = ("black", "white") if bright else ("white", "black")
            axes.text(
                x + config.factor / 2,
                y + config.factor / 2,
                str(row * columns + column),
                color=ink,
                fontsize=letters,
                ha="center",
                va="center",
                path_effects=[withStroke(linewidth=1.2, foreground=edge)],
                # They lie inside the axes: measuring each would take most of the time.
                in_layout=False,
            )
    axes.set_xlabel("pixels")
    axes.set_ylabel("pixels")
    return figure


def numbered_every(rows: int, columns: int) -> int:
    """Of how many rows and columns of tokens one is numbered, so that numbers can be read."""
    token = _token_inches(rows, columns)
    steps = (every * scale for scale in (1, 10, 100, 1000) for every in (1, 2, 5))
    return next((every for every in steps if _letters(rows * columns, token * every) >= _SMALLEST_LETTERS), 10_000)


def _letters(tokens: int, inches: float) -> float:
    """The size, in points, of numbers that fit side by side into cells of a width."""
    return min(9.0, inches * 72 * 0.78 / (0.64 * len(str(tokens - 1))), inches * 72 * 0.6)


def _token_inches(rows: int, columns: int) -> float:
    longest = max(rows, columns)
    return min(max(longest * _TOKEN, _LEAST), _MOST) / longest


def _draw_lines(axes: Axes, height: int, width: int, step: int, inches: float, thick: float, label: str) -> None:
    across = [((0, y), (width, y)) for y in range(0, height + 1, step)]
    down = [((x, 0), (x, height)) for x in range(0, width + 1, step)]
    # Thinner where lines are close: the frame is what is to be seen.
    thick *= min(1.0, inches * DPI / 16)
    # White on black, so that lines are seen on frames of any colour.
    for colour, wide, opacity in (("black", 2.2, 0.25), ("white", 1.0, 0.75)):
        lines = LineCollection(across + down, colors=colour, linewidths=thick * wide, alpha=opacity, label=label)
        axes.add_collection(lines, autolim=False)
