"""Sampling follows the distribution it promises, and a row never feels its neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from omni import GenerationOptions, InputError
from omni.config import GenerationConfig
from omni.generation.penalties import AdjustmentArrays, adjust, count, history
from omni.generation.sampling import Settings, log_probabilities, sample
from omni.options import BIASES, Adjustments, Sampling

DRAWS = 4000
sampled = jax.jit(sample)


def logits_of(rows: int, vocabulary: int = 11, seed: int = 0) -> jnp.ndarray:
    return jnp.asarray(np.random.RandomState(seed).normal(size=(rows, vocabulary)).astype(np.float32) * 2)


def draw(logits, how: Sampling):
    rows = logits.shape[0]
    return np.asarray(sampled(logits, Settings.of([how] * rows, rows), jnp.arange(rows, dtype=jnp.int32)))


def frequencies(row: jnp.ndarray, how: Sampling) -> np.ndarray:
    # The same scores at many steps: every draw has its own key.
    tokens = draw(jnp.broadcast_to(row, (DRAWS, row.shape[-1])), how)
    return np.bincount(tokens, minlength=row.shape[-1]) / DRAWS


def distribution(row, how: Sampling) -> np.ndarray:
    """What is promised, by sorting: the reference's filters one after another."""
    x = np.asarray(row, np.float64) / how.temperature
    if how.top_k:
        x = np.where(x >= np.sort(x)[-min(how.top_k, len(x))], x, -np.inf)
    order = np.argsort(-x, kind="stable")
    p = softmax(x)[order]
    kept = order[np.cumsum(p) - p < how.top_p]
    x = np.where(np.isin(np.arange(len(x)), kept), x, -np.inf)
    if how.min_p:
        x = np.where(softmax(x) >= how.min_p * softmax(x).max(), x, -np.inf)
    return softmax(x)


@pytest.mark.parametrize("how", [Sampling(), Sampling(1.0, top_k=1), Sampling(0.7, top_p=1e-6), Sampling(2.0, min_p=1)])
@pytest.mark.parametrize("vocabulary", [11, 1000])
def test_the_most_likely_token(how, vocabulary):
    logits = logits_of(16, vocabulary)
    assert (draw(logits, how) == np.argmax(logits, axis=-1)).all()


def test_the_first_of_equals():
    assert draw(jnp.asarray([[1.0, 3.0, 3.0, 2.0]]), Sampling()).tolist() == [1]


@pytest.mark.parametrize(
    "how",
    [
        Sampling(0.5),
        Sampling(2.0),
        Sampling(1.0, top_k=3),
        Sampling(1.0, top_p=0.8),
        Sampling(1.0, top_p=0.6, top_k=4),
        Sampling(1.0, min_p=0.2),
        Sampling(1.5, top_p=0.95, top_k=6, min_p=0.05),
    ],
)
def test_frequencies_are_those_promised(how):
    row = logits_of(1)[0]
    np.testing.assert_allclose(frequencies(row, how), distribution(row, how), atol=0.03)


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    row = jnp.log(jnp.asarray([0.05, 0.4, 0.1, 0.3, 0.15]))
    found = frequencies(row, Sampling(1.0, top_p=0.75))
    # 0.4 + 0.3 falls short of 0.75; 0.15 is needed as well.
    np.testing.assert_allclose(found, np.array([0, 0.4, 0, 0.3, 0.15]) / 0.85, atol=0.03)


@settings(max_examples=60)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.3, 1.0, 3.0, 30.0]),
    st.sampled_from([0, 1, 5, 64, 65, 200, 999, 1000, 5000]),
    st.sampled_from([1e-3, 0.3, 0.9, 0.999, 1.0]),
    st.sampled_from([0.0, 1e-3, 0.5]),
)
def test_only_what_is_kept_is_drawn(seed, temperature, top_k, top_p, min_p):
    """Whether the candidates are few, and sorted, or the whole vocabulary, which never is."""
    how = Sampling(temperature, top_p, top_k, min_p, seed)
    row = logits_of(1, 1000, seed)[0]
    promised = distribution(row, how)
    tokens = draw(jnp.broadcast_to(row, (64, 1000)), how)
    # Where a sum in float32 meets a limit, the token on the limit may fall to either side.
    near = distribution(row, Sampling(temperature, min(1.0, top_p * (1 + 1e-4)), top_k, min_p * (1 - 1e-4)))
    assert ((promised + near)[tokens] > 0).all()
    if (promised > 0).sum() > 1 and promised.max() < 0.5:
        assert len(set(tokens.tolist())) > 1


@pytest.mark.parametrize("how", [Sampling(2.0), Sampling(3.0, top_k=500), Sampling(3.0, top_p=0.9)])
def test_frequencies_over_a_large_vocabulary(how):
    """By groups of tokens, as each token alone is rare."""
    row = logits_of(1, 2000, 3)[0]
    found, promised = frequencies(row, how).reshape(20, -1).sum(1), distribution(row, how).reshape(20, -1).sum(1)
    np.testing.assert_allclose(found, promised, atol=0.025)


def test_a_row_depends_on_itself_alone():
    logits = logits_of(5, 300)
    how = [Sampling(1.0, top_p=0.9, seed=0), Sampling(), Sampling(3.0, seed=2), Sampling(1.0, top_k=3), Sampling(9.0)]
    steps = jnp.full((5,), 3, jnp.int32)
    together = np.asarray(sampled(logits, Settings.of(how, 5), steps))
    for i in range(5):
        alone = sampled(logits[i : i + 1], Settings.of(how[i : i + 1], 1), steps[i : i + 1])
        assert int(alone[0]) == together[i]


