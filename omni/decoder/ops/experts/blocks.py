"""Experts block after block of the rows that visit them."""

import jax
import jax.numpy as jnp
from jax import lax

from encoders.nn.weights import bank, matmul, member
from omni.decoder.ops.experts.pairs import combine, gated, of_expert, sort_by_expert


def in_blocks(x, experts, weights, gate_up, down) -> jax.Array:
    """Reads an expert once for each block of rows that visit it."""
    rows_PD, counts_E, order_P = sort_by_expert(x, experts, gate_up.shape[0])
    (gate_up_NFD, first), (down_NDF, _) = bank(gate_up), bank(down)
    return combine(_blocks(rows_PD, counts_E, gate_up_NFD, down_NDF, first), order_P, weights)


@jax.custom_vjp
def _blocks(rows_PD, counts_E, gate_up, down, first) -> jax.Array:
    """What each row's expert says, for rows sorted by expert: `counts_E[0]` rows of expert `first`, and so on.

    The number of blocks depends on the data, which a loop may run but reverse-mode differentiation may not cross:
    hence the gradient by hand, a loop over the same blocks.
    """
    size = _block_size(len(rows_PD), len(counts_E))
    blocks, place = _plan(counts_E, size)
    padded_PD = jnp.pad(rows_PD, [(0, size), (0, 0)])

    def of_size(rows):
        def run(expert, start):
            said_RD = of_expert(lax.dynamic_slice_in_dim(padded_PD, start, rows), gate_up, down, first + expert)
            return jnp.pad(said_RD, [(0, size - rows), (0, 0)])

        return run

    quarters = [of_size(size * i // 4) for i in (1, 2, 3, 4)]

    def one(i, said_PD):
        expert, start, rows = place(i)
        said_RD = lax.switch((4 * rows - 1) // size, quarters, expert, start)
        # Rows past the end of an expert are the next one's: its own block comes later, and writes over these.
        return lax.dynamic_update_slice_in_dim(said_PD, said_RD, start, 0)

    return lax.fori_loop(0, blocks, one, jnp.zeros(padded_PD.shape, jnp.float32))[: len(rows_PD)]


def _blocks_forward(rows_PD, counts_E, gate_up, down, first):
    return _blocks(rows_PD, counts_E, gate_up, down, first), (rows_PD, counts_E, gate_up, down, first)


def _blocks_backward(saved, said_PD):
    rows_PD, counts_E, gate_up, down, first = saved
    size = _block_size(len(rows_PD), len(counts_E))
    blocks, place = _plan(counts_E, size)
    padded_PD, said_PD = (jnp.pad(a, [(0, size), (0, 0)]) for a in (rows_PD, said_PD))

    def said(x_RD, gate_up_FD, down_DF):
        return matmul(gated(matmul(x_RD, gate_up_FD)).astype(x_RD.dtype), down_DF)

    def one(i, gradients):
        to_rows, to_gate_up, to_down = gradients
        expert, start, rows = place(i)
        own_R1 = (jnp.arange(size) < rows)[:, None]
        matrices = member((gate_up, down), first + expert)
        _, pull = jax.vjp(said, lax.dynamic_slice_in_dim(padded_PD, start, size), *matrices)
        x_RD, gate_up_FD, down_DF = pull(jnp.where(own_R1, lax.dynamic_slice_in_dim(said_PD, start, size), 0))
        return (
            lax.dynamic_update_slice_in_dim(to_rows, x_RD.astype(jnp.float32), start, 0),
            to_gate_up.at[first + expert].add(gate_up_FD.astype(jnp.float32)),
            to_down.at[first + expert].add(down_DF.astype(jnp.float32)),
        )

    zeros = tuple(jnp.zeros(a.shape, jnp.float32) for a in (padded_PD, gate_up, down))
    to_rows, to_gate_up, to_down = lax.fori_loop(0, blocks, one, zeros)
    visited_P1 = (jnp.arange(len(rows_PD)) < counts_E.sum())[:, None]
    to_rows = jnp.where(visited_P1, to_rows[: len(rows_PD)], 0)
    found = (g.astype(a.dtype) for g, a in ((to_rows, rows_PD), (to_gate_up, gate_up), (to_down, down)))
    to_rows, to_gate_up, to_down = found
    return to_rows, None, to_gate_up, to_down, None


_blocks.defvjp(_blocks_forward, _blocks_backward)


def _block_size(rows: int, experts: int) -> int:
    # Most experts should need one block, which runs as the smallest of four sizes: reading an expert costs as much as
    # multiplying some 20 rows.
    return min(256, 16 * -(-2 * rows // (16 * experts)))


def _plan(counts_E, size):
    """How many blocks there are, and from the number of a block to its expert, first row and number of rows."""
    blocks_E = -(-counts_E // size)
    ends_E = jnp.cumsum(blocks_E)
    rows_E = jnp.cumsum(counts_E)

    def place(i):
        expert = jnp.searchsorted(ends_E, i, side="right").astype(jnp.int32)
        start = rows_E[expert] - counts_E[expert] + (i - (ends_E - blocks_E)[expert]) * size
        return expert, start, jnp.minimum(rows_E[expert] - start, size)

    return ends_E[-1], place
