"""Experts pair after pair."""

import jax
import jax.numpy as jnp
from jax import lax

from encoders.nn.weights import bank
from omni.decoder.ops.experts.pairs import of_expert


def one_by_one(x, experts, weights, gate_up, down) -> jax.Array:
    """Reads an expert once for each pair that visits it, and nothing else."""
    tokens_P = jnp.arange(experts.size) // experts.shape[1]
    (gate_up_NFD, first), (down_NDF, _) = bank(gate_up), bank(down)
    experts_P = first + jnp.maximum(experts.reshape(-1), 0)

    def add(out_TD, pair):
        token, expert, weight = pair
        return out_TD.at[token].add(weight * of_expert(x[token], gate_up_NFD, down_NDF, expert)), None

    out_TD, _ = lax.scan(add, jnp.zeros(x.shape, jnp.float32), (tokens_P, experts_P, weights.reshape(-1)))
    return out_TD
