"""Adapters of PEFT: merged as PEFT merges them, and whatever else a directory may hold is refused."""

import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

import omni
from omni.checkpoint.adapters import open_adapters
from omni.checkpoint.safetensors import open_file, open_tensors
from omni.cli.app import app
from omni.families import QWEN3, QWEN3_5, QWEN3_OMNI, QWEN3_VL
from omni.server import run
from tests.golden import adapters, text_families
from tests.golden.adapters import CASES, sketch, write_adapters, write_checkpoint
from tests.golden.load import DATA, relative_error
from tests.golden.text_families import token_ids
from tests.golden.tiny import draw, write_safetensors

FAMILIES = {"omni": QWEN3_OMNI, "vl": QWEN3_VL, "vl_moe": QWEN3_VL, "qwen3_5_text": QWEN3_5}
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
Q = "base_model.model.model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def wanted():
    """What PEFT gives."""
    with np.load(DATA / "adapters.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Name -> directory."""
    names = {case.checkpoint for case in CASES.values()}
    return {name: write_checkpoint(tmp_path_factory.mktemp(name), name) for name in names}


def tensors(directory):
    return {name: tensor.array for name, tensor in open_tensors(directory).items()}


def pair(name, out, into, rank=2):
    """The two matrices of a module."""
    shapes = {f"{name}.lora_A.weight": (rank, into), f"{name}.lora_B.weight": (out, rank)}
    return {key: draw(key, shape, 0.0, 0.5) for key, shape in shapes.items()}


def write(directory, values, **config):
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(PLAIN | config))
    write_safetensors(directory / "adapter_model.safetensors", values)
    return directory


def product(values, name):
    return values[f"{name}.lora_B.weight"] @ values[f"{name}.lora_A.weight"]


# --- as PEFT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_that_peft_merges(tmp_path, checkpoints, wanted, case):
    name = CASES[case].checkpoint
    places = write_adapters(tmp_path / "adapters", case)
    model = omni.load(checkpoints[name], adapters=places)
    assert model.adapters == tuple(map(str, places))
    model.save(tmp_path / "merged")
    family = FAMILIES.get(name, QWEN3)
    before, after = (
        {family.canonical(k): v for k, v in tensors(d).items()} for d in (checkpoints[name], tmp_path / "merged")
    )
    assert before.keys() == after.keys()
    prefix, compared, changed = f"{case}/sketch/", 0, 0
    for key in [key for key in wanted if key.startswith(prefix)]:
        ours = family.canonical(key.removeprefix(prefix))
        if ours in after:
            np.testing.assert_allclose(
                sketch(key.removeprefix(prefix), after[ours]), wanted[key], atol=2e-5, err_msg=key
            )
            compared, changed = compared + 1, changed + (not np.array_equal(before[ours], after[ours]))
    assert compared >= len(before)
    names = {key for one in adapters.recorded()[case] for key in one["tensors"]}
    assert changed >= sum(key.endswith("lora_B.weight") for key in names)


@pytest.mark.parametrize("case", ["patterns", "omni"])
def test_logits_are_those_of_the_adapted_model(tmp_path, checkpoints, wanted, case):
    model = omni.load(checkpoints[CASES[case].checkpoint], adapters=write_adapters(tmp_path, case))
    theirs = wanted[f"{case}/logits"]
    assert relative_error(model.logits(token_ids(33))[-len(theirs) :], theirs) <= 1e-5


# --- forms of files -----------------------------------------------------------------------------------------------


