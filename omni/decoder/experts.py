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

from omni.decoder.stack import member

# Pairs of token and expert, a multiple of the experts of a layer, up to which a form for few tokens is the faster.
_FEW = 1.5


def visit(
    x: Float[jax.Array, "tokens width"],
    experts: Int32[jax.Array, "tokens chosen"],
    weights: Float[jax.Array, "tokens chosen"],
    gate_up: Float[jax.Array, "*layers experts two_hidden width"],
    down: Float[jax.Array, "*layers experts width hidden"],
    layer: Int[jax.Array, ""] | int = 0,
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
    experts_P = layer * gate_up.shape[-3] + jnp.maximum(experts.reshape(-1), 0)

    def add(out_TD, pair):
        token, expert, weight = pair
        # A single row is bound by memory, and only in float32 does the CPU multiply it at memory's speed.
        gate_up_FD, down_DF = (w.astype(jnp.float32) for w in _read(gate_up, down, expert))
        gate_F, up_F = jnp.split(gate_up_FD @ x[token].astype(jnp.float32), 2)
        return out_TD.at[token].add(weight * (down_DF @ (jax.nn.silu(gate_F) * up_F))), None

    out_TD, _ = lax.scan(add, jnp.zeros(x.shape, jnp.float32), (tokens_P, experts_P, weights.reshape(-1)))
    return out_TD


def in_blocks(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """Reads an expert once for each block of rows that visit it."""
    rows_PD, counts_E, order_P = _sort(x, experts, gate_up.shape[-3])
    return _combine(_blocks(rows_PD, counts_E, gate_up, down, jnp.asarray(layer)), order_P, weights)


def gathered(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """Copies the matrices of each pair, and multiplies all at once."""
    at_Tk = layer * gate_up.shape[-3] + jnp.maximum(experts, 0)
    gate_up_TkFD = _all(gate_up)[at_Tk]
    down_TkDF = _all(down)[at_Tk]
    h_TkF = jnp.einsum("td,tkfd->tkf", x, gate_up_TkFD, preferred_element_type=jnp.float32)
    said_TkD = jnp.einsum("tkf,tkdf->tkd", _gated(h_TkF).astype(x.dtype), down_TkDF, preferred_element_type=jnp.float32)
    return jnp.einsum("tk,tkd->td", weights, said_TkD)


def ragged(x, experts, weights, gate_up, down, layer) -> jax.Array:
    """One grouped product over the experts of the layer, which are copied where layers are stacked."""
    rows_PD, counts_E, order_P = _sort(x, experts, gate_up.shape[-3])
    if gate_up.ndim == 4:
        gate_up, down = gate_up[layer], down[layer]
    # [rows, in] x [experts, out, in]: contracts the last axes, so that nothing is transposed.
    numbers = lax.RaggedDotDimensionNumbers((((1,), (2,)), ((), ())), [0], [0])

    def product(a, b):
        return lax.ragged_dot_general(a, b, counts_E, numbers, preferred_element_type=jnp.float32)

    h_PF = product(rows_PD, gate_up)
    return _combine(product(_gated(h_PF).astype(x.dtype), down), order_P, weights)


def _gated(h: jax.Array) -> jax.Array:
    gate, up = jnp.split(h, 2, axis=-1)
    return jax.nn.silu(gate) * up


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
def _blocks(rows_PD, counts_E, gate_up, down, layer) -> jax.Array:
    """What each row's expert says, for rows sorted by expert: `counts_E[0]` rows of expert 0 first, and so on.

    The number of blocks depends on the data, which a loop may run but reverse-mode differentiation may not cross:
    hence the gradient by hand, a loop over the same blocks.
    """
    size = _block_size(len(rows_PD), len(counts_E))
    blocks, expert_and_start = _plan(counts_E, size, layer)
    padded_PD = jnp.pad(rows_PD, [(0, size), (0, 0)])

    def one(i, said_PD):
        expert, start = expert_and_start(i)
        said_RD = _expert(lax.dynamic_slice_in_dim(padded_PD, start, size), *_read(gate_up, down, expert))
        # Rows past the end of an expert are the next one's: its own block comes later, and writes over these.
        return lax.dynamic_update_slice_in_dim(said_PD, said_RD, start, 0)

    return lax.fori_loop(0, blocks, one, jnp.zeros(padded_PD.shape, jnp.float32))[: len(rows_PD)]


def _blocks_forward(rows_PD, counts_E, gate_up, down, layer):
    return _blocks(rows_PD, counts_E, gate_up, down, layer), (rows_PD, counts_E, gate_up, down, layer)


def _blocks_backward(saved, said_PD):
    rows_PD, counts_E, gate_up, down, layer = saved
    size = _block_size(len(rows_PD), len(counts_E))
    blocks, expert_and_start = _plan(counts_E, size, layer)
    ends_E = jnp.cumsum(counts_E)
    padded_PD, said_PD = (jnp.pad(a, [(0, size), (0, 0)]) for a in (rows_PD, said_PD))

    def one(i, gradients):
        rows, gate_up_NFD, down_NDF = gradients
        expert, start = expert_and_start(i)
        own_R1 = (start + jnp.arange(size) < ends_E[expert - layer * len(counts_E)])[:, None]
        said_RD = jnp.where(own_R1, lax.dynamic_slice_in_dim(said_PD, start, size), 0)
        _, pull = jax.vjp(_expert, lax.dynamic_slice_in_dim(padded_PD, start, size), *_read(gate_up, down, expert))
        rows_RD, gate_up_FD, down_DF = pull(said_RD)
        return (
            lax.dynamic_update_slice_in_dim(rows, rows_RD, start, 0),
            gate_up_NFD.at[expert].add(gate_up_FD),
            down_NDF.at[expert].add(down_DF),
        )

    start = tuple(jnp.zeros(s, jnp.float32) for s in (padded_PD.shape, _all(gate_up).shape, _all(down).shape))
    rows, gate_up_NFD, down_NDF = lax.fori_loop(0, blocks, one, start)
    rows = jnp.where(jnp.arange(len(rows_PD))[:, None] < ends_E[-1], rows[: len(rows_PD)], 0)
    return (
        rows.astype(rows_PD.dtype),
        None,
        gate_up_NFD.reshape(gate_up.shape).astype(gate_up.dtype),
        down_NDF.reshape(down.shape).astype(down.dtype),
        None,
    )


_blocks.defvjp(_blocks_forward, _blocks_backward)


def _block_size(rows: int, experts: int) -> int:
    # Reading an expert costs as much as multiplying some 50 rows, so most experts should need one block only: half as
    # much again as the even share, in steps of 16.
    return min(256, -(-3 * rows // (2 * experts * 16)) * 16)


def _plan(counts_E, size, layer):
    """How many blocks there are, and from the number of a block to its expert, of all layers, and its first row."""
    blocks_E = -(-counts_E // size)
    last_E = jnp.cumsum(blocks_E)

    def expert_and_start(i):
        expert = jnp.searchsorted(last_E, i, side="right").astype(jnp.int32)
        start = jnp.cumsum(counts_E)[expert] - counts_E[expert]
        return layer * len(counts_E) + expert, start + (i - last_E[expert] + blocks_E[expert]) * size

    return last_E[-1], expert_and_start


def _expert(x_RD, gate_up_FD, down_DF) -> jax.Array:
    h_RF = _product(x_RD, gate_up_FD)
    return _product(_gated(h_RF).astype(x_RD.dtype), down_DF)


def _product(a_RI, b_OI) -> jax.Array:
    return lax.dot_general(a_RI, b_OI, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def _all(stack) -> jax.Array:
    """Experts counted over all layers."""
    return stack.reshape(-1, *stack.shape[-2:])


def _read(gate_up, down, expert) -> tuple[jax.Array, jax.Array]:
    return member((_all(gate_up), _all(down)), expert)
