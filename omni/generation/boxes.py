"""Boxes and points that a model writes into its reply.

Two forms are read: JSON objects with `bbox_2d` or `point_2d`, alone, in lists or in fenced blocks, and Qwen's markers,
`<|box_start|>(x,y),(x,y)<|box_end|>`, with or without the control tokens, which a reply's text leaves out. What does
not parse is passed over: replies end in the middle of a list.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omni.errors import is_number
from omni.media.pictures import Frame
from processors.io.bounded_json import JSONError, JSONLimits, parse

_BOXES, _POINTS = ("bbox_2d", "bbox"), ("point_2d", "point")
_LABELS = ("label", "name", "category", "text_content", "text")
# Of one object; larger ones are what holds the others.
_OBJECT = JSONLimits(bytes=4096, depth=8, values=256, digits=40)
_MOST = 10_000
_PAIR = r"\(\s{0,4}(-?\d{1,6}(?:\.\d{1,6})?)\s{0,4},\s{0,4}(-?\d{1,6}(?:\.\d{1,6})?)\s{0,4}\)"
# A label stands right before the bracket, as only control tokens lay between the two.
_WORD = r"[^\s()<>|{}\[\]\"]{1,200}"
_LABEL = rf"(?:<\|object_ref_start\|>)?({_WORD}(?: {_WORD}){{0,20}})?(?:<\|object_ref_end\|>)?"
_MARKED = re.compile(
    rf"(?:<\|(?:box|point)_start\|>)?{_PAIR}(?:\s{{0,4}},?\s{{0,4}}{_PAIR})?(?:<\|(?:box|point)_end\|>)?"
)
_BEFORE = re.compile(rf"{_LABEL}(?:<\|(?:box|point)_start\|>)?$")
_LONGEST_LABEL = 400


@dataclass(frozen=True)
class Box:
    """A box in an image, in pixels of the image as it was given, upright.

    Attributes:
        left: of its left edge, from the image's left edge.
        top: of its upper edge, from the image's upper edge.
        right: of its right edge; not less than `left`.
        bottom: of its lower edge; not less than `top`.
        label: what the model says is there; None where it says nothing.
    """

    left: float
    top: float
    right: float
    bottom: float
    label: str | None = None


@dataclass(frozen=True)
class Point:
    """A point in an image, in pixels of the image as it was given, upright.

    Attributes:
        x: from the image's left edge.
        y: from the image's upper edge.
        label: what the model says is there; None where it says nothing.
    """

    x: float
    y: float
    label: str | None = None


def boxes(text: str, frame: Frame) -> tuple[Box, ...]:
    """The boxes of a text, in the order in which they stand there."""
    found = []
    for (left, top, right, bottom), label in _written(text, _BOXES, 4):
        (x, y), (right, bottom) = frame.place(left, top), frame.place(right, bottom)
        found.append(Box(min(x, right), min(y, bottom), max(x, right), max(y, bottom), label))
    return tuple(found)


def points(text: str, frame: Frame) -> tuple[Point, ...]:
    """The points of a text, in the order in which they stand there."""
    return tuple(Point(*frame.place(*place), label) for place, label in _written(text, _POINTS, 2))


def _written(text: str, keys: tuple[str, ...], size: int) -> list[tuple[tuple[float, ...], str | None]]:
    """So many coordinates at a time, with labels."""
    found = [*_objects(text, keys, size), *_pairs(text, size)]
    return [(place, label) for _, place, label in sorted(found, key=lambda one: one[0])[:_MOST]]


def _objects(text: str, keys: tuple[str, ...], size: int) -> Iterator[tuple[int, tuple[float, ...], str | None]]:
    for start, end in _braces(text):
        try:
            value = parse(text[start:end], _OBJECT, repeated="last")
        except JSONError:
            continue
        if isinstance(value, Mapping) and (key := next((key for key in keys if key in value), None)) is not None:
            for place in _places(value[key], size):
                yield start, place, _label(value)


def _braces(text: str) -> Iterator[tuple[int, int]]:
    """Where text in braces begins and ends, whatever it holds; not what is longer than an object may be."""
    opened: list[int] = []
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            opened.append(match.start())
        elif opened and match.end() - (start := opened.pop()) <= _OBJECT.bytes:
            yield start, match.end()


def _places(value: Any, size: int) -> Iterator[tuple[float, ...]]:
    """One place, or a list of them."""
    if not isinstance(value, list):
        return
    several = value if value and all(isinstance(one, list) for one in value) else [value]
    for one in several:
        if len(one) == size and all(is_number(number) and math.isfinite(number) for number in one):
            yield tuple(map(float, one))


def _label(value: Mapping[str, Any]) -> str | None:
    named = (value[key] for key in _LABELS if isinstance(value.get(key), str))
    return next(named, None)


def _pairs(text: str, size: int) -> Iterator[tuple[int, tuple[float, ...], str | None]]:
    for match in _MARKED.finditer(text):
        numbers = tuple(float(number) for number in match.groups() if number is not None)
        if len(numbers) == size:
            before = text[max(match.start() - _LONGEST_LABEL, 0) : match.start()]
            label = _BEFORE.search(before)
            yield match.start(), numbers, (label[1] if label else None) or None
