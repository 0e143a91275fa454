"""Attention in blocks, the form of the accelerators: memory grows with a picture and not with its square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders.ops.attention import blocks
from encoders.ops.attention.blocks import attend_in_blocks
from encoders.ops.attention.chunks import attend_in_chunks
from tests.golden.load import relative_error


@pytest.fixture
def rows():
    def normal(seed):
        return jnp.asarray(np.random.default_rng(seed).standard_normal((2, 96, 3, 8)), jnp.float32)

    return *(2 * normal(seed) for seed in range(3)), jnp.asarray([96, 41], jnp.int32)


@pytest.mark.parametrize("most", [2 * 3 * 96 * 96, 2 * 3 * 96 * 40, 1])
def test_blocks_equal_chunks_whatever_their_size(rows, most, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_SCORES", most)
    found = np.asarray(jax.jit(lambda *values: attend_in_blocks(*values))(*rows))
    wanted = np.asarray(jax.jit(attend_in_chunks)(*rows))
    for row, n in enumerate((96, 41)):
        assert relative_error(found[row, :n], wanted[row, :n]) < 2e-6


@pytest.mark.parametrize("form", [attend_in_blocks, attend_in_chunks])
def test_the_scores_of_a_great_picture_are_never_held_whole(form):
    """7168 x 7168 pixels: the scores of one head alone are 2.3 GiB."""
    length, heads = 25_088, 4
    row = jax.ShapeDtypeStruct((1, length, heads, 16), jnp.float32)
    lengths = jax.ShapeDtypeStruct((1,), jnp.int32)
    compiled = jax.jit(form).lower(row, row, row, lengths).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 2**30
