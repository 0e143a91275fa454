"""The gated delta rule a chunk at a time, with fewer and larger products."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int32

from encoders.nn.platform import platform
from omni.decoder.ops.gated_delta.parts import (
    Inputs,
    Ready,
    begin_chunks,
    cut_into_chunks,
    decays,
    dot,
    heads_first,
    inputs_of,
    ready,
    repeated,
    whole,
)

_DIAGONAL = 8  # size of the blocks that are inverted row by row, before they are merged by products


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
    on_cpu = platform() == "cpu"
    if chunk_size is None:
        chunk_size = 32 if on_cpu else 64
    if chunk_size < 1 or chunk_size & (chunk_size - 1):
        raise ValueError(f"chunk_size={chunk_size} is not a power of two")
    chunks = cut_into_chunks(inputs_of(q, k, v, g, beta, counts), min(chunk_size, 1 << (q.shape[1] - 1).bit_length()))

    def within(chunk: Inputs) -> _Solved:
        return _within(heads_first(ready(chunk, normalize_qk)), dtype)

    def across(S: jax.Array, solved: _Solved) -> tuple[jax.Array, jax.Array]:
        S, out = _across(S, solved, dtype)
        return S, jnp.swapaxes(out, -3, -2)

    S = begin_chunks(k, v, initial_state)
    if on_cpu:
        # A chunk from end to end while it is in the cache.
        S, out = lax.scan(lambda S, chunk: across(S, within(chunk)), S, chunks)
    else:
        # Few large products for what does not depend on S; the loop keeps three.
        S, out = lax.scan(across, S, within(chunks))
    return whole(S, out, q, v)


class _Solved(NamedTuple):
    """A chunk made ready to meet the state. C tokens; X is keys then queries, 2 C."""

    kq: jax.Array  # [..., N, X, H]
    solve: jax.Array  # [..., N, X, C]: (I + L)⁻¹, then what the outputs take of the writes
    v: jax.Array  # [..., N, C, U]
    beta: jax.Array  # [..., N, C]
    faded: jax.Array  # [..., N, C]: what each token finds of the state that the chunk began with
    left: jax.Array  # [..., N, C]: what the end of the chunk finds of each write


def _within(chunk: Ready, dtype: Any) -> _Solved:
    """All that does not depend on the state, for any leading axes."""
    q, k, v, g, beta = chunk
    heads, C = v.shape[-3:-1]
    kq = jnp.concatenate([k, q], axis=-2)
    scores = repeated(dot("...xh,...jh->...xj", kq, k, dtype), heads, -3)
    D = decays(g)
    inverse = _inverse(jnp.tril(beta[..., None] * scores[..., :C, :] * D, -1))
    outputs = dot("...ij,...jk->...ik", scores[..., C:, :] * D, inverse, dtype)
    solve = jnp.concatenate([inverse, outputs], axis=-2)
    return _Solved(repeated(kq, heads, -3), solve, v, beta, jnp.exp(jnp.cumsum(g, axis=-1)), D[..., -1, :])


def _across(S: jax.Array, x: _Solved, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """The state after a chunk, and the chunk's outputs."""
    C = x.v.shape[-2]
    faded = x.faded[..., None]
    said = dot("...xh,...hu->...xu", x.kq, S, dtype)
    wanted = x.beta[..., None] * (x.v - faded * said[..., :C, :])
    change = dot("...xj,...ju->...xu", x.solve, wanted, dtype)
    writes = dot("...ih,...iu->...hu", x.kq[..., :C, :], x.left[..., None] * change[..., :C, :], dtype)
    return faded[..., -1:, :] * S + writes, faded * said[..., C:, :] + change[..., C:, :]


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
        below = dot("...ij,...jk->...ik", lower, _blocks(L, 2 * b, b, b), jnp.float32)
        below = -dot("...ij,...jk->...ik", below, upper, jnp.float32)
        right = jnp.concatenate([jnp.zeros_like(upper), lower], axis=-2)
        inverse = jnp.concatenate([jnp.concatenate([upper, below], axis=-2), right], axis=-1)
        b *= 2
    return inverse[..., 0, :, :]


@_inverse.defjvp
def _inverse_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """−(I + L)⁻¹ dL (I + L)⁻¹: two products, not the way back through rows and blocks."""
    inverse = _inverse(*primals)
    change = dot("...ij,...jk->...ik", inverse, tangents[0], jnp.float32)
    return inverse, -dot("...ij,...jk->...ik", change, inverse, jnp.float32)


def _blocks(L: jax.Array, step: int, down: int, size: int) -> jax.Array:
    """Blocks of that size every `step` along the diagonal, `down` rows below it: [..., blocks, size, size]."""
    starts = range(0, L.shape[-1], step)
    return jnp.stack([L[..., at + down : at + down + size, at : at + size] for at in starts], axis=-3)
