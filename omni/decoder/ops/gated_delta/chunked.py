"""The gated delta rule a chunk at a time, equation by equation."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int32

from omni.decoder.ops.gated_delta.parts import (
    Inputs,
    begin_chunks,
    cut_into_chunks,
    decays,
    dot,
    heads_first,
    inputs_of,
    ready,
    shared_out,
    whole,
)


def chunked(
    q: Float[jax.Array, "batch tokens key_heads key_width"],
    k: Float[jax.Array, "batch tokens key_heads key_width"],
    v: Float[jax.Array, "batch tokens heads value_width"],
    g: Float[jax.Array, "batch tokens heads"],
    beta: Float[jax.Array, "batch tokens heads"],
    initial_state: Float[jax.Array, "batch heads key_width value_width"] | None = None,
    *,
    counts: Int32[jax.Array, "batch"] | None = None,
    chunk_size: int = 64,
    normalize_qk: bool = True,
) -> tuple[Float[jax.Array, "batch tokens heads value_width"], Float[jax.Array, "batch heads key_width value_width"]]:
    """The equations of a chunk one by one, in float32; arguments and results as those of `recurrent`.

    With G the sum of g from the chunk's start, D[i, j] = exp(G[i] − G[j]) for j ≤ i, and L the part below the diagonal
    of β (K Kᵀ ∘ D), the changes to S that the chunk's tokens write are (I + L)⁻¹ β (V − exp(G) K S).
    """
    product = partial(dot, dtype=jnp.float32)

    def step(S: jax.Array, chunk: Inputs) -> tuple[jax.Array, jax.Array]:
        q, k, v, g, beta = heads_first(shared_out(ready(chunk, normalize_qk)))
        faded = jnp.exp(jnp.cumsum(g, axis=-1))[..., None]
        D = decays(g)
        beta = beta[..., None]
        L = jnp.tril(beta * product("...ih,...jh->...ij", k, k) * D, -1)
        U = _solve(L, beta * v)
        W = _solve(L, beta * faded * k)
        change = U - product("...ih,...hu->...iu", W, S)
        read = product("...ih,...hu->...iu", q * faded, S)
        out = read + product("...ij,...ju->...iu", product("...ih,...jh->...ij", q, k) * D, change)
        left = D[..., -1, :, None]  # of each write at the end of the chunk
        return S * faded[..., -1:, :] + product("...ih,...iu->...hu", k * left, change), jnp.swapaxes(out, -3, -2)

    chunks = cut_into_chunks(inputs_of(q, k, v, g, beta, counts), chunk_size)
    return whole(*lax.scan(step, begin_chunks(k, v, initial_state), chunks), q, v)


def _solve(L: jax.Array, right: jax.Array) -> jax.Array:
    """(I + L)⁻¹ right, row after row.

    LAPACK, behind `jax.scipy.linalg.solve_triangular`, shares a batch among the CPU's threads and was seen to wait for
    them for ever.
    """
    right = jnp.broadcast_to(right, (*L.shape[:-1], right.shape[-1]))

    def row(i, x):
        above = dot("...j,...ju->...u", L[..., i, :], x, jnp.float32)  # L has nothing from column i on
        return x.at[..., i, :].add(-above)

    return lax.fori_loop(0, L.shape[-1], row, right)
