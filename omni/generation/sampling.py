"""Choosing the next token: temperature, top-k, top-p (Holtzman et al., arXiv:1904.09751), each row on its own key."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt32

from omni.errors import InputError, is_number, is_whole, shown

COLDEST = 1e-4
"""A temperature below this is greedy: scores divided by it would leave float32, and the best of them always wins."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens.

    Attributes:
        temperature: 0 is greedy, and so is what is under 1e-4.
        top_p: smallest set of most likely tokens whose probability reaches this; 1 keeps all.
        top_k: most tokens to choose from; 0 keeps all.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0 <= self.temperature < float("inf"):
            raise InputError("bad_temperature", f"temperature must be 0 or more, got {shown(self.temperature)}")
        if not is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise InputError("bad_top_p", f"top_p must be above 0 and at most 1, got {shown(self.top_p)}")
        if not is_whole(self.top_k) or self.top_k < 0:
            raise InputError("bad_top_k", f"top_k must be a whole number of 0 or more, got {shown(self.top_k)}")


def sample(
    logits: Float[Array, "batch vocabulary"], seeds: UInt32[Array, "batch"], steps: Int32[Array, "batch"], how: Sampling
) -> Int32[Array, "batch"]:
    """One token a row. A row's draw depends on its own logits, seed and step alone, never on its neighbours."""
    if how.temperature < COLDEST:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / how.temperature
    candidates = jnp.broadcast_to(jnp.arange(logits.shape[-1], dtype=jnp.int32), logits.shape)
    if 0 < how.top_k < logits.shape[-1]:
        logits, candidates = jax.lax.top_k(logits, how.top_k)
    elif how.top_p < 1:
        candidates = jnp.argsort(-logits, axis=-1).astype(jnp.int32)
        logits = jnp.take_along_axis(logits, candidates, axis=-1)
    if how.top_p < 1:
        # Sorted by now. A token stays while the ones before it fall short of top_p, so the first always stays.
        probabilities = jax.nn.softmax(logits, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        logits = jnp.where(before < how.top_p, logits, -jnp.inf)
    keys = jax.vmap(lambda seed, step: jax.random.fold_in(jax.random.key(seed), step))(seeds, steps)
    chosen = jax.vmap(jax.random.categorical)(keys, logits)
    return jnp.take_along_axis(candidates, chosen[:, None], axis=-1)[:, 0]
