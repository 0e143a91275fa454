"""What is saved is what was loaded, bit for bit and name for name; what is half done is never mistaken for it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open

import omni
from omni.checkpoint import safetensors as safetensors_file
from omni.checkpoint.safetensors import open_tensors
from tests.golden import text_families, tiny

SPEECH = ("talker.", "code2wav.")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return omni.load(text_families.write_checkpoint(tmp_path_factory.mktemp("text"), "qwen3_tied"))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "checkpoint"
    model.save(directory)
    return directory


def tensors(directory):
    return {name: tensor.array for name, tensor in open_tensors(directory).items() if not name.startswith(SPEECH)}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert (left[name].dtype, left[name].shape) == (right[name].dtype, right[name].shape), name
        assert left[name].tobytes() == right[name].tobytes(), name


def parameters(model):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model.parts))}


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_files_hold_what_the_checkpoint_held(tiny_checkpoint, saved):
    assert_equal(tensors(saved), tensors(tiny_checkpoint))
    assert set(open_tensors(saved)) == set(tensors(saved)), "no tensor of the parts that were skipped"


def test_it_loads_again(model, saved):
    again = omni.load(saved)
    assert again.config == model.config
    assert_equal(parameters(again), parameters(model))
    messages = [{"role": "user", "content": "Hi"}]
    np.testing.assert_array_equal(again.logits(again.prepare(messages)), model.logits(model.prepare(messages)))


def test_other_files_are_copied(tiny_checkpoint, saved):
    there = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    here = {path.name: path.read_bytes() for path in saved.iterdir()}
    weights = {name for name in there if name.startswith("model")}
    assert here.keys() == there.keys() - weights | {"model.safetensors"}
    assert all(here[name] == there[name] for name in there.keys() - weights - {"config.json"})


def test_the_config_says_what_is_there(tiny_checkpoint, saved):
    before, after = (json.loads((place / "config.json").read_text()) for place in (tiny_checkpoint, saved))
    assert before["enable_audio_output"] and not after["enable_audio_output"]
    assert after | {"enable_audio_output": True} == before


@pytest.mark.parametrize("options", [{"prefix": ""}, {"dtype": "bfloat16"}, {"dtype": "float16"}])
def test_every_form_of_a_directory(tmp_path, options):
    source = tiny.write_checkpoint(tmp_path / "source", **options)
    omni.load(source).save(tmp_path / "saved")
    # float16 is computed with, and so saved, in float32.
    dtype = {"float16": "float32"}.get(options.get("dtype"), options.get("dtype", "float32"))
    wanted = {name: array.astype(jnp.dtype(dtype)) for name, array in tensors(source).items()}
    assert_equal(tensors(tmp_path / "saved"), wanted)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["dtype"] == config.get("thinker_config", config)["dtype"] == dtype
    assert ("enable_audio_output" in config) == ("thinker_config" in config)
    assert_equal(parameters(omni.load(tmp_path / "saved")), parameters(omni.load(source)))


@pytest.mark.parametrize("name", text_families.CONFIGS)
def test_families_that_read_text_alone(tmp_path, name):
    source = text_families.write_checkpoint(tmp_path / "source", name)
    omni.load(source, dtype="bfloat16").save(tmp_path / "saved", max_shard_size="100KB")
    wanted = {name: array.astype(jnp.bfloat16) for name, array in tensors(source).items()}
    assert_equal(tensors(tmp_path / "saved"), wanted)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config == text_families.CONFIGS[name] | {
        "architectures": config["architectures"],
        "torch_dtype": "bfloat16",
    }


def test_changed_parameters_are_saved(tmp_path, text_model):
    weight = text_model.parts.text.norm.weight
    before = weight[...]
    weight.set_value(before + 1)
    text_model.save(tmp_path)
    weight.set_value(before)
    np.testing.assert_array_equal(tensors(tmp_path)["model.norm.weight"], before + 1)


@pytest.mark.parametrize("size", ["300KB", 1_000_000])
def test_shards(tmp_path, model, saved, size):
    model.save(tmp_path, max_shard_size=size)
    assert_equal(tensors(tmp_path), tensors(saved))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert sorted(set(index["weight_map"].values())) == files and len(files) > 2
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in tensors(saved).values())
    found = {}
    for file in files:
        with safe_open(tmp_path / file, "numpy") as opened:
            assert opened.metadata() == {"format": "pt"}
            held = {name: opened.get_tensor(name) for name in opened.keys()}
        assert {index["weight_map"][name] for name in held} == {file}
        assert len(held) == 1 or sum(array.nbytes for array in held.values()) <= int(str(size).replace("KB", "000"))
        raw = (tmp_path / file).read_bytes()
        assert int.from_bytes(raw[:8], "little") % 8 == 0
        found |= held
    assert_equal(found, tensors(saved))


@pytest.mark.parametrize(
    ("size", "files"), [("0.0001 GB", 9), ("100KiB", 9), ("1gb", 1), ("5GB", 1), (1, 35), ("100000", 9)]
)
def test_sizes(tmp_path, text_model, size, files):
    text_model.save(tmp_path, max_shard_size=size)
    assert len(list(tmp_path.glob("*.safetensors"))) == files


@pytest.mark.parametrize("size", [0, -1, "5XB", "", "GB", "0.1B"])
def test_sizes_that_are_none(tmp_path, text_model, size):
    with pytest.raises(omni.InputError, match="max_shard_size must be") as error:
        text_model.save(tmp_path / "new", max_shard_size=size)
    assert error.value.code == "bad_shard_size"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["nothing", "an empty directory", "a file of its own", "a checkpoint"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_no_trace(tmp_path, text_model, monkeypatch, there, failure):
    directory = tmp_path / "saved"
    if there != "nothing":
        directory.mkdir()
    if there == "a checkpoint":
        text_model.save(directory)
    elif there == "a file of its own":
        (directory / "notes.txt").write_text("mine")
    before, stood = contents(tmp_path), directory.exists()

    def write(path, layout, arrays, notes):
        if "00003" in path.name:
            raise failure
        safetensors_file.write_tensors(path, layout, arrays, notes)

    monkeypatch.setattr("omni.checkpoint.save.write_tensors", write)
    with pytest.raises(failure):
        text_model.save(directory, max_shard_size="100KB", overwrite=there == "a checkpoint")
    assert contents(tmp_path) == before and directory.exists() == stood
    assert [path.name for path in tmp_path.iterdir()] == ["saved"] * stood


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path, model, text_model):
    model.save(tmp_path, max_shard_size="1MB")
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(omni.InputError, match="holds a checkpoint already") as error:
        text_model.save(tmp_path)
    assert error.value.code == "checkpoint_exists" and contents(tmp_path) == before
    text_model.save(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]
    assert omni.load(tmp_path).tokenizer is None


def test_a_directory_may_be_replaced_by_what_was_loaded_from_it(tmp_path):
    tiny.write_checkpoint(tmp_path)
    wanted = tensors(tmp_path)
    wanted = {name: array.copy() for name, array in wanted.items()}
    omni.load(tmp_path).save(tmp_path, overwrite=True)
    assert_equal(tensors(tmp_path), wanted)
    assert omni.load(tmp_path).tokenizer is not None


def test_parts_that_were_not_loaded_cannot_be_saved(tmp_path, tiny_checkpoint):
    model = omni.load(tiny_checkpoint, parts=("vision",))
    with pytest.raises(omni.InputError, match="loaded without audio and text") as error:
        model.save(tmp_path / "new")
    assert error.value.code == "part_not_loaded" and not list(tmp_path.iterdir())


def test_places_that_cannot_be_saved_to(tmp_path, text_model):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(omni.InputError, match="is a file"):
        text_model.save(tmp_path / "file")


def test_the_directory_it_came_from_is_gone(tmp_path):
    source = text_families.write_checkpoint(tmp_path / "source", "qwen3")
    model = omni.load(source)
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(omni.CheckpointError, match="is gone"):
        model.save(tmp_path / "new")


def test_weights_of_several_dtypes_are_not_saved(tmp_path):
    model = omni.load(text_families.write_checkpoint(tmp_path / "source", "qwen3"))
    weight = model.parts.text.norm.weight
    weight.set_value(weight[...].astype(jnp.bfloat16))
    with pytest.raises(omni.InputError, match="not bfloat16 and float32"):
        model.save(tmp_path / "new")


def test_the_demo_can_be_saved(tmp_path):
    omni.load("demo").save(tmp_path / "demo")
    assert omni.load(tmp_path / "demo").tokenizer is not None
