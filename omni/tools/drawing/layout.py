"""The tokens of a conversation: what each carries, and its rotary positions in time, height and width."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from omni.prompt.inputs import Inputs
from processors.drawing.picture import Picture

# Okabe and Ito's palette: told apart by the colour-blind as well.
COLOURS = {"text": "#999999", "image": "#0072b2", "audio": "#009e73", "video": "#d55e00"}
# Time below the others, and thicker: for text, all three are the same line.
_AXES = (("time", "#cc79a7", "-", 3.0), ("height", "#56b4e9", "-", 1.4), ("width", "#e69f00", ":", 1.4))
# More tokens than this are not marked one by one.
_MOST_MARKED = 80


def token_kinds(inputs: Inputs) -> list[str]:
    """What each token carries: `text`, `image`, `audio` or `video`."""
    kinds = np.full(len(inputs.token_ids), "text", dtype=object)
    for span in inputs.spans:
        kinds[span.indices] = span.kind
    return kinds.tolist()


def layout_picture(inputs: Inputs) -> Picture:
    """A picture of the tokens and positions that the decoder reads."""
    kinds = token_kinds(inputs)
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in COLOURS if kind in kinds)
    caption = f"{len(kinds)} tokens ({counts}), rotary positions from 0; the next is {inputs.next_position:g}"
    return Picture("tokens", caption, lambda: draw_layout(kinds, inputs.position_ids))


def draw_layout(kinds: Sequence[str], positions: Float[np.ndarray, "3 tokens"]) -> Figure:
    """Draw positions over the number of the token, and what each carries as a band beneath.

    Args:
        kinds: what each token carries.
        positions: in time, height and width.
    """
    count = len(kinds)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    lines, band = figure.subplots(2, 1, sharex=True, height_ratios=(12, 1))
    tokens = np.arange(count)
    marker = "o" if count <= _MOST_MARKED else ""
    for (label, colour, style, width), values in zip(_AXES, positions, strict=True):
        size = width + 1.6
        lines.plot(tokens, values, style, color=colour, linewidth=width, marker=marker, markersize=size, label=label)
    lines.set_ylabel("rotary position")
    lines.grid(linewidth=0.4)
    lines.set_axisbelow(True)
    for kind, starts, lengths in _runs(kinds):
        boxes = [Rectangle((start - 0.5, 0), length, 1) for start, length in zip(starts, lengths, strict=True)]
        band.add_collection(PatchCollection(boxes, facecolor=COLOURS[kind], edgecolor="none", label=kind))
    band.set_ylim(0, 1)
    band.set_yticks([])
    band.set_xlim(-0.5, count - 0.5)
    band.set_xlabel("token")
    for axis in (band.xaxis, lines.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    for spine in band.spines.values():
        spine.set_visible(False)
    carried = [Patch(color=colour, label=kind) for kind, colour in COLOURS.items() if kind in kinds]
    figure.legend(handles=[*lines.get_lines(), *carried], loc="outside right upper", frameon=False)
    return figure


def _runs(kinds: Sequence[str]) -> list[tuple[str, list[int], list[int]]]:
    """For each kind where its runs of tokens begin, and how long they are."""
    borders = [0, *(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), len(kinds)]
    runs = list(zip(borders, np.diff(borders).tolist(), strict=False))
    found = ((kind, [run for run in runs if run[1] and kinds[run[0]] == kind]) for kind in COLOURS)
    return [(kind, [start for start, _ in own], [length for _, length in own]) for kind, own in found if own]
