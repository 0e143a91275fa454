"""What every checkpoint that only reads text promises: the reference's scores and continuations, alone and together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omni
from omni.generation.buckets import Buckets
from omni.options import Sampling
from tests.golden.load import DATA, relative_error
from tests.golden.text_families import LENGTHS, token_ids, write_checkpoint

# Prompts end inside a program's tokens, straddle its inner chunks, and are read in several of it; few are compiled.
BUCKETS = Buckets((1, 8), (128,), 1024)


@pytest.fixture(scope="module")
def expected():
    return np.load(DATA / "text_families.npz")


def load(name: str, directory: Path, **options: Any) -> omni.Model:
    """A checkpoint of a family, read in few shapes."""
    model = omni.load(write_checkpoint(directory, name), **options)
    model.engine.buckets = BUCKETS
    return model


def test_logits(loaded, expected):
    name, model = loaded
    for length in LENGTHS:
        wanted = expected[f"{name}/{length}/logits"]
        assert relative_error(model.logits(token_ids(length).tolist())[-len(wanted) :], wanted) < 1e-5, length


def test_greedy_continuations_alone_and_together(loaded, expected):
    name, model = loaded
    wanted = [expected[f"{name}/{length}/greedy"].tolist() for length in LENGTHS]
    prompts = [token_ids(length) for length in LENGTHS]
    together = model.generate(prompts, max_new_tokens=len(wanted[0]))
    assert [reply.token_ids for reply in together] == wanted
    alone = model.generate(prompts[2].tolist(), max_new_tokens=len(wanted[0]))
    assert alone.token_ids == wanted[2]
    assert (alone.text, alone.finish_reason) == ("", "length")


@pytest.mark.parametrize("held", [1, 63, 64, 150])
def test_a_cached_prefix_changes_nothing(loaded, expected, held):
    name, model = loaded
    ids = token_ids(200)
    model.engine.memory.reset()
    model.generate(ids[:held], max_new_tokens=1)
    row = model.engine.open(model.prepare(ids).to_prompt(), 200, Sampling())
    assert row.length == held
    while row.length < 200:
        found = model.engine.read([row], [min(128, 200 - row.length)], 128, 1)
    assert relative_error(np.asarray(found[0]), expected[f"{name}/200/logits"][-1]) < 1e-5
    model.engine.memory.close(row)
