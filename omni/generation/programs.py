"""The jitted functions of generation."""

import jax
import jax.numpy as jnp

from encoders.nn.compile import Program
from encoders.nn.mesh import constrain
from omni.generation.penalties import adjust, count
from omni.generation.sampling import log_probabilities, sample_one


def read(graph, weights, cache, ids, positions, media, counts, wanted):
    """A chunk of prompts: the cache with it, and what is wanted of it."""
    decoder = graph.merge(weights)
    x = decoder.embed(ids)
    if media is not None:
        x = media.place(x)
    if wanted == "states":
        layers, cache = decoder.states(x, positions, cache, counts, media)
        return cache.constrained(), tuple(
            _whole(a.astype(jnp.float32)) for a in (x[0], layers[:, 0], decoder.norm(layers[-1, 0]))
        )
    hidden, cache = decoder(x, positions, cache, counts, media)
    if wanted != "every_logits":
        last = jnp.maximum(counts - 1, 0)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    found = hidden.astype(jnp.float32) if wanted == "hidden" else decoder.logits(hidden)
    return cache.constrained(), _whole(found)


def score_hidden(graph, weights, hidden):
    """Next-token scores of hidden states after the final norm."""
    decoder = graph.merge(weights)
    return _whole(decoder.logits(hidden.astype(decoder.dtype)))


def read_one(graph, weights, cache, tokens, positions, counts):
    """One token a row: the cache with it, and the scores after it."""
    decoder = graph.merge(weights)
    x = decoder.embed(tokens[:, None])
    where = jnp.broadcast_to(positions[None, :, None], (3, *x.shape[:2]))
    hidden, cache = decoder(x, where, cache, counts)
    return cache.constrained(), _whole(decoder.logits(hidden[:, 0]))


def _whole(a):
    """What the host reads, which every process of a mesh can."""
    return constrain(a, *[None] * a.ndim)


def choose_tokens(logits, tokens_before, places, settings, adjustments, tells, steps):
    """A token for each row, and what is told of it; rows whose place lies beyond all get none."""
    rows = tokens_before.shape[0]

    def one(row):
        scores, place, settings, adjustments, tells, step = row
        adjusted = jax.lax.cond(
            adjustments.any,
            lambda: adjust(scores, tokens_before[jnp.minimum(place, rows - 1)], adjustments),
            lambda: scores,
        )
        token = jax.lax.cond(place < rows, lambda: sample_one(adjusted, settings, step), lambda: jnp.int32(0))
        # No token can be chosen from such scores, and one would be chosen all the same.
        token = jnp.where(jnp.isfinite(scores.max()), token, -1)
        told = jax.eval_shape(log_probabilities, scores, token)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), told)
        return token, *jax.lax.cond(tells, lambda: log_probabilities(scores, jnp.maximum(token, 0)), lambda: nothing)

    tokens, *told = jax.lax.map(one, (logits, places, settings, adjustments, tells, steps))
    return count(tokens_before, places, tokens), tokens, *told


prefill = Program(read, static_argnums=(0, 7), donate_argnums=(2,))
step = Program(read_one, static_argnums=(0,), donate_argnums=(2,))
score = Program(score_hidden, static_argnums=(0,))
choose = jax.jit(choose_tokens, donate_argnums=(1,))
set_history = jax.jit(lambda tokens_before, place, own: tokens_before.at[place].set(own), donate_argnums=0)


def compiled() -> int:
    """Return how many programs of decoding there are: those that read, and those that choose."""
    return prefill.count + step.count + choose._cache_size()  # pyright: ignore[reportAttributeAccessIssue]
