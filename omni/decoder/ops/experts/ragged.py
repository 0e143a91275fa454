"""Experts in one grouped product."""

import jax
import jax.numpy as jnp
from jax import lax

from omni.decoder.ops.experts.pairs import combine, gated, sort_by_expert


def ragged(x, experts, weights, gate_up, down) -> jax.Array:
    """One grouped product over the experts of the layer, which are copied where layers are stacked."""
    rows_PD, counts_E, order_P = sort_by_expert(x, experts, gate_up.shape[0])
    # [rows, in] x [experts, out, in]: contracts the last axes, so that nothing is transposed.
    numbers = lax.RaggedDotDimensionNumbers((((1,), (2,)), ((), ())), [0], [0])

    def product(a, b):
        return lax.ragged_dot_general(a, b, counts_E, numbers, preferred_element_type=jnp.float32)

    h_PF = product(rows_PD, gate_up[...])
    return combine(product(gated(h_PF).astype(x.dtype), down[...]), order_P, weights)
