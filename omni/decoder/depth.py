"""How layers of several kinds are grouped, so that a scan goes over as many of them as can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class LayerKind(NamedTuple):
    """What layers of one decoder differ in.

    Attributes:
        attention: "full_attention" or "linear_attention".
        sparse: whether experts stand in for the dense MLP.
    """

    attention: str
    sparse: bool


@dataclass(frozen=True)
class Block:
    """Layers of one kind, at one place of a repeating cycle: their parameters are stacked.

    Attributes:
        kind: of all its layers.
        layers: their numbers in the depth.
        places: their numbers among the layers of the same attention.
    """

    kind: LayerKind
    layers: range
    places: range


Run = tuple[Block, ...]


@cache
def runs(kinds: tuple[LayerKind, ...]) -> tuple[Run, ...]:
    """Cuts a depth into runs of a repeating cycle, with the fewest blocks in all, and then the fewest runs.

    Each run is scanned, and each of its blocks is compiled once: a depth of one kind is one block, linear layers with
    every fourth a full one are four, and a first layer that fits no cycle is a block of its own.
    """
    depth = len(kinds)
    # From each layer to the end: blocks, runs, and then the period and the repeats of the next run.
    best: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)] * (depth + 1)
    for first in reversed(range(depth)):
        found = []
        for period in range(1, depth - first + 1):
            repeats = 1
            while _same(kinds, first, first + repeats * period, period):
                repeats += 1
            rest = (best[first + period * r] for r in range(1, repeats + 1))
            found += [(period + b, 1 + n, period, r) for r, (b, n, _, _) in enumerate(rest, start=1)]
        best[first] = min(found)
    cut, first = [], 0
    while first < depth:
        _, _, period, repeats = best[first]
        cut.append(tuple(_block(kinds, first + place, period, repeats) for place in range(period)))
        first += period * repeats
    return tuple(cut)


def _same(kinds: Sequence[LayerKind], first: int, second: int, size: int) -> bool:
    return second + size <= len(kinds) and kinds[first : first + size] == kinds[second : second + size]


def _block(kinds: tuple[LayerKind, ...], first: int, period: int, repeats: int) -> Block:
    def before(layer: int) -> int:
        return sum(kind.attention == kinds[first].attention for kind in kinds[:layer])

    step = before(first + period) - before(first)
    layers = range(first, first + period * repeats, period)
    return Block(kinds[first], layers, range(before(first), before(first) + step * repeats, step))
