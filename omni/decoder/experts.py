"""How tokens visit experts, with the weights left where they are.

`sum over k of weight[t, k] * down[e] @ (silu(gate[e] @ x[t]) * (up[e] @ x[t]))` with `e = expert[t, k]`, in four forms.
All are equal and all differentiate; they differ in what they read and copy:

- `one_by_one`: an expert's matrices against one row, pair after pair of token and expert. Few tokens on a CPU.
- `in_blocks`: pairs sorted by expert, then a block of rows of one expert at a time. Many tokens on a CPU.
- `gathered`: the chosen matrices side by side in one batched product. Few tokens on an accelerator.
- `ragged`: pairs sorted by expert, then one grouped product. Many tokens on an accelerator; a CPU would run every
  expert on every row.

All take the matrices of one layer, or those of all layers and the number of the layer: cutting a layer out first would
copy all of its experts. An expert of -1 is none, and its weight must be 0.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int, Int32

from encoders.layers import matmul, member

# Pairs of token and expert, a multiple of the experts of a layer, up to which a form for few tokens is the faster.
_FEW = 1.5


def visit(
    x: Float[jax.Array, "tokens width"],
    experts: Int32[jax.Array, "tokens chosen"],
    weights: Float[jax.Array, "tokens chosen"],
    gate_up: Float[jax.Array, "*layers experts two_hidden width"],
    down: Float[jax.Array, "*layers experts width hidden"],
    layer: Int[jax.Array, ""] | None = None,
) -> Float[jax.Array, "tokens width"]:
    """The weighted sum of what each token's experts say, in float32, in the form that suits the backend."""
    few = experts.size <= _FEW * gate_up.shape[-3]
    if jax.default_backend() == "cpu":
        form = one_by_one if few else in_blocks
    else:
        form = gathered if few else ragged
    return form(x, experts, weights, gate_up, down, layer)


def one_by_one(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """Reads an expert once for each pair that visits it, and nothing else."""
    tokens_P = jnp.arange(experts.size) // experts.shape[1]
    experts_P = _first(gate_up, layer) + jnp.maximum(experts.reshape(-1), 0)

    def add(out_TD, pair):
        token, expert, weight = pair
        return out_TD.at[token].add(weight * _expert(x[token], _all(gate_up), _all(down), expert)), None

    out_TD, _ = lax.scan(add, jnp.zeros(x.shape, jnp.float32), (tokens_P, experts_P, weights.reshape(-1)))
    return out_TD


def in_blocks(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """Reads an expert once for each block of rows that visit it."""
    rows_PD, counts_E, order_P = _sort(x, experts, gate_up.shape[-3])
    return _combine(_blocks(rows_PD, counts_E, _all(gate_up), _all(down), _first(gate_up, layer)), order_P, weights)


def gathered(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """Copies the matrices of each pair, and multiplies all at once."""
    at_Tk = _first(gate_up, layer) + jnp.maximum(experts, 0)
    gate_up_TkFD = _all(gate_up)[at_Tk]
    down_TkDF = _all(down)[at_Tk]
    h_TkF = jnp.einsum("td,tkfd->tkf", x, gate_up_TkFD, preferred_element_type=jnp.float32)
    said_TkD = jnp.einsum("tkf,tkdf->tkd", _gated(h_TkF).astype(x.dtype), down_TkDF, preferred_element_type=jnp.float32)
    return jnp.einsum("tk,tkd->td", weights, said_TkD)


def ragged(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """One grouped product over the experts of the layer, which are copied where layers are stacked."""
    rows_PD, counts_E, order_P = _sort(x, experts, gate_up.shape[-3])
    if layer is not None:
        gate_up, down = gate_up[layer], down[layer]
    # [rows, in] x [experts, out, in]: contracts the last axes, so that nothing is transposed.
    numbers = lax.RaggedDotDimensionNumbers((((1,), (2,)), ((), ())), [0], [0])

    def product(a, b):
        return lax.ragged_dot_general(a, b, counts_E, numbers, preferred_element_type=jnp.float32)

    h_PF = product(rows_PD, gate_up)
    return _combine(product(_gated(h_PF).astype(x.dtype), down), order_P, weights)


def _sort(x, experts, count) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A row for each pair in the order of experts, pairs without one last; rows of each expert; the order."""
    experts_P = jnp.where(experts < 0, count, experts).reshape(-1)
    order_P = jnp.argsort(experts_P, stable=True)
    counts_E = (experts_P[:, None] == jnp.arange(count)).sum(0, dtype=jnp.int32)
    return x[order_P // experts.shape[1]], counts_E, order_P


def _combine(said_PD, order_P, weights) -> jax.Array:
    """Back to the order of tokens, summed over each token's experts."""
    said_TkD = said_PD[jnp.argsort(order_P)].reshape(*weights.shape, -1)
    # Rows that visit no expert hold what the last block left there.
    said_TkD = jnp.where(weights[..., None] > 0, said_TkD, 0)
    return jnp.einsum("tk,tkd->td", weights, said_TkD)


# --- Blocks of sorted rows --------------------------------------------------------------------------------------


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
            said_RD = _expert(lax.dynamic_slice_in_dim(padded_PD, start, rows), gate_up, down, first + expert)
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
        return matmul(_gated(matmul(x_RD, gate_up_FD)).astype(x_RD.dtype), down_DF)

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


# --- What all forms share ---------------------------------------------------------------------------------------


def _expert(x, gate_up_NFD, down_NDF, expert) -> jax.Array:
    """What one expert, counted over all layers, says to each row; its matrices are read in place."""
    h = _gated(matmul(x, gate_up_NFD, expert))
    return matmul(h.astype(x.dtype), down_NDF, expert)


def _gated(h: jax.Array) -> jax.Array:
    gate, up = jnp.split(h, 2, axis=-1)
    return jax.nn.silu(gate) * up


def _all(stack: jax.Array) -> jax.Array:
    """The experts of all layers in one row."""
    return stack.reshape(-1, *stack.shape[-2:])


def _first(stack: jax.Array, layer) -> jax.Array:
    """Where a layer's experts begin in that row."""
    return jnp.int32(0) if layer is None else layer * stack.shape[-3]
