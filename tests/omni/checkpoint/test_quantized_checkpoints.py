"""Quantised checkpoints as a whole: scores and continuations of the reference, what is kept as integers, saving."""

import json
import tracemalloc
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import omni
from encoders.nn.weights import Quantized
from omni.checkpoint.quantized import METHODS, PackedTensor, read_method
from omni.checkpoint.safetensors import PACKED, open_file, open_tensors
from omni.tools.summary import summary
from omni.training import TrainingOptions, train
from tests.golden import vl
from tests.golden.load import DATA, relative_error
from tests.golden.quantized import (
    CHECKPOINTS,
    awq,
    compressed_tensors,
    fp8,
    gptq,
    is_quantised,
    write_quantized,
    write_tensors,
)
from tests.golden.text_families import CONFIGS, tensors, token_ids, write_checkpoint
from tests.omni.text_promises import BUCKETS

KEPT = 4
SAID = {
    "fp8": "FP8, a scale a block of 16 x 16",
    "ct_int8": "compressed-tensors, int8, a scale a row",
    "ct_int4": "compressed-tensors, int4, a scale a block of 32",
    "awq": "AWQ, int4, a scale a block of 16",
    "gptq": "GPTQ, int4, a scale a block of 16",
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    return {name: write_quantized(folder / name, name) for name in CHECKPOINTS}


@pytest.fixture(scope="module")
def models(directories):
    return {name: omni.load(directory) for name, directory in directories.items()}


def parameters(model):
    flat = nnx.to_flat_state(nnx.state(model.parts, nnx.Param))
    return {".".join(map(str, path)): variable.get_value() for path, variable in flat}


def kept(model):
    return {path for path, value in parameters(model).items() if isinstance(value, Quantized)}


def refusal(call, *arguments, **options) -> Any:
    with pytest.raises((omni.CheckpointError, omni.InputError)) as error:
        call(*arguments, **options)
    assert len(str(error.value)) <= 500
    return error.value


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_and_greedy_continuations(name, models):
    expected, plain = np.load(DATA / "quantized.npz"), np.load(DATA / "text_families.npz")
    model = models[name]
    model.engine.buckets = BUCKETS
    ids = token_ids(65).tolist()
    logits = model.logits(ids)[-KEPT:]
    assert relative_error(logits, expected[f"{name}/logits"]) < 1e-5
    assert (
        relative_error(logits, plain[f"{CHECKPOINTS[name][1]}/65/logits"]) > 1e-3
    )  # what was quantised scores otherwise
    greedy = expected[f"{name}/greedy"].tolist()
    assert model.generate(ids, max_new_tokens=len(greedy), temperature=0).token_ids == greedy


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_info_says_what_a_directory_is_quantised_with(name, directories):
    text = summary(directories[name])
    assert f"quantised: {SAID[name]}" in text.splitlines()[1]
    count = sum(is_quantised(key) for key, _ in tensors(CONFIGS[CHECKPOINTS[name][1]]))
    assert text.splitlines()[1].startswith(f"{count} of them")


def test_integers_with_a_scale_a_row_are_kept_as_they_lie(directories, models, tmp_path):
    model = models["ct_int8"]
    held = open_file(directories["ct_int8"] / "model.safetensors", PACKED)
    found = parameters(model)
    assert kept(model) == {path for path in found if path.endswith("_proj.weight")}
    for path, name in (("self_attn.q_proj", "self_attn.q_proj"), ("mlp.down_proj", "mlp.down_proj")):
        weight = found[f"text.layers.{path}.weight"]
        for i in range(3):
            stem = f"model.layers.{i}.{name}.weight"
            np.testing.assert_array_equal(weight.values[i], held[stem].array)
            np.testing.assert_array_equal(weight.scales[i], held[f"{stem}_scale"].array[:, 0])
    assert refusal(model.save, tmp_path / "saved").code == "quantized"
    ask = [{"role": "user", "content": "Hello"}]
    assert refusal(lambda: next(train(model, [ask], tmp_path / "run", TrainingOptions(steps=1)))).code == "quantized"
    every = omni.load(directories["ct_int8"], quantize="int8")
    assert kept(every) == kept(model) | {"text.embed_tokens.weight", "text.lm_head.weight"}
    np.testing.assert_array_equal(
        parameters(every)["text.layers.mlp.up_proj.weight"].values, found["text.layers.mlp.up_proj.weight"].values
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("model",))
    spread = parameters(omni.load(directories["ct_int8"], mesh=mesh))
    for path, value in found.items():
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), value, spread[path])), path
    plain = omni.load(directories["ct_int8"], quantize="off")
    assert not kept(plain)
    for path in kept(model):
        np.testing.assert_array_equal(parameters(plain)[path], found[path].values * found[path].scales[..., None])


