"""Attention within rows: every token of a row to every valid token of the same row."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from encoders.nn.mesh import apart
from encoders.nn.platform import platform
from encoders.ops.attention.blocks import attend_in_blocks
from encoders.ops.attention.chunks import attend_in_chunks

_AXES = ("batch", None, "heads", None)

Implementation = Literal["chunks", "blocks"]
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {"chunks": attend_in_chunks, "blocks": attend_in_blocks}


def attend(
    q: Float[Array, "rows length heads width"],
    k: Float[Array, "rows length heads width"],
    v: Float[Array, "rows length heads width"],
    lengths: Int32[Array, "rows"],
    *,
    implementation: Implementation | None = None,
) -> Float[Array, "rows length heads width"]:
    """Softmax attention with scale 1 / sqrt(width) and the softmax in float32, in the form that suits the platform.

    What lies in pads, NaN included, changes no valid token; pads themselves come out as zeros.
    """
    valid = (jnp.arange(q.shape[1]) < lengths[:, None])[..., None, None]
    # A masked score has weight 0, but 0 * NaN is NaN.
    q, k, v = (jnp.where(valid, a, 0) for a in (q, k, v))
    form = IMPLEMENTATIONS[implementation or ("chunks" if platform() == "cpu" else "blocks")]
    out = apart(form, (q, k, v, lengths), (_AXES, _AXES, _AXES, ("batch",)), _AXES)
    return jnp.where(valid, out, 0).astype(q.dtype)
