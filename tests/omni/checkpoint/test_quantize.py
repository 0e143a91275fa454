"""Weights as integers of 8 bits: the model that they stand for, at half the bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import omni
from encoders.nn.weights import Quantized
from omni.training import TrainingOptions, train
from tests.golden import media
from tests.golden.text_families import token_ids, write_checkpoint

ASK = [{"role": "user", "content": [{"type": "image", "image": media.image("small")}, "What is this?"]}]


def variables(model):
    return nnx.to_flat_state(nnx.state(model.parts, nnx.Param))


def restored(model):
    """The same model with each weight as the numbers that its integers stand for."""
    found = []
    for path, variable in variables(model):
        if isinstance(value := variable.get_value(), Quantized):
            variable.set_value(jnp.asarray(value[...]))
        found.append((path, variable))
    nnx.update(model.parts, nnx.from_flat_state(found))


def bytes_of(model):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model.parts, nnx.Param)))


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("family", ["qwen3_tied", "qwen3_moe", "qwen3_next", "qwen3_5_text"])
def test_integers_compute_what_the_weights_that_they_stand_for_compute(family, tmp_path):
    directory = write_checkpoint(tmp_path, family)
    model, whole = omni.load(directory, quantize="int8"), omni.load(directory)
    ids = token_ids(100).tolist()
    logits, reply = model.logits(ids), model.generate(ids, max_new_tokens=8, temperature=0)
    assert 1e-4 < error(logits, whole.logits(ids)) < 0.2
    restored(model)
    assert error(model.logits(ids), logits) < 1e-5
    assert model.generate(ids, max_new_tokens=8, temperature=0).token_ids == reply.token_ids


def test_towers_of_integers(tiny_checkpoint):
    model, whole = omni.load(tiny_checkpoint, quantize="int8"), omni.load(tiny_checkpoint)
    audio = omni.Audio(media.audio("short"), media.RATE)
    for medium in (media.image("small"), audio):
        tokens = model.encode(medium).tokens
        assert 1e-4 < error(tokens, whole.encode(medium).tokens) < 0.2
    picture, reply = model.encode(media.image("small")).tokens, model.generate(ASK, max_new_tokens=4, temperature=0)
    restored(model)
    assert error(model.encode(media.image("small")).tokens, picture) < 1e-5
    assert model.generate(ASK, max_new_tokens=4, temperature=0).token_ids == reply.token_ids


def test_the_demo_takes_half_the_bytes_and_says_the_same():
    whole, model = omni.load("demo", dtype="bfloat16"), omni.load("demo", dtype="bfloat16", quantize="int8")
    assert bytes_of(model) < 0.55 * bytes_of(whole)
    talk = [{"role": "user", "content": [{"type": "image", "image": "samples/shapes.png"}, "What is this?"]}]
    reply = whole.generate(talk, temperature=0)
    assert model.generate(talk, temperature=0).text == reply.text


def test_matrices_that_files_hold_in_float32_are_integers_too(tmp_path):
    model = omni.load(write_checkpoint(tmp_path, "qwen3_5_text"), dtype="bfloat16", quantize="int8")
    kinds = {".".join(map(str, path)): type(variable.get_value()) for path, variable in variables(model)}
    integers = {path for path, kind in kinds.items() if kind is Quantized}
    assert any("in_proj_qkv" in path for path in integers) and any("embed_tokens" in path for path in integers)
    assert not any(part in path for path in integers for part in ("norm", "conv1d", "A_log", "in_proj_a", "in_proj_b"))


def test_shards_stay_on_their_mesh(tmp_path):
    directory = write_checkpoint(tmp_path, "qwen3_moe")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("model",))
    spread = omni.load(directory, quantize="int8", mesh=mesh)
    weight = spread.parts.text.embed_tokens.weight.get_value()
    assert isinstance(weight, Quantized) and weight.values.dtype == jnp.int8
    assert set(weight.values.sharding.device_set) == set(mesh.devices.flat)
    ids = token_ids(40).tolist()
    assert error(spread.logits(ids), omni.load(directory, quantize="int8").logits(ids)) < 1e-5


def test_what_needs_the_weights_themselves_is_refused(tmp_path):
    directory = write_checkpoint(tmp_path / "there", "qwen3_tied")
    model = omni.load(directory, quantize="int8")
    with pytest.raises(omni.InputError) as error:
        model.save(tmp_path / "elsewhere")
    assert error.value.code == "quantized" and not (tmp_path / "elsewhere").exists()
    with pytest.raises(omni.InputError) as error:
        next(train(model, [ASK], tmp_path / "state", TrainingOptions(steps=1)))
    assert error.value.code == "quantized"
    for form in ("int4", "", "INT8"):
        with pytest.raises(omni.CheckpointError) as error:
            omni.load(directory, quantize=form)
        assert error.value.code == "bad_option"
