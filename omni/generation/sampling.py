"""Choosing the next token: temperature, top-k, top-p (Holtzman et al., arXiv:1904.09751), min-p (arXiv:2407.01082).

Every setting is an array with a value a row, so one program serves all settings; each row draws with its own key.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, UInt32

from omni.options import TOP_LOGPROBS, Sampling

COLDEST = 1e-4
"""A temperature below this is greedy: scores divided by it would leave float32, and the best of them always wins."""
# Candidates that are looked at first; the rest of the vocabulary only where these do not hold all that may be chosen.
_FIRST = 64
# Scores that are summed at once where one of all tokens is drawn.
_PIECE = 512


class Settings(NamedTuple):
    """The settings of a batch, a value a row."""

    temperature: Float32[Array, "batch"]
    top_p: Float32[Array, "batch"]
    top_k: Int32[Array, "batch"]
    min_p: Float32[Array, "batch"]
    seed: UInt32[Array, "batch"]

    @classmethod
    def of(cls, rows: Sequence[Sampling], batch: int) -> "Settings":
        """Put settings side by side; rows beyond them are greedy."""
        every = [*rows, *[Sampling()] * (batch - len(rows))]

        def column(name: str, dtype: type) -> Array:
            return jnp.asarray(np.asarray([getattr(row, name) for row in every]).astype(dtype))

        return cls(
            column("temperature", np.float32),
            column("top_p", np.float32),
            jnp.asarray(np.minimum([row.top_k for row in every], 1 << 30).astype(np.int32)),
            column("min_p", np.float32),
            jnp.asarray(np.asarray([row.seed for row in every], np.uint64).astype(np.uint32)),
        )


def sample(
    logits: Float[Array, "batch vocabulary"], settings: Settings, steps: Int32[Array, "batch"]
) -> Int32[Array, "batch"]:
    """Choose one token a row. It depends on the row's own scores, settings and step, never on its neighbours.

    A row's work depends on its settings: a greedy one sorts nothing and draws nothing.
    """
    return jax.lax.map(lambda row: sample_one(*row), (logits, settings, steps))


def sample_one(logits: Float[Array, "vocabulary"], settings: Settings, step: Int32[Array, ""]) -> Int32[Array, ""]:
    """Choose a token for one row, for use in a loop over rows."""
    return jax.lax.cond(settings.temperature < COLDEST, _best, lambda x: _draw(x, settings, step), logits)


def log_probabilities(
    logits: Float[Array, "vocabulary"], token: Int32[Array, ""]
) -> tuple[Float32[Array, ""], Int32[Array, "top"], Float32[Array, "top"]]:
    """The log-probability of a token, and the most likely tokens with theirs."""
    whole = jax.nn.logsumexp(logits)
    values, ids = jax.lax.top_k(logits, min(TOP_LOGPROBS, logits.shape[-1]))
    return logits[token] - whole, ids.astype(jnp.int32), values - whole


def _best(logits: Float[Array, "vocabulary"]) -> Int32[Array, ""]:
    # The first of the largest. XLA's own argmax takes ten times as long on the CPU.
    tokens = jnp.arange(len(logits), dtype=jnp.int32)
    return jnp.where(logits == logits.max(), tokens, len(logits) - 1).min()


def _draw(logits: Float[Array, "vocabulary"], settings: Settings, step: Int32[Array, ""]) -> Int32[Array, ""]:
    vocabulary = len(logits)
    x_V = logits / settings.temperature
    key = jax.random.fold_in(jax.random.key(settings.seed), step)
    top_k = jnp.where(settings.top_k == 0, vocabulary, settings.top_k)
    first_F, tokens_F = jax.lax.top_k(x_V, min(_FIRST, vocabulary))
    ranks_F = jnp.arange(len(first_F))
    # Log of the sum over all that top-k leaves.
    few = top_k <= len(first_F)
    whole = jnp.where(few, jax.nn.logsumexp(jnp.where(ranks_F < top_k, first_F, -jnp.inf)), jax.nn.logsumexp(x_V))
    probabilities_F = jnp.exp(first_F - whole)
    # A token stays while those before it fall short of top_p, so the first always stays.
    before_F = jnp.cumsum(probabilities_F) - probabilities_F
    least = _least(first_F[0], settings.min_p)
    keep_F = (ranks_F < top_k) & ((before_F < settings.top_p) | (ranks_F == 0)) & (first_F >= least)
    all_here = few | (before_F[-1] >= settings.top_p) & (settings.top_p < 1) | (first_F[-1] < least)
    all_here |= len(first_F) == vocabulary

    def among_first() -> Int32[Array, ""]:
        return tokens_F[jax.random.categorical(key, jnp.where(keep_F, first_F, -jnp.inf))].astype(jnp.int32)

    def among_all() -> Int32[Array, ""]:
        kept_V = jax.lax.cond(top_k < vocabulary, lambda: _at_least(x_V, _kth_largest(x_V, top_k)), lambda: x_V)
        probabilities_V = jax.nn.softmax(kept_V)
        kept_V = jax.lax.cond(
            settings.top_p < 1,
            lambda: _at_least(kept_V, _nucleus(kept_V, probabilities_V, settings.top_p)),
            lambda: kept_V,
        )
        weights_V = jnp.where(kept_V >= least, probabilities_V, 0)
        weights_V = jnp.where(kept_V == -jnp.inf, 0, weights_V)
        return _pick(weights_V, jax.random.uniform(key))

    return jax.lax.cond(all_here, among_first, among_all)


def _least(largest: Array, min_p: Array) -> Array:
    return jnp.where(min_p > 0, largest + jnp.log(jnp.maximum(min_p, 1e-38)), -jnp.inf)


def _at_least(x: Array, least: Array) -> Array:
    return jnp.where(x >= least, x, -jnp.inf)


def _kth_largest(x: Float[Array, "vocabulary"], k: Array) -> Float[Array, ""]:
    return _largest_threshold(x, lambda above: above.sum() >= k)


def _nucleus(x: Float[Array, "vocabulary"], probabilities: Float[Array, "vocabulary"], top_p: Array) -> Array:
    return _largest_threshold(x, lambda above: jnp.where(above, probabilities, 0).sum() >= top_p)


def _largest_threshold(x: Float[Array, "vocabulary"], enough) -> Float[Array, ""]:
    """The largest value such that what is not below it is enough; found bit by bit, without sorting."""
    ordered = _ordered(x)

    def halve(i: Array, found: Array) -> Array:
        trial = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(enough(ordered >= trial), trial, found)

    return _from_ordered(jax.lax.fori_loop(0, 32, halve, jnp.uint32(0)))


def _ordered(x: Float[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Whole numbers in the order of the floats."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _from_ordered(whole: UInt32[Array, ""]) -> Float[Array, ""]:
    bits = jnp.where(whole >> 31 == 1, whole & jnp.uint32((1 << 31) - 1), ~whole)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _pick(weights: Float[Array, "vocabulary"], u: Float[Array, ""]) -> Int32[Array, ""]:
    """The first token whose cumulative weight exceeds `u` of the whole: a piece of the vocabulary, then one in it."""
    pieces = jnp.pad(weights, (0, -len(weights) % _PIECE)).reshape(-1, _PIECE)
    sums = jnp.cumsum(pieces.sum(-1))
    goal = u * sums[-1]
    # Rounding may leave the goal at or above the last sum: the last token with any weight is meant then.
    piece = jnp.minimum((sums <= goal).sum(), jnp.argmax(sums))
    before = jnp.where(piece > 0, sums[jnp.maximum(piece - 1, 0)], 0)
    within = jnp.cumsum(pieces[piece])
    place = jnp.minimum((within <= goal - before).sum(), jnp.argmax(within))
    return (piece * _PIECE + place).astype(jnp.int32)
