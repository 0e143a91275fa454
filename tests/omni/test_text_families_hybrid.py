"""Checkpoints with linear layers that only read text, against the reference: scores, continuations and gradients."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import omni
from omni.checkpoint.safetensors import open_tensors, write_tensors
from omni.tools.summary import summary
from omni.training import Example, collate
from tests.golden.gradients import assert_agree, loss_and_gradients
from tests.golden.load import DATA, relative_error
from tests.golden.text_families import CONFIGS, GRADIENTS, HYBRID, tensors, token_ids, write_checkpoint
from tests.omni.text_promises import expected as expected
from tests.omni.text_promises import load
from tests.omni.text_promises import test_a_cached_prefix_changes_nothing as test_a_cached_prefix_changes_nothing
from tests.omni.text_promises import (
    test_greedy_continuations_alone_and_together as test_greedy_continuations_alone_and_together,
)
from tests.omni.text_promises import test_logits as test_logits


@pytest.fixture(scope="module", params=HYBRID)
def loaded(request, tmp_path_factory):
    return request.param, load(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_of_every_tensor_is_the_references(tmp_path, name):
    with np.load(DATA / "text_gradients.npz") as archive:
        wanted = {key.partition("/")[2]: archive[key] for key in archive if key.startswith(f"{name}/")}
    model = omni.load(write_checkpoint(tmp_path / "there", name))
    ids = token_ids(65).astype(np.int32)
    positions = np.broadcast_to(np.arange(65, dtype=np.float32), (3, 65))
    example = Example(ids, positions, np.ones(65, bool), (), (), ())
    loss, found = loss_and_gradients(model, collate([example], model.config), tmp_path / "saved")
    assert loss == pytest.approx(float(wanted.pop("loss")), rel=1e-5)
    assert found.keys() == wanted.keys()
    for tensor, gradient in found.items():
        assert_agree(tensor, gradient, wanted[tensor])


def write_mixed(directory: Path, name: str, in_float32) -> dict[str, np.ndarray]:
    """A checkpoint in bfloat16 of which the tensors that `in_float32` chooses lie in float32."""
    write_checkpoint(directory, name)
    config = json.loads((directory / "config.json").read_text()) | {"torch_dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(config))
    held = {key: array if in_float32(key) else array.astype(jnp.bfloat16) for key, array in tensors(CONFIGS[name])}
    if name.startswith("qwen3_5"):
        held["mtp.fc.weight"] = np.zeros((4, 4), np.float32)
    layout = {key: jax.ShapeDtypeStruct(array.shape, array.dtype) for key, array in held.items()}
    (directory / "model.safetensors").unlink()
    write_tensors(directory / "model.safetensors", layout, iter(held.values()))
    return held


def test_files_may_hold_a_few_tensors_of_another_dtype_and_heads_that_guess_ahead(tmp_path):
    held = write_mixed(tmp_path, "qwen3_5_text", lambda name: name.endswith(("A_log", "linear_attn.norm.weight")))
    model = omni.load(tmp_path)
    parameters = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(model.parts))}
    kept = {path for path, leaf in parameters.items() if leaf.dtype == jnp.float32}
    assert kept and {path.rsplit(".", 2)[-1] for path in kept} == {"A_log", "weight"}
    assert kept == {path for path in parameters if path.endswith(("A_log", "linear_attn.norm.weight"))}
    assert {leaf.dtype.name for path, leaf in parameters.items() if path not in kept} == {"bfloat16"}
    assert "8 layers, 6 of them linear, of 64" in summary(tmp_path)
    model.save(tmp_path / "saved", max_shard_size="100KB")
    again = {key: tensor.array for key, tensor in open_tensors(tmp_path / "saved").items()}
    assert again.keys() == held.keys() - {"mtp.fc.weight"}
    for key, array in again.items():
        assert array.dtype == held[key].dtype, key
        np.testing.assert_array_equal(array, held[key])
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert model.generate([1, 2, 3], max_new_tokens=3).token_ids == (
        omni.load(tmp_path / "saved").generate([1, 2, 3], max_new_tokens=3).token_ids
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(omni.load(tmp_path, dtype="bfloat16").parts))} == {
        "bfloat16"
    }


@pytest.mark.parametrize(("name", "odd"), [("qwen3_5_text", True), ("qwen3_5_text", False), ("qwen3_moe", True)])
def test_any_tensors_may_be_kept_in_float32(tmp_path, expected, monkeypatch, name, odd):
    """Every second parameter of a layer, then the others: what is computed stays as close as in bfloat16 throughout."""
    monkeypatch.setattr("omni.loading._file_dtype", lambda *_: "bfloat16")  # though most may lie in float32
    kinds = {re.sub(r"\.\d+\.", ".#.", key): 0 for key, _ in tensors(CONFIGS[name])}
    chosen = set(list(kinds)[odd::2])
    write_mixed(tmp_path, name, lambda key: re.sub(r"\.\d+\.", ".#.", key) in chosen)
    mixed = omni.load(tmp_path)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(mixed.parts))} == {"bfloat16", "float32"}
    ids = token_ids(65).tolist()
    logits, wanted = mixed.logits(ids), expected[f"{name}/65/logits"]
    assert np.isfinite(logits).all()
    if "num_experts" not in CONFIGS[name]:  # where experts are nearly tied, bfloat16 may choose another one
        assert relative_error(logits[-len(wanted) :], wanted) < 0.05
