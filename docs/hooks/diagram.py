"""Drawings as SVG, in the colours of the page: the import graph, and the way of a medium through the code."""

from collections.abc import Sequence
from html import escape

from docs.hooks.imports import levels, package_graph
from docs.hooks.reference import docstring, resolve

_BOX, _ROW, _GAP = 150, 64, 24
_WIDTH = 720
# Objects that a medium passes, in order. Each must exist, and its own docstring says what it does.
WAYS = {
    "image": (
        "processors.ImageProcessor",
        "encoders.buckets.vision_calls",
        "encoders.VisionEncoder",
        "encoders.VisionProjector",
        "omni.Embedding",
        "omni.prompt.layout.lay_out",
        "omni.decoder.model.TextDecoder",
    ),
    "audio": (
        "processors.AudioProcessor",
        "encoders.buckets.audio_calls",
        "encoders.AudioEncoder",
        "encoders.AudioProjector",
        "omni.Embedding",
        "omni.prompt.layout.lay_out",
        "omni.decoder.model.TextDecoder",
    ),
    "token": (
        "omni.prompt.template.ChatTemplate",
        "omni.prompt.tokenizer.Tokenizer",
        "omni.prompt.layout.lay_out",
        "omni.generation.scheduler.Scheduler",
        "omni.decoder.model.TextDecoder",
        "omni.generation.sampling.sample",
        "omni.generation.ticket.Ticket",
    ),
}


def _svg(height: float, shapes: Sequence[str], title: str) -> str:
    head = (
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker>'
    )
    style = "font-family:inherit;font-size:13px;max-width:100%"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" style="{style}" role="img" '
        f'aria-label="{escape(title)}"><defs>{head}</defs>{"".join(shapes)}</svg>'
    )


def _box(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="none" '
        'stroke="currentColor" stroke-opacity="0.6"/>'
    )


def _text(x: float, y: float, text: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="currentColor" {extra}>{escape(text)}</text>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (y1 + y2) / 2
    return (
        f'<path d="M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.45" marker-end="url(#tip)"/>'
    )


def _detour(x1: float, y1: float, x2: float, y2: float) -> str:
    """An arrow from the side of one box to that of another, past the rows between."""
    right = x2 + _BOX / 2 > _WIDTH / 2
    side, edge = (_WIDTH - 30, _BOX) if right else (30, 0)
    return (
        f'<path d="M{x1 + edge:g} {y1:g}C{side:g} {y1:g} {side:g} {y2:g} {x2 + edge:g} {y2:g}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.45" marker-end="url(#tip)"/>'
    )


def packages() -> str:
    """The packages and which imports which, the importing one above; arrows that follow from others are left out."""
    graph = package_graph()
    rows = levels(graph)[::-1]
    places = {}
    for level, row in enumerate(rows):
        width = len(row) * _BOX + (len(row) - 1) * _GAP
        for i, name in enumerate(row):
            places[name] = ((_WIDTH - width) / 2 + i * (_BOX + _GAP), level * _ROW + 4)
    shapes = []
    for name, (x, y) in places.items():
        shapes.append(_box(x, y, _BOX, 32))
        shapes.append(_text(x + _BOX / 2, y + 21, name, 'text-anchor="middle"'))
        for other in sorted(graph[name]):
            to_x, to_y = places[other]
            if to_y - y > _ROW:
                shapes.append(_detour(x, y + 16, to_x, to_y + 16))
            else:
                shapes.append(_arrow(x + _BOX / 2, y + 32, to_x + _BOX / 2, to_y))
    return _svg(len(rows) * _ROW - _ROW + 40, shapes, "Which package imports which")


def way(kind: str) -> str:
    """What a medium, or a token, passes from a file to the decoder: names of objects, and what each does."""
    shapes = []
    for i, name in enumerate(WAYS[kind]):
        y = i * _ROW + 4
        summary = docstring(resolve(name)).split("\n\n")[0].replace("\n", " ")
        shapes.append(_box(1, y, _WIDTH - 2, 44))
        shapes.append(_text(12, y + 18, name, 'font-weight="bold"'))
        shapes.append(_text(12, y + 36, summary if len(summary) <= 104 else summary[:101] + "...", 'font-size="12"'))
        if i:
            shapes.append(_arrow(40, y - 20, 40, y))
    return _svg(len(WAYS[kind]) * _ROW - 12, shapes, f"The way of one {kind}")


DRAWINGS = {"packages": packages} | {kind: (lambda kind=kind: way(kind)) for kind in WAYS}
