"""Files are mapped and not copied; whatever is wrong with one is said in a sentence."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.checkpoint.safetensors import open_tensors
from omni.errors import CheckpointError
from tests.golden.tiny import write_safetensors

VALUES = {
    "a": np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4),
    "b.weight": np.asarray([1.5], np.float32),
    "scalar": np.asarray(0.25, np.float32),
    "nothing": np.zeros((0, 4), np.float32),
}
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def write(directory: Path, header: object, body: bytes = bytes(16), name: str = "model.safetensors") -> Path:
    """A file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (directory / name).write_bytes(len(text).to_bytes(8, "little") + text + body)
    return directory


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_tensors(directory)
    assert str(directory) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_come_back_exactly(tmp_path, dtype):
    write_safetensors(tmp_path / "model.safetensors", VALUES, dtype)
    found = open_tensors(tmp_path)
    assert list(found) == list(VALUES)
    for name, value in VALUES.items():
        assert found[name].shape == value.shape and found[name].dtype == DTYPES[dtype]
        np.testing.assert_array_equal(found[name].array, value.astype(DTYPES[dtype]))


def test_arrays_are_views_of_the_mapped_file(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", VALUES)
    tensor = open_tensors(tmp_path)["a"]
    assert np.shares_memory(tensor.array, tensor.file) and isinstance(tensor.file, np.memmap)
    assert not tensor.array.flags.writeable


def test_a_file_without_tensors(tmp_path):
    assert open_tensors(write(tmp_path, {"__metadata__": {"format": "pt"}}, b"")) == {}


def test_shards_are_joined(tmp_path):
    write_safetensors(tmp_path / "one.safetensors", {"a": VALUES["a"]})
    write_safetensors(tmp_path / "two.safetensors", {"b.weight": VALUES["b.weight"]}, "bfloat16")
    index = {"weight_map": {"a": "one.safetensors", "b.weight": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = open_tensors(tmp_path)
    np.testing.assert_array_equal(found["a"].array, VALUES["a"])
    assert found["b.weight"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "no weight_map"),
        ({"weight_map": ["one.safetensors"]}, "no weight_map"),
        ({"weight_map": {"a": ["one.safetensors"]}}, "must name a file"),
        ({"weight_map": {"a": 1}}, "must name a file"),
        ({"weight_map": {"a": "two.safetensors", "b": "three.safetensors"}}, "2 absent shards.*: three.*, two"),
        ({"weight_map": {"a": "../one.safetensors"}}, "not in its directory"),
        ({"weight_map": {"a": "/etc/hostname"}}, "not in its directory"),
        ({"weight_map": {"a": ".."}}, "not in its directory"),
        ({"weight_map": {"a": ""}}, "not in its directory"),
        ({"weight_map": {"a": "one.safetensors", "c": "one.safetensors"}}, r"missing \(1\): c"),
        ([], "holds a list"),
    ],
)
def test_indexes_that_cannot_be_followed(tmp_path, index, message):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for place in (tmp_path, directory):
        write_safetensors(place / "one.safetensors", {"a": VALUES["a"]})
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        open_tensors(directory)
    assert str(directory) not in refusal(directory)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "header is not JSON"),
        (b"\xff\xfe", "header is not JSON"),
        ([], "header is a list"),
        ("text", "header is a str"),
        ({"a": None}, "malformed at a"),
        ({"a": []}, "malformed at a"),
        ({"a": {}}, "malformed at a"),
        ({"a": entry(dtype=None)}, "malformed at a"),
        ({"a": entry(shape=None)}, "malformed at a"),
        ({"a": entry(shape=[2, "2"])}, "malformed at a"),
        ({"a": entry(shape=[-2, -2])}, "malformed at a"),
        ({"a": entry(shape=[2, 3])}, "malformed at a"),
        ({"a": entry(shape=[1 << 40, 1 << 40])}, "malformed at a"),
        ({"a": entry(data_offsets=[0])}, "malformed at a"),
        ({"a": entry(data_offsets=[16, 0])}, "malformed at a"),
        ({"a": entry(data_offsets=[-16, 0])}, "malformed at a"),
        ({"a": entry(data_offsets=[8, 24])}, "cut short or malformed at a"),
        ({"a": entry(data_offsets=["0", "16"])}, "malformed at a"),
        ({"a": entry(dtype="I8")}, "a is stored as I8; supported are F32, F16, BF16"),
        ({"a": entry(dtype="F8_E4M3")}, "a is stored as F8_E4M3"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, header, message):
    assert message in refusal(write(tmp_path, header))


@pytest.mark.parametrize("raw", [b"", b"\x02\x00", b"\x00" * 7 + b"\x01", (100).to_bytes(8, "little") + b"{}"])
def test_files_that_are_cut_short(tmp_path, raw):
    (tmp_path / "model.safetensors").write_bytes(raw)
    assert "not a safetensors file, or is cut short" in refusal(tmp_path)


def test_a_directory_without_weights(tmp_path):
    assert refusal(tmp_path).startswith("no model.safetensors")


@given(at=st.integers(0, 250), value=st.binary(min_size=1, max_size=4), cut=st.integers(0, 400))
def test_damage_anywhere_is_refused_or_harmless(tmp_path_factory, at, value, cut):
    """Bytes written over, and the file's end lost: never another kind of error."""
    directory = tmp_path_factory.mktemp("damaged", numbered=True)
    path = directory / "model.safetensors"
    write_safetensors(path, {name: VALUES[name] for name in ("a", "b.weight")})
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw[: max(0, len(raw) - cut)])
    try:
        for tensor in open_tensors(directory).values():
            assert tensor.array.shape == tensor.shape
    except CheckpointError as error:
        assert str(directory) not in str(error)