def test_no_other_form_is_kept_unasked(directories, models):
    assert [name for name, model in models.items() if kept(model)] == ["ct_int8"]
    assert kept(omni.load(directories["ct_int4"], quantize="int8"))


@pytest.mark.parametrize(("name", "said"), [("fp8", "bfloat16"), ("awq", "float16")])
def test_the_dtype_is_bfloat16_unless_config_json_says_float32(name, said, models, tmp_path):
    exact = parameters(models[name])
    assert {value.dtype for value in exact.values()} == {jnp.dtype(jnp.float32)}
    directory = write_quantized(tmp_path, name, said)
    values = {key: tensor.array for key, tensor in open_file(directory / "model.safetensors", PACKED).items()}
    plain = [
        key for key in values if key.endswith(("norm.weight", "embed_tokens.weight", "head.weight", "gate.weight"))
    ]
    values |= {key: values[key].astype(jnp.dtype(said)) for key in plain}
    write_tensors(directory / "model.safetensors", values)
    found = parameters(omni.load(directory))
    assert {value.dtype for value in found.values()} == {jnp.dtype(jnp.bfloat16)}
    for path, value in found.items():
        if "_proj" in path:
            np.testing.assert_array_equal(value, exact[path].astype(jnp.bfloat16), err_msg=path)


@pytest.mark.parametrize("name", ["fp8", "gptq"])
def test_what_is_saved_is_plain(name, models, tmp_path):
    model = models[name]
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in config and config["torch_dtype"] == "float32"
    assert set(open_tensors(tmp_path / "saved")) == {key for key, _ in tensors(CONFIGS[CHECKPOINTS[name][1]])}
    again = parameters(omni.load(tmp_path / "saved"))
    for path, value in parameters(model).items():
        np.testing.assert_array_equal(value, again[path], err_msg=path)


def test_experts_in_one_tensor(directories, models, tmp_path):
    def fuse(values, _):
        for i in range(3):
            stem = f"model.layers.{i}.mlp.experts"
            for name, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
                for end in ("", "_scale_inv"):
                    each = [[values.pop(f"{stem}.{e}.{part}.weight{end}") for part in parts] for e in range(8)]
                    values[f"{stem}.{name}{end}"] = np.stack([np.concatenate(pieces) for pieces in each])

    found = parameters(omni.load(edited(directories["fp8"], tmp_path / "fused", fuse)))
    for path, value in parameters(models["fp8"]).items():
        np.testing.assert_array_equal(value, found[path], err_msg=path)


def test_experts_one_by_one_where_they_are_published_in_one_tensor(tmp_path):
    name = next(name for name in vl.NAMES if "moe" in name)
    directory = vl.write_checkpoint(tmp_path / "vl", name)
    together = parameters(omni.load(directory))
    values = {}
    for key, tensor in open_tensors(directory).items():
        if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            values[key] = tensor.array
            continue
        stem, _, kind = key.rpartition(".")
        for e, matrix in enumerate(tensor.array.swapaxes(-1, -2)):
            halves = zip(("gate_proj", "up_proj"), np.split(matrix, 2), strict=True)
            named = halves if kind == "gate_up_proj" else [("down_proj", matrix)]
            values |= {f"{stem}.{e}.{part}.weight": half for part, half in named}
    for path in directory.glob("model*"):
        path.unlink()
    write_tensors(directory / "model.safetensors", values)
    for path, value in parameters(omni.load(directory)).items():
        np.testing.assert_array_equal(value, together[path], err_msg=path)


def edited(directory, target, change):
    """A copy of a checkpoint with tensors and settings changed."""
    target.mkdir()
    values = {key: tensor.array.copy() for key, tensor in open_file(directory / "model.safetensors", PACKED).items()}
    config = json.loads((directory / "config.json").read_text())
    change(values, config)
    write_tensors(target / "model.safetensors", values)
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_what_does_not_fit_is_refused_by_name(directories, tmp_path):
    scale = "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"

    def nan(values, _):
        values[scale][0, 0] = np.nan

    error = refusal(omni.load, directory := edited(directories["fp8"], tmp_path / "nan", nan))
    assert error.code == "weights_not_finite" and error.problems == (scale,)
    assert omni.load(directory, check_finite=False).parts is not None
    without = edited(directories["fp8"], tmp_path / "without", lambda values, _: values.pop(scale))
    error = refusal(omni.load, without)
    assert error.code == "bad_quantisation" and error.problems == (
        f"{scale.removesuffix('_scale_inv')} has no scale_inv",
    )
    assert refusal(summary, without).code == "bad_quantisation"

    def listed(_, config):
        config["quantization_config"]["modules_to_not_convert"].append("model.layers.1.mlp.experts")

    error = refusal(omni.load, edited(directories["fp8"], tmp_path / "listed", listed))
    assert error.code == "bad_quantisation" and len(error.problems) == 24 and "not quantised" in error.problems[0]

    def orphan(values, _):
        values["model.layers.0.mlp.gate.scales"] = np.ones((4, 8), np.float32)

    error = refusal(omni.load, edited(directories["awq"], tmp_path / "orphan", orphan))
    assert error.code == "weights_mismatch" and error.unexpected == ("model.layers.0.mlp.gate.scales",)

    def integers(values, _):
        values["model.layers.0.mlp.gate.weight"] = np.ones((8, 64), np.int32)

    error = refusal(omni.load, edited(directories["gptq"], tmp_path / "integers", integers))
    assert error.code == "bad_quantisation" and "int32" in error.problems[0]

    def doubled(values, _):
        values["model.layers.0.self_attn.q_proj.weight"] = np.ones((128, 64), np.float32)

    error = refusal(omni.load, edited(directories["awq"], tmp_path / "doubled", doubled))
    assert error.code == "bad_quantisation" and "twice" in error.problems[0]


