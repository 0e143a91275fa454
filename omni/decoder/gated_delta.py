"""The gated delta rule (Yang et al., arXiv:2412.06464) in three equal forms.

Each head keeps a matrix S [H, U] that maps keys to values. A token lets it fade, and writes what the token's value
differs from what S already says of its key:

    S ← exp(g) S;  S ← S + k (β (v − kᵀ S));  out = qᵀ S

- `recurrent`: token after token, as written. For decode.
- `chunked`: a chunk of C tokens at a time. Inside a chunk the writes depend on each other through a unit lower
  triangular system (the WY form of DeltaNet, arXiv:2406.06484), which is solved; only S goes from chunk to chunk.
  Plain, and the yardstick of the next.
- `chunked_fast`: the same for prefill and training, with fewer and larger products.

All take queries and keys of fewer heads than values: each then serves the neighbouring N / K heads. With `counts`, rows
are padded on the right, and whatever pads hold changes neither the state nor the outputs of other tokens.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int32

_EPS = 1e-6  # added to the squared length of queries and keys, as in the reference
_LOWEST_LOG_GATE = -104.0  # exp of less is 0 in float32; keeps -inf out of sums and gradients
_DIAGONAL = 8  # size of the blocks that are inverted row by row, before they are merged by products


def recurrent(
    q: Float[jax.Array, "batch tokens key_heads key_width"],
    k: Float[jax.Array, "batch tokens key_heads key_width"],
    v: Float[jax.Array, "batch tokens heads value_width"],
    g: Float[jax.Array, "batch tokens heads"],
    beta: Float[jax.Array, "batch tokens heads"],
    initial_state: Float[jax.Array, "batch heads key_width value_width"] | None = None,
    *,
    counts: Int32[jax.Array, "batch"] | None = None,
    normalize_qk: bool = True,
) -> tuple[Float[jax.Array, "batch tokens heads value_width"], Float[jax.Array, "batch heads key_width value_width"]]:
    """One token after another, in float32.

    Args:
        q: queries; scaled here by 1 / sqrt(H).
        k: keys.
        v: values.
        g: logarithms of the gates, at most 0; -inf forgets everything.
        beta: how much of the difference is written, 0 to 1.
        initial_state: S of each head; zeros when None.
        counts: real tokens of each row; all when None.
        normalize_qk: whether queries and keys are first scaled to unit length.

    Returns:
        The outputs, in the dtype of `q`, and the state after the last real token, in float32.
    """
    ready = _shared_out(_ready(_inputs(q, k, v, g, beta, counts), normalize_qk))

    def step(S_BNHU: jax.Array, token: _Ready) -> tuple[jax.Array, jax.Array]:
        q_BNH, k_BNH, v_BNU, g_BN, beta_BN = token
        S_BNHU = S_BNHU * jnp.exp(g_BN)[..., None, None]
        said_BNU = (S_BNHU * k_BNH[..., None]).sum(-2)
        change_BNU = beta_BN[..., None] * (v_BNU - said_BNU)
        S_BNHU = S_BNHU + k_BNH[..., None] * change_BNU[..., None, :]
        return S_BNHU, (S_BNHU * q_BNH[..., None]).sum(-2)

    tokens = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), ready)
    S, out_TBNU = lax.scan(step, _begin(k, v, initial_state), tokens)
    return jnp.moveaxis(out_TBNU, 0, 1).astype(q.dtype), S


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
    dot = partial(_dot, dtype=jnp.float32)

    def step(S: jax.Array, chunk: _Inputs) -> tuple[jax.Array, jax.Array]:
        q, k, v, g, beta = _heads_first(_shared_out(_ready(chunk, normalize_qk)))
        faded = jnp.exp(jnp.cumsum(g, axis=-1))[..., None]
        D = _decays(g)
        beta = beta[..., None]
        L = jnp.tril(beta * dot("...ih,...jh->...ij", k, k) * D, -1)
        U = _solve(L, beta * v)
        W = _solve(L, beta * faded * k)
        change = U - dot("...ih,...hu->...iu", W, S)
        read = dot("...ih,...hu->...iu", q * faded, S)
        out = read + dot("...ij,...ju->...iu", dot("...ih,...jh->...ij", q, k) * D, change)
        left = D[..., -1, :, None]  # of each write at the end of the chunk
        return S * faded[..., -1:, :] + dot("...ih,...iu->...hu", k * left, change), jnp.swapaxes(out, -3, -2)

    chunks = _cut(_inputs(q, k, v, g, beta, counts), chunk_size)
    return _whole(*lax.scan(step, _begin_chunks(k, v, initial_state), chunks), q, v)


def chunked_fast(
    q: Float[jax.Array, "batch tokens key_heads key_width"],
    k: Float[jax.Array, "batch tokens key_heads key_width"],
    v: Float[jax.Array, "batch tokens heads value_width"],
    g: Float[jax.Array, "batch tokens heads"],
    beta: Float[jax.Array, "batch tokens heads"],
    initial_state: Float[jax.Array, "batch heads key_width value_width"] | None = None,
    *,
    counts: Int32[jax.Array, "batch"] | None = None,
    chunk_size: int | None = None,
    normalize_qk: bool = True,
    dtype: Any = jnp.float32,
) -> tuple[Float[jax.Array, "batch tokens heads value_width"], Float[jax.Array, "batch heads key_width value_width"]]:
    """Keys and queries stacked into the same products, and the triangular inverse made of products.

    Arguments and results as those of `recurrent`, and:

    Args:
        chunk_size: C, a power of two; 32 on a CPU and 64 elsewhere when None.
        dtype: of the operands of products; they are summed, and S and the inverse are kept, in float32.

    Raises:
        ValueError: the chunk size is not a power of two.
    """
    on_cpu = jax.default_backend() == "cpu"
    if chunk_size is None:
        chunk_size = 32 if on_cpu else 64
    if chunk_size < 1 or chunk_size & (chunk_size - 1):
        raise ValueError(f"chunk_size={chunk_size} is not a power of two")
    chunks = _cut(_inputs(q, k, v, g, beta, counts), min(chunk_size, 1 << (q.shape[1] - 1).bit_length()))

    def within(chunk: _Inputs) -> _Solved:
        return _within(_heads_first(_ready(chunk, normalize_qk)), dtype)

    def across(S: jax.Array, solved: _Solved) -> tuple[jax.Array, jax.Array]:
        S, out = _across(S, solved, dtype)
        return S, jnp.swapaxes(out, -3, -2)

    S = _begin_chunks(k, v, initial_state)
    if on_cpu:
        # A chunk from end to end while it is in the cache.
        S, out = lax.scan(lambda S, chunk: across(S, within(chunk)), S, chunks)
    else:
        # Few large products for what does not depend on S; the loop keeps three.
        S, out = lax.scan(across, S, within(chunks))
    return _whole(S, out, q, v)


class _Inputs(NamedTuple):
    """What the rule is given."""

    q: jax.Array  # [..., K, H]
    k: jax.Array  # [..., K, H]
    v: jax.Array  # [..., N, U]
    g: jax.Array  # [..., N]
    beta: jax.Array  # [..., N]
    real: jax.Array | None  # [...]: False for pads


class _Ready(NamedTuple):
    """What the rule reads, in float32; pads are zeros, which write nothing."""

    q: jax.Array  # [..., K, H]
    k: jax.Array  # [..., K, H]
    v: jax.Array  # [..., N, U]
    g: jax.Array  # [..., N]
    beta: jax.Array  # [..., N]


class _Solved(NamedTuple):
    """A chunk made ready to meet the state. C tokens; X is keys then queries, 2 C."""

    kq: jax.Array  # [..., N, X, H]
    solve: jax.Array  # [..., N, X, C]: (I + L)⁻¹, then what the outputs take of the writes
    v: jax.Array  # [..., N, C, U]
    beta: jax.Array  # [..., N, C]
    faded: jax.Array  # [..., N, C]: what each token finds of the state that the chunk began with
    left: jax.Array  # [..., N, C]: what the end of the chunk finds of each write


def _within(chunk: _Ready, dtype: Any) -> _Solved:
    """All that does not depend on the state, for any leading axes."""
    q, k, v, g, beta = chunk
    heads, C = v.shape[-3:-1]
    kq = jnp.concatenate([k, q], axis=-2)
    scores = _repeated(_dot("...xh,...jh->...xj", kq, k, dtype), heads, -3)
    D = _decays(g)
    inverse = _inverse(jnp.tril(beta[..., None] * scores[..., :C, :] * D, -1))
    outputs = _dot("...ij,...jk->...ik", scores[..., C:, :] * D, inverse, dtype)
    solve = jnp.concatenate([inverse, outputs], axis=-2)
    return _Solved(_repeated(kq, heads, -3), solve, v, beta, jnp.exp(jnp.cumsum(g, axis=-1)), D[..., -1, :])


def _across(S: jax.Array, x: _Solved, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """The state after a chunk, and the chunk's outputs."""
    C = x.v.shape[-2]
    faded = x.faded[..., None]
    said = _dot("...xh,...hu->...xu", x.kq, S, dtype)
    wanted = x.beta[..., None] * (x.v - faded * said[..., :C, :])
    change = _dot("...xj,...ju->...xu", x.solve, wanted, dtype)
    writes = _dot("...ih,...iu->...hu", x.kq[..., :C, :], x.left[..., None] * change[..., :C, :], dtype)
    return faded[..., -1:, :] * S + writes, faded * said[..., C:, :] + change[..., C:, :]