def test_log_probabilities_are_those_of_the_scores():
    row = logits_of(1, 100)[0]
    one, ids, values = log_probabilities(row, jnp.int32(7))
    wanted = log_softmax(np.asarray(row, np.float64))
    np.testing.assert_allclose(one, wanted[7], rtol=1e-5)
    np.testing.assert_array_equal(ids, np.argsort(-wanted)[:20])
    np.testing.assert_allclose(values, np.sort(wanted)[::-1][:20], rtol=1e-5)


# --- adjustments ------------------------------------------------------------------------------------------------------


def adjusted(row, how: Adjustments, prompt=(), reply=()):
    arrays = AdjustmentArrays.of([how], 1, len(row))
    before = jnp.asarray(history(np.asarray(prompt, np.int32), reply, len(row)))
    return np.asarray(adjust(jnp.asarray(row), before, jax.tree.map(lambda leaf: leaf[0], arrays)))


ROW = np.asarray([2.0, -1.0, 0.5, 3.0, -2.0], np.float32)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Adjustments(), ROW),
        # Tokens 0 and 1 are in the prompt, 1 twice and 3 once in the reply.
        (Adjustments(repetition_penalty=2.0), [1.0, -2.0, 0.5, 1.5, -2.0]),
        (Adjustments(presence_penalty=0.5), [2.0, -1.5, 0.5, 2.5, -2.0]),
        (Adjustments(frequency_penalty=0.5), [2.0, -2.0, 0.5, 2.5, -2.0]),
        (Adjustments(2.0, 0.5, 0.25), [1.0, -3.0, 0.5, 0.75, -2.0]),
        (Adjustments(logit_bias={2: 1.5, 4: -1.0}), [2.0, -1.0, 2.0, 3.0, -3.0]),
        # The bias comes first, as in the reference.
        (Adjustments(repetition_penalty=2.0, logit_bias={1: 3.0}), [1.0, 1.0, 0.5, 1.5, -2.0]),
        (Adjustments(banned_tokens=(3, 0)), [-np.inf, -1.0, 0.5, -np.inf, -2.0]),
        (Adjustments(mask=np.asarray([0b10110], np.uint32)), [-np.inf, -1.0, 0.5, -np.inf, -2.0]),
        (Adjustments(mask=np.asarray([0b10110], np.uint32), banned_tokens=(1,)), [-np.inf, -np.inf, 0.5, -np.inf, -2]),
    ],
)
def test_adjustments(how, wanted):
    np.testing.assert_allclose(adjusted(ROW, how, [0, 1], [1, 3, 1]), wanted)
    assert how.any == (np.asarray(wanted) != ROW).any()


def test_penalties_count_tokens_as_they_come():
    before = jnp.asarray(np.stack([history(np.int32([2]), [], 5), history(np.int32([3]), [4], 5)]))
    for tokens in ([1, 4], [1, -1], [2, 0]):
        before = count(before, jnp.asarray([0, 1]), jnp.asarray(tokens))
    before = count(before, jnp.asarray([2]), jnp.asarray([3]))  # a place beyond them all
    np.testing.assert_array_equal(before[0], history(np.int32([2]), [1, 1, 2], 5))
    np.testing.assert_array_equal(before[1], history(np.int32([3]), [4, 4, 0], 5))
    full = jnp.full((1, 2), (1 << 15) | 32767, jnp.uint16)
    np.testing.assert_array_equal(count(full, jnp.asarray([0]), jnp.asarray([1])), full)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"temperature": -1.0}, "bad_temperature"),
        ({"temperature": float("nan")}, "bad_temperature"),
        ({"top_p": 0.0}, "bad_top_p"),
        ({"top_p": 1.5}, "bad_top_p"),
        ({"top_k": -1}, "bad_top_k"),
        ({"min_p": -0.1}, "bad_min_p"),
        ({"min_p": 1.1}, "bad_min_p"),
        ({"repetition_penalty": 0}, "bad_repetition_penalty"),
        ({"presence_penalty": float("nan")}, "bad_presence_penalty"),
        ({"stop_tokens": [-1]}, "bad_stop_tokens"),
        ({"frequency_penalty": float("inf")}, "bad_frequency_penalty"),
        ({"logit_bias": {-1: 2.0}}, "bad_logit_bias"),
        ({"logit_bias": dict.fromkeys(range(BIASES + 1), 1.0)}, "bad_logit_bias"),
        ({"banned_tokens": [-1]}, "bad_banned_tokens"),
        ({"seed": 1 << 32}, "bad_seed"),
        ({"logprobs": 21}, "bad_logprobs"),
        ({"max_new_tokens": 0}, "bad_max_new_tokens"),
    ],
)
def test_bad_options(options, code):
    with pytest.raises(InputError) as error:
        GenerationOptions(**options)
    assert error.value.code == code


def test_options_are_filled_in_and_replaced():
    options = GenerationOptions.of(GenerationOptions(top_k=3, stop="a"), {"top_k": 4})
    assert (options.top_k, options.stop) == (4, ("a",))
    assert options.sampling(GenerationConfig()).temperature == 1.0
    with pytest.raises(TypeError, match="unknown options top_q"):
        GenerationOptions.of(None, {"top_q": 1})
    with pytest.raises(InputError) as error:
        GenerationOptions.of(3, {})  # type: ignore[arg-type]
    assert error.value.code == "bad_options"
