"""The causal convolution: a plain sum over what came before, however the tokens are cut and padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni.decoder.causal_conv import causal_conv

B, T, C, W = 3, 11, 5, 4


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.RandomState(seed).normal(0, 1, shape), jnp.float32)


X, WEIGHT, TAIL = draw(B, T, C), draw(C, W, seed=1), draw(B, W - 1, C, seed=2)


def plain(x: jax.Array, tail: jax.Array) -> np.ndarray:
    seen = np.concatenate([tail, x], 1).astype(np.float64)
    sums = np.stack([np.einsum("bwc,cw->bc", seen[:, t : t + W], WEIGHT) for t in range(x.shape[1])], 1)
    return sums / (1 + np.exp(-sums))


def test_sums_what_came_before():
    y, tail = causal_conv(X, WEIGHT, TAIL)
    np.testing.assert_allclose(y, plain(X, TAIL), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tail, X[:, -3:])
    np.testing.assert_array_equal(causal_conv(X, WEIGHT)[0], causal_conv(X, WEIGHT, 0 * TAIL)[0])


@pytest.mark.parametrize("cut", range(1, T))
def test_split_anywhere_equals_whole(cut):
    first, tail = causal_conv(X[:, :cut], WEIGHT, TAIL)
    second, tail = causal_conv(X[:, cut:], WEIGHT, tail)
    whole, last = causal_conv(X, WEIGHT, TAIL)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(tail, last)


def test_alone_equals_in_a_batch():
    counts = [T, 0, 2]
    padded = X
    for row, count in enumerate(counts):
        padded = padded.at[row, count:].set(jnp.nan)
    y, tail = causal_conv(padded, WEIGHT, TAIL, jnp.asarray(counts, jnp.int32))
    np.testing.assert_array_equal(tail[1], TAIL[1])
    for row, count in enumerate(counts):
        one = slice(row, row + 1)
        if count:
            alone, last = causal_conv(X[one, :count], WEIGHT, TAIL[one])
            np.testing.assert_allclose(y[one, :count], alone, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(tail[one], last)


def test_dtypes_are_kept():
    y, tail = causal_conv(X.astype(jnp.bfloat16), WEIGHT.astype(jnp.bfloat16), TAIL)
    assert y.dtype == jnp.bfloat16 and tail.dtype == jnp.float32
