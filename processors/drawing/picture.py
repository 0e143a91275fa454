"""Pictures that are drawn when they are looked at, on light or on dark paper."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Ink, paper and grid.
_LIGHT, _DARK = ("#202124", "#ffffff", "#dadce0"), ("#e8eaed", "#202124", "#5f6368")
DPI = 100


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows.

    Attributes:
        title: what it is of, in a few words.
        caption: what is to be seen, in one line.
        draw: makes the figure, in the style that holds when it is called.
    """

    title: str
    caption: str
    draw: Callable[[], Figure]

    def figure(self, dark: bool = False) -> Figure:
        """Return the matplotlib figure, with the caption above it."""
        with style(dark):
            return self._figure()

    def png(self, dark: bool = False, caption: bool = True) -> bytes:
        """Return the picture as a PNG file, with or without its caption."""
        buffer = io.BytesIO()
        # Ticks and their labels are made when the figure is rendered, in the style of that moment.
        with style(dark), warnings.catch_warnings():
            # A name in letters that the font lacks is drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph")
            self._figure(caption).savefig(buffer, format="png")
        return buffer.getvalue()

    def save(self, path: str | PathLike[str], dark: bool = False) -> None:
        """Write the picture as a PNG file."""
        with open(path, "wb") as file:
            file.write(self.png(dark))

    def _figure(self, caption: bool = True) -> Figure:
        figure = self.draw()
        FigureCanvasAgg(figure)
        if not caption:
            return figure
        room = int(figure.get_figwidth() * 11.5)
        figure.suptitle("\n".join(wrapped(self.caption, room)), x=0.01, ha="left", fontsize=10)
        return figure

    def _repr_png_(self) -> bytes:
        return self.png()


@contextmanager
def style(dark: bool = False) -> Iterator[None]:
    """Matplotlib's settings for what is made and rendered inside; those of the caller stand again afterwards."""
    ink, paper, grid = _DARK if dark else _LIGHT
    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict.fromkeys(colours, ink))
        matplotlib.rcParams.update(
            {
                "axes.facecolor": paper,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.labelsize": 9,
                "axes.linewidth": 0.6,
                "figure.dpi": DPI,
                "figure.facecolor": paper,
                "font.size": 9,
                "grid.color": grid,
                "legend.facecolor": paper,
                "legend.edgecolor": grid,
                "legend.fontsize": 8,
                "savefig.dpi": DPI,
                "savefig.facecolor": paper,
                # A file's name is no formula, whatever dollars it holds.
                "text.parse_math": False,
                "xtick.labelsize": 8,
                "ytick.labelsize": 8,
            }
        )
        yield


def wrapped(text: str, width: int) -> list[str]:
    """Break a line at spaces into lines of at most so many letters; a longer word is broken within."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return lines


def shortened(name: str, most: int = 60) -> str:
    """Return a name that fits into a caption: of a long one the beginning and the end, controls as question marks."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
