"""The parameter tree of every family is frozen: paths, shapes and dtypes are those of parameters.json."""

from functools import partial
from pathlib import Path

import pytest

import omni
from tests.golden import parameters, text_families, tiny, vl

FROZEN = parameters.frozen()
CONFIGS = parameters.published() | parameters.small()


def write_half(directory: Path, name: str) -> Path:
    """A checkpoint of text alone in float16, which is computed in float32."""
    text_families.write_checkpoint(directory, name)
    tensors = dict(text_families.tensors(text_families.CONFIGS[name]))
    tiny.write_safetensors(directory / "model.safetensors", tensors, "float16")
    return directory


# What files hold, what is asked for, and what a load then gives: over the hub's layouts, and stacks of several kinds.
LOADS = {
    "omni": (tiny.write_checkpoint, None, "float32"),
    "omni, thinker alone": (partial(tiny.write_checkpoint, prefix="", shards=1, dtype="bfloat16"), None, "bfloat16"),
    "qwen3_5": (partial(vl.write_checkpoint, name="qwen3_5"), "bfloat16", "bfloat16"),
    "text, qwen3_tied": (partial(write_half, name="qwen3_tied"), None, "float32"),
}


def in_dtype(tree: parameters.Tree, dtype: str) -> parameters.Tree:
    return {path: [dtype, shape] for path, (_, shape) in tree.items()}


def loaded(directory: Path | str, **options) -> parameters.Tree:
    return parameters.tree_of(omni.load(directory, **options).parts)


def test_every_variant_has_a_tree():
    assert FROZEN.keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_the_frozen_tree(name):
    dtype = "bfloat16" if name in parameters.published() else "float32"
    assert parameters.differences(parameters.abstract_tree(CONFIGS[name], dtype), FROZEN[name]) == []


@pytest.mark.parametrize("name", LOADS)
def test_a_directory_loads_the_frozen_tree(tmp_path, name):
    write, asked, dtype = LOADS[name]
    result = loaded(write(tmp_path), dtype=asked)
    assert parameters.differences(result, in_dtype(FROZEN[name], dtype)) == []


@pytest.mark.parametrize("parts", [("vision", "audio"), ("text",)])
def test_parts_have_their_paths_of_the_whole(tiny_checkpoint, parts):
    own = {path: leaf for path, leaf in FROZEN["omni"].items() if path.startswith(parts)}
    assert own and parameters.differences(loaded(tiny_checkpoint, parts=parts), own) == []


def test_a_model_without_an_output_head_lacks_that_alone(tmp_path):
    directory = vl.write_checkpoint(tmp_path, "vl_moe")
    tensors = {name: value for name, value in vl.tensors("vl_moe").items() if name != "lm_head.weight"}
    tiny.write_safetensors(directory / "model.safetensors", tensors)
    (directory / "modules.json").write_text("[]")
    rest = dict(FROZEN["vl_moe"])
    del rest["text.lm_head.weight"]
    assert parameters.differences(loaded(directory), rest) == []


def test_differences_are_named():
    wanted = {"a": ["float32", [1]], "b": ["float32", [1]], "c": ["float32", [2]]}
    ours = {"a": ["bfloat16", [1]], "c": ["float32", [2]], "d": ["float32", [1]]}
    assert parameters.differences(ours, wanted) == [
        "b is missing",
        "d is additional",
        "a is ['bfloat16', [1]], and was ['float32', [1]]",
    ]