def test_one_expert_of_files_that_hold_them_together(tmp_path):
    """Fused files and adapters of single experts, and the other way round, give what each gives by itself."""
    fused = text_families.write_checkpoint(tmp_path / "fused", "qwen3_5_moe_text")
    config = text_families.CONFIGS["qwen3_5_moe_text"]
    width, hidden = config["hidden_size"], config["moe_intermediate_size"]
    experts = "base_model.model.model.layers.2.mlp.experts"
    values = pair(f"{experts}.5.up_proj", hidden, width) | pair(f"{experts}.1.down_proj", width, hidden)
    omni.load(fused, adapters=write(tmp_path / "adapter", values)).save(tmp_path / "merged")
    before, after = tensors(fused), tensors(tmp_path / "merged")
    both, down = (f"model.language_model.layers.2.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {both, down}
    wanted = before[both].copy()
    wanted[5, hidden:] += 2 * product(values, f"{experts}.5.up_proj")
    np.testing.assert_allclose(after[both], wanted, atol=1e-6)
    np.testing.assert_allclose(
        after[down][1], before[down][1] + 2 * product(values, f"{experts}.1.down_proj"), atol=1e-6
    )


def test_sums_are_rounded_once(tmp_path, checkpoints):
    values = pair(Q, 128, 64)
    place = write(tmp_path / "adapter", values)
    model = omni.load(checkpoints["qwen3"], adapters=place, dtype="bfloat16")
    whole = tensors(checkpoints["qwen3"])["model.layers.1.self_attn.q_proj.weight"]
    wanted = (whole + 2 * product(values, Q)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.asarray(model.parts.text.layers.self_attn.q_proj.weight[...][1]), wanted)


def test_weights_are_quantised_afterwards(tmp_path, checkpoints):
    place = write(tmp_path / "adapter", pair(Q, 128, 64))
    model = omni.load(checkpoints["qwen3"], adapters=place)
    model.save(tmp_path / "merged")
    one = omni.load(checkpoints["qwen3"], adapters=place, quantize="int8")
    two = omni.load(tmp_path / "merged", quantize="int8")
    for left, right in zip(*(jax.tree.leaves(nnx.state(model.parts)) for model in (one, two)), strict=True):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_parts_that_are_not_loaded_are_left_out(tmp_path, checkpoints):
    places = write_adapters(tmp_path, "vl")
    model = omni.load(checkpoints["vl"], adapters=places[0], parts="text")
    whole = omni.load(checkpoints["vl"], adapters=places[0])
    weights = [np.asarray(m.parts.text.layers.self_attn.q_proj.weight[...]) for m in (model, whole)]
    np.testing.assert_array_equal(*weights)


def test_files_tell_of_what_is_merged(tmp_path, checkpoints):
    place = write(tmp_path / "named", pair(Q, 128, 64))
    model = omni.load(checkpoints["qwen3"], adapters=str(place))
    model.save(tmp_path / "merged")
    (adapter,) = open_adapters([place])
    head = (tmp_path / "merged" / "model.safetensors").read_bytes()[:1000]
    assert f"named sha256:{adapter.digest}".encode() in head and str(tmp_path).encode() not in head
    assert open_file(tmp_path / "merged" / "model.safetensors")


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"peft_type": "IA3"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"trainable_token_indices": [1, 2]},
        {"layer_replication": [[0, 2]]},
        {"alora_invocation_tokens": [5]},
        {"invented_next_year": {"strength": 2}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_what_would_change_the_numbers(tmp_path, checkpoints, config):
    place = write(tmp_path / "adapter", pair(Q, 128, 64), **config)
    with pytest.raises(omni.CheckpointError, match=next(iter(config))) as refused:
        omni.load(checkpoints["qwen3"], adapters=place)
    assert refused.value.code == "unsupported_adapter"


@pytest.mark.parametrize(
    "config",
    [
        {"r": 0},
        {"r": "8"},
        {"lora_alpha": None},
        {"rank_pattern": ["q_proj"]},
        {"rank_pattern": {"(": 2}},
        {"rank_pattern": {"(a+)+b": 2}},
        {"alpha_pattern": {".*.*.*": 2}},
        {"modules_to_save": "lm_head"},
        {"use_rslora": "yes"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used(tmp_path, checkpoints, config):
    place = write(tmp_path / "adapter", pair(Q, 128, 64), **config)
    with pytest.raises(omni.CheckpointError) as refused:
        omni.load(checkpoints["qwen3"], adapters=place)
    assert refused.value.code == "bad_adapter"


LONE = {f"{Q}.lora_A.weight": np.ones((2, 64), np.float32)}
MAGNITUDES = {f"{Q}.lora_magnitude_vector": np.ones(128, np.float32)}


@pytest.mark.parametrize(
    "values, said",
    [
        (pair(Q, 128, 65), r"\[128, 65\] in the adapter, and \[128, 64\]"),
        (pair(Q, 128, 64, rank=3), "rank 3, and adapter_config.json says 2"),
        (pair(Q.replace("layers.1", "layers.7"), 128, 64), "no module of the checkpoint"),
        (LONE, "one of its two matrices"),
        (pair(Q, 128, 64) | MAGNITUDES, "of no kind that is read"),
        (pair(Q, 128, 64) | {"base_model.model.lm_head.weight": np.ones((513, 64), np.float32)}, r"\[513, 64\]"),
        (pair(Q, 128, 64) | {"base_model.model.model.norm.weight": np.ones(64, np.float32)}, "modules_to_save"),
        ({}, "none of its 0 tensors"),
    ],
    ids=["shape", "rank", "layer", "lone", "magnitude", "vocabulary", "norm", "empty"],
)
def test_tensors_that_do_not_fit(tmp_path, checkpoints, values, said):
    place = write(tmp_path / "adapter", values)
    with pytest.raises(omni.CheckpointError) as refused:
        omni.load(checkpoints["qwen3"], adapters=place)
    assert refused.value.code == "adapter_mismatch"
    assert re.search(said, "\n".join(refused.value.problems))


def test_all_that_does_not_fit_is_told_at_once(tmp_path, checkpoints):
    places = [write(tmp_path / str(i), pair(Q, 128, 60 + i)) for i in range(3)]
    with pytest.raises(omni.CheckpointError) as refused:
        omni.load(checkpoints["qwen3"], adapters=places)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize("module", ["model.embed_tokens", "lm_head"])
def test_a_tied_embedding_stays_tied(tmp_path, module):
    checkpoint = text_families.write_checkpoint(tmp_path / "tied", "qwen3_tied")
    name = f"base_model.model.{module}.weight"
    place = write(tmp_path / "adapter", {name: np.ones((512, 64), np.float32)}, modules_to_save=[module])
    with pytest.raises(omni.CheckpointError, match="ties") as refused:
        omni.load(checkpoint, adapters=place)
    assert refused.value.code == "unsupported_adapter"
    both = {
        f"base_model.model.{one}.weight": np.full((512, 64), 0.5, np.float32)
        for one in ("model.embed_tokens", "lm_head")
    }
    model = omni.load(checkpoint, adapters=write(tmp_path / "both", both))
    assert (np.asarray(model.parts.text.embed_tokens.weight[...]) == 0.5).all()


def test_weights_that_are_no_numbers(tmp_path, checkpoints):
    values = pair(Q, 128, 64)
    values[f"{Q}.lora_A.weight"][0, 0] = np.nan
    with pytest.raises(omni.CheckpointError) as refused:
        omni.load(checkpoints["qwen3"], adapters=write(tmp_path / "adapter", values))
    assert refused.value.code == "weights_not_finite"
    assert refused.value.problems == (f"{Q}.lora_A.weight",)


def test_directories_that_hold_no_adapter(tmp_path, checkpoints):
    place = write(tmp_path / "adapter", pair(Q, 128, 64))
    (place / "adapter_model.safetensors").rename(place / "adapter_model.bin")
    for given, code in (
        (place, "pytorch_weights"),
        (checkpoints["qwen3"], "file_missing"),
        (tmp_path / "absent", "checkpoint_not_found"),
    ):
        with pytest.raises(omni.CheckpointError) as refused:
            omni.load(checkpoints["qwen3"], adapters=given)
        assert refused.value.code == code
    for given in (3, [None]):
        with pytest.raises(omni.CheckpointError) as refused:
            open_adapters(given)
        assert refused.value.code == "bad_option"


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [["chat", "--say", "Hi"], ["encode", "a.png"], ["transcribe", "-m", "demo", "a.wav"], ["serve"]],
    ids=lambda command: command[0],
)
def test_commands_merge_adapters(monkeypatch, command):
    asked = []

    def load(*_, adapters, **__):
        asked.append(list(adapters))
        raise KeyboardInterrupt

    monkeypatch.setattr(omni, "load", load)
    monkeypatch.setattr(run, "run", lambda load, *_: load())
    CliRunner().invoke(app, [*command, "--adapter", "one", "--adapter", "two"])
    assert asked == [["one", "two"]]