def _begin(k: jax.Array, v: jax.Array, state: jax.Array | None) -> jax.Array:
    shape = (k.shape[0], v.shape[2], k.shape[3], v.shape[3])
    return jnp.zeros(shape, jnp.float32) if state is None else state.astype(jnp.float32)


def _begin_chunks(k: jax.Array, v: jax.Array, state: jax.Array | None) -> jax.Array:
    """The state that chunks begin with: without the axis of a batch of one, as `_cut`."""
    S = _begin(k, v, state)
    return S[0] if len(S) == 1 else S


def _repeated(a: jax.Array, heads: int, axis: int) -> jax.Array:
    """One of each value head, from one of each key head."""
    return jnp.repeat(a, heads // a.shape[axis], axis)


def _shared_out(x: _Ready) -> _Ready:
    heads = x.v.shape[-2]
    return x._replace(q=_repeated(x.q, heads, -2), k=_repeated(x.k, heads, -2))


def _inputs(q, k, v, g, beta, counts: jax.Array | None) -> _Inputs:
    return _Inputs(q, k, v, g, beta, None if counts is None else jnp.arange(k.shape[1]) < counts[:, None])


def _ready(x: _Inputs, normalize_qk: bool) -> _Ready:
    """Zeros for pads, unit lengths, the scale of the queries, gates that have a logarithm."""
    real = x.real
    q, k, v, g, beta = (a.astype(jnp.float32) for a in x[:5])
    if real is not None:
        q, k, v, g, beta = (
            jnp.where(real.reshape(*real.shape, *[1] * (a.ndim - real.ndim)), a, 0) for a in (q, k, v, g, beta)
        )
    if normalize_qk:
        q, k = (a * lax.rsqrt(jnp.sum(a * a, axis=-1, keepdims=True) + _EPS) for a in (q, k))
    return _Ready(q * k.shape[-1] ** -0.5, k, v, jnp.maximum(g, _LOWEST_LOG_GATE), beta)


def _cut(x: _Inputs, C: int) -> _Inputs:
    """[B, T, ...] to [chunks, B, C, ...]; the tail of the last chunk is zeros, as pads are.

    A batch of one has no axis, [chunks, C, ...]: XLA on the CPU would copy everything to move an axis of size 1.
    """

    def cut(a: jax.Array) -> jax.Array:
        B, T, *rest = a.shape
        a = jnp.pad(a, [(0, 0), (0, -T % C)] + [(0, 0)] * len(rest))
        return a[0].reshape(-1, C, *rest) if B == 1 else jnp.moveaxis(a.reshape(B, -1, C, *rest), 1, 0)

    return jax.tree.map(cut, x)


def _heads_first(x: _Ready) -> _Ready:
    """[..., C, N, ...] to [..., N, C, ...]."""
    q, k, v = (jnp.swapaxes(a, -3, -2) for a in x[:3])
    return _Ready(q, k, v, *(jnp.swapaxes(a, -2, -1) for a in x[3:]))


def _whole(S: jax.Array, out: jax.Array, q: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The outputs of chunks as [B, T, N, U], without the tail, in the dtype of `q`; the state with its axis again."""
    B, T, N, U = v.shape
    out = out[None] if B == 1 else jnp.moveaxis(out, 0, 1)
    return out.reshape(B, -1, N, U)[:, :T].astype(q.dtype), S[None] if B == 1 else S


def _decays(g: Float[jax.Array, "*batch C"]) -> Float[jax.Array, "*batch C C"]:
    """exp(g[j + 1] + ... + g[i]) at [i, j]: what token i finds of the write of token j; 0 above the diagonal.

    Differences of cumulated sums would do in exact arithmetic. In float32 a gate near 0 would take the digits of its
    neighbours near 1, so only what lies between is summed; and no sum exceeds 0, so exp and its gradient stay finite.
    """
    C = g.shape[-1]
    lower = np.tril(np.ones((C, C), np.float32))
    between = _dot("im,...mj->...ij", jnp.asarray(lower), g[..., :, None] * np.tril(lower, -1), jnp.float32)
    return jnp.exp(between) * lower


@jax.custom_jvp
def _inverse(L: Float[jax.Array, "*batch C C"]) -> Float[jax.Array, "*batch C C"]:
    """(I + L)⁻¹ of a strictly lower triangular L, C a power of two: blocks on the diagonal, then pairs of blocks.

    The product (I − L)(I + L²)(I + L⁴)... would need no blocks, but for keys that are alike its powers grow to 10¹⁷
    before they cancel. Inverses of blocks stay as small as the inverse itself.
    """
    C = L.shape[-1]
    b = min(C, _DIAGONAL)
    rows = [jnp.broadcast_to(jnp.eye(1, b), (*L.shape[:-2], C // b, b))]
    diagonal = _blocks(L, b, 0, b)
    for i in range(1, b):
        earlier = jnp.stack(rows, axis=-2)
        rows.append(jnp.eye(b)[i] - (diagonal[..., i, :i, None] * earlier).sum(-2))
    inverse = jnp.stack(rows, axis=-2)
    while b < C:
        pairs = inverse.reshape(*L.shape[:-2], C // (2 * b), 2, b, b)
        upper, lower = pairs[..., 0, :, :], pairs[..., 1, :, :]
        below = _dot("...ij,...jk->...ik", lower, _blocks(L, 2 * b, b, b), jnp.float32)
        below = -_dot("...ij,...jk->...ik", below, upper, jnp.float32)
        right = jnp.concatenate([jnp.zeros_like(upper), lower], axis=-2)
        inverse = jnp.concatenate([jnp.concatenate([upper, below], axis=-2), right], axis=-1)
        b *= 2
    return inverse[..., 0, :, :]


@_inverse.defjvp
def _inverse_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """−(I + L)⁻¹ dL (I + L)⁻¹: two products, not the way back through rows and blocks."""
    inverse = _inverse(*primals)
    change = _dot("...ij,...jk->...ik", inverse, tangents[0], jnp.float32)
    return inverse, -_dot("...ij,...jk->...ik", change, inverse, jnp.float32)


def _blocks(L: jax.Array, step: int, down: int, size: int) -> jax.Array:
    """Blocks of that size every `step` along the diagonal, `down` rows below it: [..., blocks, size, size]."""
    starts = range(0, L.shape[-1], step)
    return jnp.stack([L[..., at + down : at + down + size, at : at + size] for at in starts], axis=-3)


def _solve(L: jax.Array, right: jax.Array) -> jax.Array:
    """(I + L)⁻¹ right, row after row.

    LAPACK, behind `jax.scipy.linalg.solve_triangular`, shares a batch among the CPU's threads and was seen to wait for
    them for ever.
    """
    right = jnp.broadcast_to(right, (*L.shape[:-1], right.shape[-1]))

    def row(i, x):
        above = _dot("...j,...ju->...u", L[..., i, :], x, jnp.float32)  # L has nothing from column i on
        return x.at[..., i, :].add(-above)

    return lax.fori_loop(0, L.shape[-1], row, right)


def _dot(form: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """A product of operands of that dtype, summed in float32; accelerators would round float32 by themselves."""
    precision = lax.Precision.HIGHEST if dtype == jnp.float32 else None
    return jnp.einsum(form, a.astype(dtype), b.astype(dtype), precision=precision, preferred_element_type=jnp.float32)
