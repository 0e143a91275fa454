"""Experts in one batched product."""

import jax
import jax.numpy as jnp

from encoders.nn.weights import bank
from omni.decoder.ops.experts.pairs import gated


def gathered(x, experts, weights, gate_up, down) -> jax.Array:
    """Copies the matrices of each pair, and multiplies all at once."""
    (gate_up_NFD, first), (down_NDF, _) = bank(gate_up), bank(down)
    at_Tk = first + jnp.maximum(experts, 0)
    gate_up_TkFD, down_TkDF = gate_up_NFD[at_Tk], down_NDF[at_Tk]
    h_TkF = jnp.einsum("td,tkfd->tkf", x, gate_up_TkFD, preferred_element_type=jnp.float32)
    said_TkD = jnp.einsum("tkf,tkdf->tkd", gated(h_TkF).astype(x.dtype), down_TkDF, preferred_element_type=jnp.float32)
    return jnp.einsum("tk,tkd->td", weights, said_TkD)
