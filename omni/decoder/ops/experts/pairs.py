"""Pairs of a token and an expert, and what one expert computes."""

import jax
import jax.numpy as jnp

from encoders.nn.weights import LayerWeight, matmul


def sort_by_expert(x, experts, count) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A row for each pair in the order of experts, pairs without one last; rows of each expert; the order."""
    experts_P = jnp.where(experts < 0, count, experts).reshape(-1)
    order_P = jnp.argsort(experts_P, stable=True)
    counts_E = (experts_P[:, None] == jnp.arange(count)).sum(0, dtype=jnp.int32)
    return x[order_P // experts.shape[1]], counts_E, order_P


def combine(said_PD, order_P, weights) -> jax.Array:
    """Back to the order of tokens, summed over each token's experts."""
    said_TkD = said_PD[jnp.argsort(order_P)].reshape(*weights.shape, -1)
    # Rows that visit no expert hold what the last block left there.
    said_TkD = jnp.where(weights[..., None] > 0, said_TkD, 0)
    return jnp.einsum("tk,tkd->td", weights, said_TkD)


def of_expert(x, gate_up_NFD, down_NDF, expert) -> jax.Array:
    """What one expert, counted over all layers, says to each row; its matrices are read in place."""
    h = gated(matmul(x, LayerWeight(gate_up_NFD, expert)))
    return matmul(h.astype(x.dtype), LayerWeight(down_NDF, expert))


def gated(h: jax.Array) -> jax.Array:
    """silu(gate) * up, of gate and up side by side."""
    gate, up = jnp.split(h, 2, axis=-1)
    return jax.nn.silu(gate) * up
