"""Which implementation of attention runs."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Int32

from encoders.nn.mesh import apart
from encoders.nn.platform import platform
from omni.decoder.cache import HybridCache
from omni.decoder.ops.attention.blocks import attend_in_blocks
from omni.decoder.ops.attention.one_query import attend_one_query
from omni.decoder.ops.attention.whole import attend_whole

Implementation = Literal["one_query", "blocks", "whole"]
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "one_query": attend_one_query,
    "blocks": attend_in_blocks,
    "whole": attend_whole,
}
# Scores that are held at once on an accelerator; 1 GiB in float32.
_WHOLE_SCORES = 1 << 28


def attend(
    q: Float[jax.Array, "batch tokens heads width"],
    cache: HybridCache,
    layer: Int[jax.Array, ""] | int,
    q_slots: Int32[jax.Array, "batch tokens"],
    lengths: Int32[jax.Array, "batch"],
    *,
    fixed: bool = False,
    implementation: Implementation | None = None,
) -> Float[jax.Array, "batch tokens heads width"]:
    """Softmax attention of each query to the filled slots up to its own, in one of several forms.

    Softmax in float32, scale 1 / sqrt(H). What lies in free slots, NaN included, changes nothing.

    Args:
        q: rotated queries.
        cache: keys and values, those of the queries' own tokens included.
        layer: of the cache.
        q_slots: where each query stands in its row; pads stand beyond every slot.
        lengths: filled slots of each row.
        fixed: read free slots too, so that the amount of work does not depend on the data, as gradients need it; the
            cache must tell the span of its rows.
        implementation: which form; chosen by where programs run, and by the shapes, when None. "one_query" takes one
            query a row and no `fixed`, "whole" a cache that tells its span.
    """
    layer = jnp.asarray(layer, jnp.int32)

    def attend_heads(q: jax.Array, keys: jax.Array, values: jax.Array, layer: jax.Array, *rows: jax.Array) -> jax.Array:
        offsets, q_slots, lengths = rows
        own = HybridCache(keys, values, offsets, lengths, offsets, span=cache.span)
        form = IMPLEMENTATIONS[implementation or _choice(q.shape, cache.span, fixed)]
        return form(q, own, layer, q_slots, lengths, fixed)

    pool, heads, rows = (None, None, "heads", None), ("batch", None, "heads", None), ("batch",)
    return apart(
        attend_heads,
        (q, cache.keys, cache.values, layer, cache.offsets, q_slots, lengths),
        (heads, pool, pool, (), rows, ("batch", None), rows),
        heads,
    )


def _choice(shape: tuple[int, ...], span: int | None, fixed: bool) -> Implementation:
    if platform() == "cpu":
        return "one_query" if shape[1] == 1 and not fixed else "blocks"
    if span is None or math.prod(shape[:3]) * span > _WHOLE_SCORES:
        return "blocks"
    return "whole"