UNREAD = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "bitsandbytes, unnamed": {"load_in_8bit": True},
    "gguf": {"quant_method": "gguf"},
    "hqq": {"quant_method": "hqq"},
    "aqlm": {"quant_method": "aqlm"},
    "auto-round": {"quant_method": "auto-round", "bits": 4},
    "mxfp4": {"quant_method": "mxfp4"},
    "modelopt": {"quant_algo": "NVFP4"},
    "e5m2": fp8(128, 128) | {"fmt": "e5m2"},
    "gemv": awq(128) | {"version": "gemv"},
    "AWQ with bits=8": awq(128) | {"bits": 8},
    "AWQ without zero points": awq(128) | {"zero_point": False},
    "AWQ with group_size=0": awq(0),
    "GPTQ with bits=3": gptq(3, 128),
    "marlin": gptq(4, 128, "marlin"),
    "GPTQ with group_size='all'": gptq(4, 128) | {"group_size": "all"},
    "nvfp4-pack-quantized": compressed_tensors("nvfp4-pack-quantized", num_bits=4, type="float"),
    "marlin-24": compressed_tensors("marlin-24"),
    "float4": compressed_tensors("float-quantized", num_bits=4, type="float"),
    "pack-quantized of int3": compressed_tensors("pack-quantized", num_bits=3),
    "strategy 'tensor_group'": compressed_tensors("int-quantized", strategy="tensor_group"),
    "activations alone": compressed_tensors("int-quantized") | {"config_groups": {"group_0": {"weights": None}}},
    "no settings": compressed_tensors("int-quantized") | {"config_groups": {"group_0": 5}},
    "without config_groups": compressed_tensors("int-quantized") | {"config_groups": {}},
    "sparsity_config": compressed_tensors("int-quantized") | {"sparsity_config": {"format": "sparse-24-bitmask"}},
    "transform_config": compressed_tensors("int-quantized") | {"transform_config": {"config_groups": {"u": {}}}},
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_named_in_one_line(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "quantization_config": UNREAD[name]}))
    error = refusal(read_method, tmp_path)
    assert error.code == "quantised" and "\n" not in str(error)
    assert name.split(",")[0].replace("modelopt", "NVFP4").replace("unnamed", "") in str(error)


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
def test_a_file_that_tells_more_than_config_json(name, tmp_path):
    directory = write_checkpoint(tmp_path, "qwen3_tied")
    (directory / name).write_text("{}")
    error = refusal(omni.load, directory)
    assert error.code == "quantised" and name in str(error)


def test_files_beside_a_config_json_that_tells_the_same(directories, tmp_path):
    directory = write_quantized(tmp_path, "gptq")
    (directory / "quantize_config.json").write_text(json.dumps(CHECKPOINTS["gptq"][0]))
    assert omni.load(directory).parts is not None


def test_unpacking_takes_little_beside_the_weight(tmp_path):
    rows, columns = 1024, 4096
    config = gptq(4, 128)
    parts = {
        "x.qweight": np.random.RandomState(0)
        .randint(-(1 << 31), 1 << 31, (columns // 8, rows), dtype=np.int64)
        .astype(np.int32),
        "x.qzeros": np.zeros((columns // 128, rows // 8), np.int32),
        "x.scales": np.ones((columns // 128, rows), np.float16),
    }
    write_tensors(tmp_path / "model.safetensors", parts)
    stored = open_file(tmp_path / "model.safetensors", PACKED)
    tensor = METHODS["gptq"](config).pack(stored, np.dtype(np.float32))["x.weight"]
    assert isinstance(tensor, PackedTensor)
    whole = np.empty(tensor.shape, ml_dtypes.bfloat16)
    tensor.fill(whole)
    tracemalloc.start()
    tensor.fill(whole)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < whole.nbytes
