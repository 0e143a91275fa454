"""Sampling follows the distribution it promises, and a row never feels its neighbours."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from omni import InputError
from omni.generation.sampling import Sampling, sample

DRAWS = 4000


def logits_of(rows: int, vocabulary: int = 11, seed: int = 0) -> jnp.ndarray:
    return jnp.asarray(np.random.RandomState(seed).normal(size=(rows, vocabulary)).astype(np.float32) * 2)


def draw(logits, how: Sampling, seed: int = 0):
    rows = logits.shape[0]
    seeds = jnp.full((rows,), seed, jnp.uint32)
    return np.asarray(sample(logits, seeds, jnp.arange(rows, dtype=jnp.int32), how))


def frequencies(row: jnp.ndarray, how: Sampling) -> np.ndarray:
    # The same scores at many steps: every draw has its own key.
    tokens = draw(jnp.broadcast_to(row, (DRAWS, row.shape[-1])), how)
    return np.bincount(tokens, minlength=row.shape[-1]) / DRAWS


@pytest.mark.parametrize("how", [Sampling(), Sampling(1.0, top_k=1), Sampling(0.7, top_p=1e-6)])
def test_the_most_likely_token(how):
    logits = logits_of(16)
    assert (draw(logits, how) == np.argmax(logits, axis=-1)).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    row = logits_of(1)[0]
    np.testing.assert_allclose(frequencies(row, Sampling(temperature)), softmax(row / temperature), atol=0.03)


def test_top_k_keeps_the_k_most_likely():
    row = logits_of(1)[0]
    kept = np.argsort(-np.asarray(row))[:3]
    wanted = np.zeros(row.shape)
    wanted[kept] = softmax(row[kept])
    np.testing.assert_allclose(frequencies(row, Sampling(1.0, top_k=3)), wanted, atol=0.03)


@pytest.mark.parametrize("top_k", [0, 8])
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_k):
    row = jnp.log(jnp.asarray([0.05, 0.4, 0.1, 0.3, 0.15]))
    found = frequencies(row, Sampling(1.0, top_p=0.75, top_k=top_k))
    # 0.4 + 0.3 falls short of 0.75; 0.15 is needed as well.
    np.testing.assert_allclose(found, np.array([0, 0.4, 0, 0.3, 0.15]) / 0.85, atol=0.03)


def test_a_row_depends_on_itself_alone():
    logits = logits_of(5)
    how = Sampling(1.0, top_p=0.9)
    seeds, steps = jnp.arange(5, dtype=jnp.uint32), jnp.full((5,), 3, jnp.int32)
    together = np.asarray(sample(logits, seeds, steps, how))
    alone = [int(sample(logits[i : i + 1], seeds[i : i + 1], steps[i : i + 1], how)[0]) for i in range(5)]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"temperature": -1.0}, "bad_temperature"),
        ({"temperature": float("nan")}, "bad_temperature"),
        ({"top_p": 0.0}, "bad_top_p"),
        ({"top_p": 1.5}, "bad_top_p"),
        ({"top_k": -1}, "bad_top_k"),
    ],
)
def test_bad_options(options, code):
    with pytest.raises(InputError) as error:
        Sampling(**options)
    assert error.value.code == code
