"""Loading is strict, says all that is wrong at once, and reads no more than it must."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import media
import numpy as np
import pytest
import tiny
from load import relative_error

import omni
from omni.safetensors_file import StoredTensor, open_tensors


@pytest.fixture(scope="module")
def picture():
    return media.image("small")


@pytest.fixture(scope="module")
def tokens(tiny_checkpoint, picture):
    return omni.load(tiny_checkpoint, parts=("vision",)).encode(picture).tokens


def rewrite(directory: Path, change) -> Path:
    """A one-file checkpoint whose tensors went through `change`."""
    tiny.write_checkpoint(directory, shards=1)
    stored = {name: tensor.array.copy() for name, tensor in open_tensors(directory).items()}
    change(stored)
    tiny.write_safetensors(directory / "model.safetensors", stored)
    return directory


@pytest.mark.parametrize("options", [{"shards": 1}, {"shards": 5}, {"prefix": ""}, {"tokenizer_json": False}])
def test_every_form_of_a_directory(tmp_path, picture, tokens, options):
    model = omni.load(tiny.write_checkpoint(tmp_path, **options))
    np.testing.assert_array_equal(model.encode(picture).tokens, tokens)
    assert model.generate([{"role": "user", "content": "Hi"}], max_new_tokens=2).usage.completion_tokens


@pytest.mark.parametrize(
    ("stored", "dtype", "kept"),
    [
        ("bfloat16", None, "bfloat16"),
        ("float16", None, "float32"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
    ],
)
def test_dtypes(tmp_path, picture, tokens, stored, dtype, kept):
    model = omni.load(tiny.write_checkpoint(tmp_path, dtype=stored), dtype=dtype)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.media.vision.weights)} == {kept}
    found = model.encode(picture).tokens
    cosine = (found * tokens).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(tokens, axis=-1)
    assert cosine.min() > 0.999


def test_parts_that_were_not_asked_for_are_not_read(tiny_checkpoint, monkeypatch):
    read = []
    array = StoredTensor.array.fget
    monkeypatch.setattr(StoredTensor, "array", property(lambda self: (read.append(self), array(self))[1]))
    omni.load(tiny_checkpoint, parts=("vision", "audio"))
    towers = sum(1 for name, _ in tiny.tensors() if name.startswith(("visual.", "audio_tower.")))
    assert len(read) == towers


def test_everything_wrong_is_said_at_once(tmp_path):
    def change(stored):
        del stored["thinker.visual.blocks.0.norm1.weight"]
        del stored["thinker.lm_head.weight"]
        stored["thinker.visual.surprise"] = np.zeros(3, np.float32)
        stored["thinker.audio_tower.proj1.bias"] = np.zeros(7, np.float32)

    with pytest.raises(omni.CheckpointError) as error:
        omni.load(rewrite(tmp_path, change))
    assert error.value.missing == ("lm_head.weight", "visual.blocks.0.norm1.weight")
    assert error.value.unexpected == ("visual.surprise",)
    assert len(error.value.misshaped) == 1 and "audio_tower.proj1.bias: [7] in the file" in error.value.misshaped[0]
    for name in ("lm_head.weight", "visual.surprise", "audio_tower.proj1.bias"):
        assert name in str(error.value)


def test_a_part_that_is_not_asked_for_may_be_missing(tmp_path):
    directory = rewrite(tmp_path, lambda stored: stored.pop("thinker.lm_head.weight"))
    assert omni.load(directory, parts=("vision",)).config.text is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json is not in"),
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "holds a list"),
        ("config.json", '{"model_type": "qwen3_omni"}', "nearest supported one"),
        ("config.json", '{"model_type": "qwen3_omni_moe", "thinker_config": {}}', "lacks vision_config"),
        ("preprocessor_config.json", None, "no preprocessor_config.json"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../elsewhere.safetensors"}}', "absent shards"),
        ("model.safetensors.index.json", "{}", "no weight_map"),
        ("model.safetensors.index.json", None, "no model.safetensors"),
    ],
)
def test_broken_directories(tmp_path, name, content, message):
    directory = tiny.write_checkpoint(tmp_path / "checkpoint")
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_text(content)
    with pytest.raises(omni.CheckpointError, match=message):
        omni.load(directory)


@pytest.mark.parametrize("damage", ["short", "header", "offsets", "dtype"])
def test_broken_files(tmp_path, damage):
    directory = tiny.write_checkpoint(tmp_path, shards=1)
    path = directory / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    if damage == "short":
        path.write_bytes(raw[:-1000])
    elif damage == "header":
        path.write_bytes((1 << 60).to_bytes(8, "little") + raw[8:])
    else:
        entry = next(value for name, value in header.items() if name != "__metadata__")
        entry.update({"data_offsets": [0, 1 << 40]} if damage == "offsets" else {"dtype": "I8"})
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(omni.CheckpointError, match=r"cut short|malformed|supported are"):
        omni.load(directory)


@pytest.mark.parametrize("options", [{"parts": ("video",)}, {"parts": ()}, {"dtype": "int8"}, {"dtype": "no such"}])
def test_bad_options(tiny_checkpoint, options):
    with pytest.raises(omni.CheckpointError):
        omni.load(tiny_checkpoint, **options)


def test_no_such_place():
    with pytest.raises(omni.CheckpointError, match="not a name on the hub"):
        omni.load("no/such/place/here")


def test_spread_over_four_devices(tiny_checkpoint, golden, tmp_path):
    """The same numbers with the weights cut along a mesh of four devices."""
    case = golden.case("images")
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(tiny.__file__).parent)!r})
        import jax, numpy as np
        from load import Golden
        import omni
        mesh = jax.make_mesh((1, 4), ("data", "model"))
        model = omni.load({str(tiny_checkpoint)!r}, mesh=mesh)
        cut = [leaf for leaf in jax.tree.leaves(model.media.vision.weights) if not leaf.is_fully_replicated]
        assert len(cut) > 5, len(cut)
        case = Golden().case("images")
        np.save(sys.argv[1], model.logits(model.prepare(case.with_media()))[case.logits_at])
    """
    out = tmp_path / "logits.npy"
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(out)], check=True, env=env)
    assert relative_error(np.load(out), case.logits) < 1e-5
