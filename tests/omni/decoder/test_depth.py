"""How a depth is cut into runs: every layer once, in order, and few blocks."""

import numpy as np
import pytest

from omni.decoder.depth import LayerKind, runs

KINDS = {
    "F": LayerKind("full_attention", True),
    "L": LayerKind("linear_attention", True),
    "f": LayerKind("full_attention", False),
    "l": LayerKind("linear_attention", False),
}


def cut(letters: str):
    return runs(tuple(KINDS[letter] for letter in letters))


def walk(letters: str):
    """(kind, number, number among its attention) of each layer, as the decoder comes to them."""
    for run in cut(letters):
        assert len({len(block.layers) for block in run}) == 1
        for i in range(len(run[0].layers)):
            for block in run:
                yield block.kind, block.layers[i], block.places[i]


@pytest.mark.parametrize(
    ("letters", "shape"),
    [
        ("F" * 48, [(1, 48)]),
        ("f", [(1, 1)]),
        ("LLLF" * 12, [(4, 12)]),
        ("LLLF", [(1, 3), (1, 1)]),
        ("f" + "F" * 47, [(1, 1), (1, 47)]),
        ("fF" * 24, [(2, 24)]),
        ("l" + "LLF" + "LLLF" * 11, [(1, 1), (4, 11), (1, 2), (1, 1)]),
        ("LLLF" * 5 + "LL", [(4, 5), (1, 2)]),
    ],
)
def test_runs_are_the_longest_of_the_shortest_cycles(letters, shape):
    assert sorted((len(run), len(run[0].layers)) for run in cut(letters)) == sorted(shape)


@pytest.mark.parametrize("seed", range(20))
def test_every_layer_comes_once_and_in_order(seed):
    dice = np.random.RandomState(seed)
    cycle = "".join(dice.choice(list(KINDS), dice.randint(1, 5)))
    letters = "".join(dice.choice(list(KINDS), dice.randint(0, 4))) + cycle * dice.randint(1, 6) + cycle[: seed % 3]
    found, attentions = list(walk(letters)), [KINDS[letter].attention for letter in letters]
    assert [kind for kind, _, _ in found] == [KINDS[letter] for letter in letters]
    assert [number for _, number, _ in found] == list(range(len(letters)))
    assert [place for _, _, place in found] == [attentions[:i].count(kind) for i, kind in enumerate(attentions)]
