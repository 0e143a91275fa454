"""Checkpoints that only read text, against the reference: dense and sparse, tied and not, over lengths that straddle
the engine's chunks, with and without a cached prefix."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gradients import assert_agree
from load import DATA, relative_error
from text_families import CONFIGS, GRADIENTS, LENGTHS, tensors, token_ids, write_checkpoint
from tiny import write_safetensors

import omni
from omni.families import family_of
from omni.safetensors_file import open_tensors, write_tensors
from omni.summary import summary


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


def test_a_tied_output_head_may_lie_in_the_files(tmp_path, expected):
    """As in the published Qwen3-0.6B; the embedding is read, once."""
    directory = write_checkpoint(tmp_path, "qwen3_tied")
    values = dict(tensors(CONFIGS["qwen3_tied"]))
    write_safetensors(directory / "model.safetensors", values | {"lm_head.weight": values["model.embed_tokens.weight"]})
    wanted = expected["qwen3_tied/65/logits"]
    found = omni.load(directory).logits(token_ids(65).tolist())
    assert relative_error(found[-len(wanted) :], wanted) < 1e-5


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


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_of_every_tensor_is_the_references(tmp_path, name):
    with np.load(DATA / "text_gradients.npz") as archive:
        wanted = {key.partition("/")[2]: archive[key] for key in archive if key.startswith(f"{name}/")}
    model = omni.load(write_checkpoint(tmp_path, name))
    graph, weights = nnx.split(model.parts)
    ids = jnp.asarray(token_ids(65)[None], jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(65, dtype=jnp.float32), (3, 1, 65))

    def loss(weights):
        text = nnx.merge(graph, weights).text
        hidden, _ = text(text.embed(ids), positions, None, jnp.full(1, 65, jnp.int32))
        scores = jax.nn.log_softmax(text.logits(hidden[0, :-1]))
        return -jnp.take_along_axis(scores, ids[0, 1:, None], axis=-1).mean()

    found_loss, gradients = jax.jit(jax.value_and_grad(loss))(weights)
    assert float(found_loss) == pytest.approx(float(wanted.pop("loss")), rel=1e-5)
    sources = family_of(CONFIGS[name]["model_type"]).sources(model.config)
    for path, leaf in nnx.to_flat_state(gradients):
        gradient = np.asarray(leaf[...], np.float64)
        for tensor, place, shape in sources[".".join(map(str, path))].pieces(gradient.shape):
            assert_agree(tensor, gradient[place].reshape(shape), wanted.pop(tensor))
    assert not wanted


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
