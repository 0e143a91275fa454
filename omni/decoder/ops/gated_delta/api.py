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

from collections.abc import Callable
from typing import Literal

import jax
from jaxtyping import Float, Int32

from encoders.nn.mesh import apart
from omni.decoder.ops.gated_delta.chunked import chunked
from omni.decoder.ops.gated_delta.chunked_fast import chunked_fast
from omni.decoder.ops.gated_delta.recurrent import recurrent

Implementation = Literal["recurrent", "chunked", "chunked_fast"]
IMPLEMENTATIONS: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
    "recurrent": recurrent,
    "chunked": chunked,
    "chunked_fast": chunked_fast,
}


_HEADS, _STATE = ("batch", None, "heads", None), ("batch", "heads", None, None)
_OPTIONAL = {"initial_state": _STATE, "counts": ("batch",)}


def gated_delta_rule(
    q: Float[jax.Array, "batch tokens key_heads key_width"],
    k: Float[jax.Array, "batch tokens key_heads key_width"],
    v: Float[jax.Array, "batch tokens heads value_width"],
    g: Float[jax.Array, "batch tokens heads"],
    beta: Float[jax.Array, "batch tokens heads"],
    initial_state: Float[jax.Array, "batch heads key_width value_width"] | None = None,
    *,
    counts: Int32[jax.Array, "batch"] | None = None,
    normalize_qk: bool = True,
    implementation: Implementation | None = None,
) -> tuple[Float[jax.Array, "batch tokens heads value_width"], Float[jax.Array, "batch heads key_width value_width"]]:
    """Return the outputs, in the dtype of `q`, and the state after the last real token, in float32.

    Args:
        q: queries; scaled here by 1 / sqrt(H).
        k: keys.
        v: values.
        g: logarithms of the gates, at most 0; -inf forgets everything.
        beta: how much of the difference is written, 0 to 1.
        initial_state: S of each head; zeros when None.
        counts: real tokens of each row; all when None.
        normalize_qk: whether queries and keys are first scaled to unit length.
        implementation: which form; chosen by the number of tokens when None.
    """
    form = IMPLEMENTATIONS[implementation or ("recurrent" if q.shape[1] == 1 else "chunked_fast")]
    given = {"initial_state": initial_state, "counts": counts}
    given = {name: array for name, array in given.items() if array is not None}

    def rule(q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, beta: jax.Array, *rest: jax.Array):
        return form(q, k, v, g, beta, normalize_qk=normalize_qk, **dict(zip(given, rest, strict=True)))

    names = [_HEADS, _HEADS, _HEADS, _HEADS[:3], _HEADS[:3], *(_OPTIONAL[name] for name in given)]
    return apart(rule, (q, k, v, g, beta, *given.values()), names, (_HEADS, _STATE))
