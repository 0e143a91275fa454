"""What the forms of the gated delta rule share: inputs made ready, chunks, decays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

_EPS = 1e-6  # added to the squared length of queries and keys, as in the reference
_LOWEST_LOG_GATE = -104.0  # exp of less is 0 in float32; keeps -inf out of sums and gradients


class Inputs(NamedTuple):
    """What the rule is given."""

    q: jax.Array  # [..., K, H]
    k: jax.Array  # [..., K, H]
    v: jax.Array  # [..., N, U]
    g: jax.Array  # [..., N]
    beta: jax.Array  # [..., N]
    real: jax.Array | None  # [...]: False for pads


class Ready(NamedTuple):
    """What the rule reads, in float32; pads are zeros, which write nothing."""

    q: jax.Array  # [..., K, H]
    k: jax.Array  # [..., K, H]
    v: jax.Array  # [..., N, U]
    g: jax.Array  # [..., N]
    beta: jax.Array  # [..., N]


def begin(k: jax.Array, v: jax.Array, state: jax.Array | None) -> jax.Array:
    shape = (k.shape[0], v.shape[2], k.shape[3], v.shape[3])
    return jnp.zeros(shape, jnp.float32) if state is None else state.astype(jnp.float32)


def begin_chunks(k: jax.Array, v: jax.Array, state: jax.Array | None) -> jax.Array:
    """The state that chunks begin with: without the axis of a batch of one, as `cut_into_chunks`."""
    S = begin(k, v, state)
    return S[0] if len(S) == 1 else S


def repeated(a: jax.Array, heads: int, axis: int) -> jax.Array:
    """One of each value head, from one of each key head."""
    return jnp.repeat(a, heads // a.shape[axis], axis)


def shared_out(x: Ready) -> Ready:
    heads = x.v.shape[-2]
    return x._replace(q=repeated(x.q, heads, -2), k=repeated(x.k, heads, -2))


def inputs_of(q, k, v, g, beta, counts: jax.Array | None) -> Inputs:
    return Inputs(q, k, v, g, beta, None if counts is None else jnp.arange(k.shape[1]) < counts[:, None])


def ready(x: Inputs, normalize_qk: bool) -> Ready:
    """Zeros for pads, unit lengths, the scale of the queries, gates that have a logarithm."""
    real = x.real
    q, k, v, g, beta = (a.astype(jnp.float32) for a in x[:5])
    if real is not None:
        q, k, v, g, beta = (
            jnp.where(real.reshape(*real.shape, *[1] * (a.ndim - real.ndim)), a, 0) for a in (q, k, v, g, beta)
        )
    if normalize_qk:
        q, k = (a * lax.rsqrt(jnp.sum(a * a, axis=-1, keepdims=True) + _EPS) for a in (q, k))
    return Ready(q * k.shape[-1] ** -0.5, k, v, jnp.maximum(g, _LOWEST_LOG_GATE), beta)


def cut_into_chunks(x: Inputs, C: int) -> Inputs:
    """[B, T, ...] to [chunks, B, C, ...]; the tail of the last chunk is zeros, as pads are.

    A batch of one has no axis, [chunks, C, ...]: XLA on the CPU would copy everything to move an axis of size 1.
    """

    def cut(a: jax.Array) -> jax.Array:
        B, T, *rest = a.shape
        a = jnp.pad(a, [(0, 0), (0, -T % C)] + [(0, 0)] * len(rest))
        return a[0].reshape(-1, C, *rest) if B == 1 else jnp.moveaxis(a.reshape(B, -1, C, *rest), 1, 0)

    return jax.tree.map(cut, x)


def heads_first(x: Ready) -> Ready:
    """[..., C, N, ...] to [..., N, C, ...]."""
    q, k, v = (jnp.swapaxes(a, -3, -2) for a in x[:3])
    return Ready(q, k, v, *(jnp.swapaxes(a, -2, -1) for a in x[3:]))


def whole(S: jax.Array, out: jax.Array, q: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The outputs of chunks as [B, T, N, U], without the tail, in the dtype of `q`; the state with its axis again."""
    B, T, N, U = v.shape
    out = out[None] if B == 1 else jnp.moveaxis(out, 0, 1)
    return out.reshape(B, -1, N, U)[:, :T].astype(q.dtype), S[None] if B == 1 else S


def decays(g: Float[jax.Array, "*batch C"]) -> Float[jax.Array, "*batch C C"]:
    """exp(g[j + 1] + ... + g[i]) at [i, j]: what token i finds of the write of token j; 0 above the diagonal.

    Differences of cumulated sums would do in exact arithmetic. In float32 a gate near 0 would take the digits of its
    neighbours near 1, so only what lies between is summed; and no sum exceeds 0, so exp and its gradient stay finite.
    """
    C = g.shape[-1]
    lower = np.tril(np.ones((C, C), np.float32))
    between = dot("im,...mj->...ij", jnp.asarray(lower), g[..., :, None] * np.tril(lower, -1), jnp.float32)
    return jnp.exp(between) * lower


def dot(form: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """A product of operands of that dtype, summed in float32; accelerators would round float32 by themselves."""
    precision = lax.Precision.HIGHEST if dtype == jnp.float32 else None
    return jnp.einsum(form, a.astype(dtype), b.astype(dtype), precision=precision, preferred_element_type=jnp.float32)
