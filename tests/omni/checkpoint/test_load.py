"""Loading is strict, says all that is wrong at once, and reads no more than it must."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import omni
from omni.checkpoint.safetensors import StoredTensor, open_tensors
from tests.golden import media, tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def picture():
    return media.image("small")


@pytest.fixture(scope="module")
def tokens(tiny_checkpoint, picture):
    return omni.load(tiny_checkpoint, parts=("vision",)).encode(picture).tokens


def copy_of(checkpoint: Path, directory: Path) -> Path:
    """The checkpoint's files, each free to be changed."""
    return shutil.copytree(checkpoint, directory / "copy")


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
    take = StoredTensor.read
    monkeypatch.setattr(StoredTensor, "read", lambda self, *given: (read.append(self), take(self, *given))[1])
    omni.load(tiny_checkpoint, parts=("vision", "audio"))
    towers = sum(1 for name, _ in tiny.tensors() if name.startswith(("visual.", "audio_tower.")))
    assert len({tensor.name for tensor in read}) == towers


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


def test_nothing_but_the_files_weights_is_in_a_model(model):
    """All parameters together are all tensors of the thinker together: none is random, none is there twice."""
    leaves = jax.tree.leaves(nnx.state(model.parts, nnx.Param))
    found = np.sort(np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]))
    np.testing.assert_array_equal(found, np.sort(np.concatenate([value.ravel() for _, value in tiny.tensors()])))


def test_a_file_that_changes_later_does_not_change_the_model(tmp_path, picture, tokens):
    path = tiny.write_checkpoint(tmp_path, shards=1) / "model.safetensors"
    model = omni.load(tmp_path)
    before = model.logits([1, 2, 3])
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(model.encode(picture).tokens, tokens)
    np.testing.assert_array_equal(model.logits([1, 2, 3]), before)


def test_speech_is_skipped_by_name_alone(tmp_path):
    def rename(stored):
        for name in [name for name in stored if name.startswith("talker.")]:
            stored[name.replace("talker.", "talkie.")] = stored.pop(name)

    assert any(name.startswith("talker.") for name in open_tensors(tiny.write_checkpoint(tmp_path / "whole")))
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(rewrite(tmp_path / "renamed", rename))
    assert len(error.value.unexpected) == 3 and all(name.startswith("talkie.") for name in error.value.unexpected)


def test_two_names_for_one_tensor(tmp_path):
    with pytest.raises(omni.CheckpointError, match="two tensors of the files both mean lm_head"):
        omni.load(rewrite(tmp_path, lambda stored: stored.update({"lm_head.weight": stored["thinker.lm_head.weight"]})))


@pytest.mark.parametrize("progress", [True, False, None])
def test_a_progress_bar_when_asked(tiny_checkpoint, capfd, progress):
    omni.load(tiny_checkpoint, parts="audio", progress=progress)
    assert ("loading weights" in capfd.readouterr().err) == (progress is True)


def test_one_part_by_its_name(tiny_checkpoint):
    config = omni.load(tiny_checkpoint, parts="vision").config
    assert config.vision is not None and config.audio is config.text is None


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
        ("model.safetensors.index.json", '{"weight_map": {"a": "../elsewhere.safetensors"}}', "not in its directory"),
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


@pytest.mark.parametrize("damage", ["short", "header"])
def test_broken_files(tmp_path, damage):
    """More kinds of damage in test_safetensors_file.py."""
    path = tiny.write_checkpoint(tmp_path, shards=1) / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1000] if damage == "short" else (1 << 60).to_bytes(8, "little") + raw[8:])
    with pytest.raises(omni.CheckpointError, match=r"cut short|malformed"):
        omni.load(tmp_path)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_config", "hidden_act", "relu"),
        ("text_config", "num_key_value_heads", 0),
        ("text_config", "num_hidden_layers", -1),
        ("text_config", "num_attention_heads", None),
        ("text_config", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("vision_config", "num_heads", 0),
        ("vision_config", "deepstack_visual_indexes", [9]),
        ("audio_config", "activation_function", "relu6"),
        ("audio_config", "n_window", 0),
        (None, "vision_config", None),
        (None, "audio_config", []),
        (None, "image_token_id", None),
    ],
)
def test_unsupported_settings(tiny_checkpoint, tmp_path, part, field, value):
    directory = copy_of(tiny_checkpoint, tmp_path)
    config = json.loads((directory / "config.json").read_text())
    thinker = config["thinker_config"]
    (thinker[part] if part else thinker)[field] = value
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(omni.CheckpointError, match=r"config\.json") as error:
        omni.load(directory)
    assert len(str(error.value)) <= 500 and str(tmp_path) not in str(error.value)


