"""Checkpoints that only read text, against the reference: dense and sparse, tied and not, over lengths that straddle
the engine's chunks, with and without a cached prefix."""

from pathlib import Path

import numpy as np
import pytest
from load import DATA, relative_error
from text_families import CONFIGS, LENGTHS, token_ids, write_checkpoint

import omni


@pytest.fixture(scope="module")
def expected():
    return np.load(DATA / "text_families.npz")


@pytest.fixture(scope="module", params=CONFIGS)
def loaded(request, tmp_path_factory):
    return request.param, omni.load(write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


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
    session = model.engine.start([model.prepare(ids[:held]).to_prompt()])
    model.engine.extend(session, [model.prepare(ids).to_prompt()], [held])
    assert relative_error(np.asarray(session.logits[0]), expected[f"{name}/200/logits"][-1]) < 1e-5


def test_bfloat16_stays_close_in_a_dense_model(tmp_path, expected):
    # Where experts are nearly tied, bfloat16 may choose another one: a sparse model is as far off in the reference.
    model = omni.load(write_checkpoint(tmp_path, "qwen3"), dtype="bfloat16")
    wanted = expected["qwen3/200/logits"]
    found = model.logits(token_ids(200))[-len(wanted) :]
    cosine = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosine.min() > 0.999


def test_messages_need_a_tokenizer(loaded):
    _, model = loaded
    with pytest.raises(omni.InputError, match="no tokenizer"):
        model.generate([{"role": "user", "content": "Hello"}])


def test_media_need_their_parts(loaded):
    _, model = loaded
    with pytest.raises(omni.InputError, match="no vision part"):
        model.encode(Path(__file__).parents[2] / "samples" / "china.jpg")


def test_parts_that_are_not_there(tmp_path):
    with pytest.raises(omni.CheckpointError, match="none of the parts vision"):
        omni.load(write_checkpoint(tmp_path, "qwen3"), parts=("vision",))
