"""Media in a decoder's input: a table of rows, and for each token which row takes its place."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32


class MediaRows(NamedTuple):
    """What towers made of the media of a batch, and where it goes.

    Attributes:
        tokens: rows of all media.
        levels: what deepstack adds to the hidden state after the first layers, for the first rows of the table; rows
            after those, of audio, have none. None without deepstack.
        sources: for each token its row of the table and 1; 0 for text.
    """

    tokens: Float[Array, "rows width"]
    levels: Float[Array, "levels seen width"] | None
    sources: Int32[Array, "batch tokens"]

    def place(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """Puts rows in the places of token embeddings."""
        rows = self.tokens.astype(x.dtype)[jnp.maximum(self.sources - 1, 0)]
        return jnp.where(self.sources[..., None] > 0, rows, x)

    def add_level(
        self, x: Float[Array, "batch tokens width"], level: Int[Array, ""] | int
    ) -> Float[Array, "batch tokens width"]:
        """Adds deepstack's rows of a level to the hidden state; nothing beyond the last level."""
        levels = self.levels
        if levels is None:
            return x
        depth, seen, _ = levels.shape

        def add(x: Array) -> Array:
            rows = levels[jnp.minimum(level, depth - 1)].astype(x.dtype)[jnp.clip(self.sources - 1, 0, seen - 1)]
            has = (self.sources > 0) & (self.sources <= seen)
            return x + jnp.where(has[..., None], rows, 0)

        return jax.lax.cond(jnp.asarray(level) < depth, add, lambda x: x, x)