def test_another_architecture(tiny_checkpoint, tmp_path):
    """Sizes in config.json that are not those of the files: every tensor that differs is listed."""
    directory = copy_of(tiny_checkpoint, tmp_path)
    config = json.loads((directory / "config.json").read_text())
    audio = config["thinker_config"]["audio_config"]
    audio["encoder_layers"] = audio["num_hidden_layers"] = 4
    config["thinker_config"]["vision_config"]["depth"] = 4
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(directory)
    assert error.value.missing and all(name.startswith("audio_tower.layers.3.") for name in error.value.missing)
    assert error.value.unexpected and all(name.startswith("visual.blocks.4.") for name in error.value.unexpected)


@pytest.mark.parametrize("options", [{"parts": ("video",)}, {"parts": ()}, {"dtype": "int8"}, {"dtype": "no such"}])
def test_bad_options(tiny_checkpoint, options):
    with pytest.raises(omni.CheckpointError):
        omni.load(tiny_checkpoint, **options)


@pytest.mark.parametrize("name", ["no/such/place/here", "nonesuch", "", "x" * 5000, "a\0b", Path("nonesuch")])
def test_no_such_place(name):
    with pytest.raises(omni.CheckpointError, match="not a name on the hub"):
        omni.load(name)


@pytest.mark.parametrize("name", ["a--b/c", "foo/..", "x/" + "y" * 200])
def test_names_that_the_hub_cannot_have(name):
    with pytest.raises(omni.CheckpointError, match="could not be fetched from the hub"):
        omni.load(name)


def test_from_the_hub(tiny_checkpoint, tmp_path, monkeypatch, picture, tokens):
    """Found in the hub's cache, whose place is no part of any message."""
    asked = []
    snapshot = tiny_checkpoint

    def download(name, *, revision, local_files_only, allow_patterns, tqdm_class):
        asked.append((name, tuple(allow_patterns), revision, local_files_only))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = omni.load("Someone/Tiny", parts="vision")
    assert model.name == "Someone/Tiny" and asked[0][0] == "Someone/Tiny" and "*.safetensors" in asked[0][1]
    assert asked[0][2:] == (None, False)
    omni.load("Someone/Tiny", parts="audio", revision="v1.0", offline=True)
    assert asked[1][2:] == ("v1.0", True)
    np.testing.assert_array_equal(model.encode(picture).tokens, tokens)
    for absent in ("preprocessor_config.json", "config.json", "model.safetensors.index.json"):
        snapshot = copy_of(tiny_checkpoint, tmp_path / absent)
        (snapshot / absent).unlink()
        with pytest.raises(omni.CheckpointError, match=r"no model|is not in|no preprocessor") as error:
            omni.load("Someone/Tiny")
        assert str(snapshot) not in str(error.value)
    snapshot = copy_of(tiny_checkpoint, tmp_path / "tokenizer")
    (snapshot / "tokenizer.json").write_text("{}")
    with pytest.raises(omni.CheckpointError, match="tokenizer") as error:
        omni.load("Someone/Tiny")
    assert str(snapshot) not in str(error.value)


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def unreachable(*_, **__):
        raise PermissionError(13, "Permission denied", "/home/someone/.cache/huggingface")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(omni.CheckpointError, match=r"from the hub: Permission denied$"):
        omni.load("Someone/Tiny")


def test_two_models_of_one_config_share_no_parameter(tiny_checkpoint):
    one, other = omni.load(tiny_checkpoint), omni.load(tiny_checkpoint)
    kept = np.asarray(other.parts.text.norm.weight[...]).copy()
    one.parts.text.norm.weight[...] = 0 * kept
    np.testing.assert_array_equal(other.parts.text.norm.weight[...], kept)
    np.testing.assert_array_equal(omni.load(tiny_checkpoint).parts.text.norm.weight[...], kept)
