"""Rotary positions on three axes, against complex numbers."""

import jax.numpy as jnp
import numpy as np

from omni.decoder.rotary import axis_of_frequency, rotate, rotation


def test_axes_take_turns_while_their_section_lasts():
    assert "".join("thw"[a] for a in axis_of_frequency(16, (4, 2, 2))) == "thwthwtt"
    axes = axis_of_frequency(128, (24, 20, 20))
    assert np.bincount(axes).tolist() == [24, 20, 20]
    assert axes[:60].tolist() == [0, 1, 2] * 20


def test_turns_pairs_by_the_position_of_their_axis():
    dice = np.random.default_rng(0)
    x = dice.normal(size=(2, 5, 3, 16))
    positions = dice.uniform(0, 50, (3, 2, 5)).astype(np.float32)
    turns = rotation(jnp.asarray(positions), 16, 1e4, (4, 2, 2))
    found = rotate(jnp.asarray(x, jnp.float32), turns)

    pairs = x[..., :8] + 1j * x[..., 8:]
    for i, axis in enumerate([0, 1, 2, 0, 1, 2, 0, 0]):
        pairs[..., i] *= np.exp(1j * positions[axis, ..., None] * 1e4 ** (-i / 8))
    assert np.abs(np.concatenate([pairs.real, pairs.imag], -1) - found).max() < 2e-5


def test_channels_beyond_the_rotation_pass():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 32)), jnp.float32)
    positions = jnp.asarray(np.random.default_rng(1).uniform(0, 50, (3, 2, 5)), jnp.float32)
    turns = rotation(positions, 8, 1e4, (2, 1, 1))
    found = rotate(x, turns)
    np.testing.assert_array_equal(found[..., 8:], x[..., 8:])
    np.testing.assert_array_equal(found[..., :8], rotate(x[..., :8], turns))


def test_scores_depend_on_the_distance_only():
    dice = np.random.default_rng(1)
    q, k = jnp.asarray(dice.normal(size=(2, 1, 1, 1, 32)), jnp.float32)

    def score(at, before):
        turns = [rotation(jnp.full((3, 1, 1), p, jnp.float32), 32, 1e6, (6, 5, 5)) for p in (at, at - before)]
        return float((rotate(q, turns[0]) * rotate(k, turns[1])).sum())

    assert np.allclose(score(4, 3.5), [score(40, 3.5), score(1004, 3.5)], atol=1e-3)


def test_keeps_the_dtype():
    turns = rotation(jnp.ones((3, 1, 1)), 8, 1e4, (2, 1, 1))
    assert rotate(jnp.ones((1, 1, 1, 8), jnp.bfloat16), turns).dtype == jnp.bfloat16
