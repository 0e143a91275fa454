"""What was written by omni 0.1.0, before the packages were laid out anew, loads and gives the same numbers.

Weights are loaded as float32, so sums in another order are all that differs between machines and versions of JAX:
scores and losses are held to 1e-5, gradients and what a step makes of the scores to 1e-4.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file

import omni
from tests.golden import parameters, written
from tests.golden.load import relative_error
from tests.golden.written import CHECKPOINTS, EMBEDDING, RUNS, WRITTEN


@pytest.fixture(scope="module")
def expected():
    return written.expected()


@pytest.fixture(scope="module")
def models():
    return {name: written.load(name) for name in CHECKPOINTS}


def tensors(directory):
    return {name: value for path in directory.glob("*.safetensors") for name, value in load_file(path).items()}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_scores_of_a_checkpoint(models, expected, name):
    assert relative_error(written.logits(models[name], name), expected[f"{name}/logits"]) < 1e-5


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_saved_again_as_it_lies_there(tmp_path, name):
    model = omni.load(WRITTEN / name)
    kept = {path for path, (dtype, _) in parameters.tree_of(model.parts).items() if dtype == "float32"}
    in_float32 = ("linear_attn.A_log", "linear_attn.norm.weight")
    assert {path.split(".", 3)[-1] for path in kept} == (set(in_float32) if name == "hybrid" else set())
    model.save(tmp_path / "again", max_shard_size="10KB")
    before, after = tensors(WRITTEN / name), tensors(tmp_path / "again")
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert (value.dtype, value.shape) == (after[key].dtype, after[key].shape), key
        assert value.tobytes() == after[key].tobytes(), key


@pytest.mark.parametrize("run", RUNS)
def test_a_training_run_goes_on(tmp_path, expected, run):
    result = written.resume(run, tmp_path / "run")
    wanted = {key: expected[f"{run}/{key}"] for key in result}
    np.testing.assert_array_equal(result["step"], wanted["step"])
    np.testing.assert_array_equal(result["tokens"], wanted["tokens"])
    np.testing.assert_allclose(result["loss"], wanted["loss"], rtol=1e-5)
    np.testing.assert_allclose(result["norm"], wanted["norm"], rtol=1e-4)
    assert relative_error(result["logits"], wanted["logits"]) < 1e-4
    # And it is not that nothing was learned.
    assert relative_error(wanted["logits"], expected[f"{RUNS[run]}/logits"]) > 1e-2


def test_an_embedding_stands_for_its_video(models):
    kept, fresh = omni.Embedding.load(EMBEDDING), models["omni"].encode(written.video())
    assert (kept.kind, kept.grid_thw) == (fresh.kind, fresh.grid_thw) == ("video", (2, 6, 10))
    assert (kept.seconds_per_grid, kept.timestamps) == (fresh.seconds_per_grid, fresh.timestamps) == (1.0, (0.25, 1.25))
    assert kept.audio is not None and fresh.audio is not None and kept.audio.deepstack is None
    assert kept.deepstack is not None and fresh.deepstack is not None
    for ours, theirs in ((fresh, kept), (fresh.audio, kept.audio)):
        assert relative_error(ours.tokens, theirs.tokens) < 1e-5
    assert relative_error(fresh.deepstack, kept.deepstack) < 1e-5
    inputs = [
        models["omni"].prepare([{"role": "user", "content": [{"type": "video", "video": medium}]}])
        for medium in (kept, written.video())
    ]
    np.testing.assert_array_equal(inputs[0].token_ids, inputs[1].token_ids)
    np.testing.assert_array_equal(inputs[0].position_ids, inputs[1].position_ids)
