"""Tensors reach their arrays bit for bit, however they are cut and whoever reads them."""

import jax
import numpy as np
import pytest
from flax import nnx

import omni
from omni.checkpoint import reading
from omni.checkpoint.reading import Readers, Reading, empty
from omni.checkpoint.safetensors import open_file
from tests.golden import tiny


def leaves(model: omni.Model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model.parts))]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(reading, "_PIECE_BYTES", 300)
    monkeypatch.setattr(reading, "_FEW_BYTES", 0)


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", "quantize": "int8"}], ids=["floats", "integers"])
def test_pieces_and_threads_change_no_bit(tiny_checkpoint, monkeypatch, options):
    whole = leaves(omni.load(tiny_checkpoint, **options))
    monkeypatch.setattr(reading, "_PIECE_BYTES", 3000)
    monkeypatch.setattr(reading, "_FEW_BYTES", 0)
    cut = leaves(omni.load(tiny_checkpoint, **options))
    assert len(whole) == len(cut) > 50
    for one, other in zip(whole, cut, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_what_was_read_is_not_copied():
    """A load takes the memory of its weights once."""
    host = empty((33, 77), np.float32)
    host[:] = 1
    assert jax.device_put(host).unsafe_buffer_pointer() == host.ctypes.data


def stored(directory, values):
    tiny.write_safetensors(directory / "a.safetensors", {"a": values})
    return open_file(directory / "a.safetensors")["a"]


def test_a_check_ends_the_reading(tmp_path, small_pieces):
    tensor = stored(tmp_path, np.zeros((4000, 100), np.float32))
    out = np.ones(tensor.shape, np.float32)

    def check():
        raise TimeoutError

    with pytest.raises(TimeoutError), Readers(True, check, lambda count: None) as readers:
        readers.read([Reading(tensor, tuple(slice(0, size) for size in tensor.shape), out)])


def test_every_byte_is_counted_once_and_what_is_not_finite_is_named(tmp_path, small_pieces):
    values = np.zeros((40, 100), np.float32)
    values[17, 99] = np.inf
    tensor, counts = stored(tmp_path, values), []
    out = np.empty((10, 50), np.float32)
    with Readers(True, lambda: None, counts.append) as readers:
        readers.read([Reading(tensor, (slice(10, 20), slice(0, 50)), out)])
        assert readers.not_finite == set()
        readers.read([Reading(tensor, (slice(10, 20), slice(50, 100)), out)])
    assert readers.not_finite == {"a"}
    assert sum(counts) == 2 * out.nbytes and len(counts) > 10


def test_a_file_that_became_shorter_is_told_of(tmp_path):
    tensor = stored(tmp_path, np.zeros((40, 100), np.float32))
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(omni.CheckpointError, match="cut short while it was read"):
        tensor.read((slice(0, 40), slice(0, 100)), np.empty(tensor.shape, np.float32))
