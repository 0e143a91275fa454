"""The fixtures belong to the checkpoint and the template that are in the tree."""

import json

import jinja2
import jinja2.sandbox
import ml_dtypes  # noqa: F401  (gives NumPy the name bfloat16)
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.golden import tiny
from tests.golden.cases import CONVERSATIONS
from tests.golden.load import CASES, DATA


def test_weights_are_those_the_reference_saw():
    assert tiny.digest() == json.loads((DATA / "conversations.json").read_text("utf-8"))["_made_with"]["weights_sha256"]


def test_shards_hold_every_tensor_once(tiny_checkpoint):
    index = json.loads((tiny_checkpoint / "model.safetensors.index.json").read_text("utf-8"))
    files = {file: load_file(tiny_checkpoint / file) for file in sorted(set(index["weight_map"].values()))}
    assert len(files) == 3
    assert {name: file for file, tensors in files.items() for name in tensors} == index["weight_map"]
    for name, value in tiny.tensors():
        name = f"thinker.{name}"
        np.testing.assert_array_equal(files[index["weight_map"][name]][name], value)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_files_are_rounded(tmp_path, dtype, tolerance):
    tiny.write_checkpoint(tmp_path, prefix="", shards=1, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith(("talker.", "code2wav.")) for name in stored)
    for name, value in tiny.tensors():
        assert str(stored[name].dtype) == dtype
        np.testing.assert_allclose(stored[name].astype(np.float32), value, rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_template_renders_the_stored_prompt(name, golden, tiny_checkpoint):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = json.loads((tiny_checkpoint / "chat_template.json").read_text("utf-8"))["chat_template"]
    case = golden.case(name)
    assert case.messages == CONVERSATIONS[name]
    rendered = environment.from_string(template).render(messages=case.messages, add_generation_prompt=True)
    assert rendered == case.prompt


@pytest.mark.parametrize("name", [name for name in CASES if "sound" not in name])
def test_token_ids_are_those_of_the_directorys_tokenizer(name, golden, tiny_checkpoint):
    case, pads = golden.case(name), {tiny.token_ids()[f"<|{kind}_pad|>"] for kind in ("image", "audio", "video")}
    words = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json")).encode(case.prompt).ids
    assert [i for i in case.token_ids if i not in pads] == [i for i in words if i not in pads]
    assert case.position_ids.shape == (3, len(case.token_ids))
