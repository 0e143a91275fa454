"""What is done to scores before a token is chosen: bias, penalties for repetition, and tokens that may not be chosen.

In the order of the reference's processors: bias, then penalties, then bans.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, UInt16, UInt32

from omni.options import BIASES, Adjustments

_IN_PROMPT = 1 << 15
_MOST_COUNTED = _IN_PROMPT - 1


class AdjustmentArrays(NamedTuple):
    """The adjustments of a batch, a value a row."""

    any: Bool[Array, "batch"]
    repetition: Float32[Array, "batch"]
    presence: Float32[Array, "batch"]
    frequency: Float32[Array, "batch"]
    biased: Int32[Array, "batch biases"]
    bias: Float32[Array, "batch biases"]
    allowed: UInt32[Array, "batch words"]

    @classmethod
    def of(cls, rows: Sequence[Adjustments], batch: int, vocabulary: int) -> "AdjustmentArrays":
        """Put adjustments side by side; rows beyond them change nothing."""
        every = [*rows, *[Adjustments()] * (batch - len(rows))]
        biased, bias = np.full((batch, BIASES), vocabulary, np.int32), np.zeros((batch, BIASES), np.float32)
        for b, row in enumerate(rows):
            biased[b, : len(row.logit_bias)] = list(row.logit_bias)
            bias[b, : len(row.logit_bias)] = list(row.logit_bias.values())

        def column(values: Any) -> Array:
            return jnp.asarray(np.asarray(list(values)))

        return cls(
            column(row.any for row in every),
            column(np.float32(row.repetition_penalty) for row in every),
            column(np.float32(row.presence_penalty) for row in every),
            column(np.float32(row.frequency_penalty) for row in every),
            jnp.asarray(biased),
            jnp.asarray(bias),
            jnp.asarray(np.stack([row.allowed(vocabulary) for row in every])),
        )

    def masked(
        self, rows: Sequence[Adjustments], masks: Sequence[UInt32[np.ndarray, "words"] | None], vocabulary: int
    ) -> "AdjustmentArrays":
        """With masks in the place of what rows allow by themselves."""
        batch = self.any.shape[0]
        every = [*rows, *[Adjustments()] * (batch - len(rows))]
        masks = [*masks, *[None] * (batch - len(masks))]
        pairs = list(zip(every, masks, strict=True))
        return self._replace(
            any=jnp.asarray(np.asarray([row.any or mask is not None for row, mask in pairs])),
            allowed=jnp.asarray(np.stack([row.allowed(vocabulary) if mask is None else mask for row, mask in pairs])),
        )


def history(prompt: Int32[np.ndarray, "tokens"], reply: Sequence[int], vocabulary: int) -> UInt16[np.ndarray, "_"]:
    """For each token whether a prompt holds it, in the highest bit, and how often the reply does."""
    counts = np.minimum(np.bincount(np.asarray(reply, np.int64), minlength=vocabulary), _MOST_COUNTED)
    found = counts[:vocabulary].astype(np.uint16)
    found[prompt] |= np.uint16(_IN_PROMPT)
    return found


def count(
    tokens_before: UInt16[Array, "rows vocabulary"], places: Int32[Array, "batch"], tokens: Int32[Array, "batch"]
) -> UInt16[Array, "rows vocabulary"]:
    """One more of each row's token, up to what can be counted; places beyond the rows are no row's."""
    places = jnp.where(tokens < 0, tokens_before.shape[0], places)
    at = tokens_before.at[places, jnp.maximum(tokens, 0)]
    now = at.get(mode="clip")
    return at.set(jnp.where(now & _MOST_COUNTED < _MOST_COUNTED, now + 1, now), mode="drop")


def adjust(
    logits: Float[Array, "vocabulary"], tokens_before: UInt16[Array, "vocabulary"], how: AdjustmentArrays
) -> Float[Array, "vocabulary"]:
    """Change the scores of one row, for use in a loop over rows."""
    x = logits.at[how.biased].add(how.bias, mode="drop")
    written = (tokens_before & _MOST_COUNTED).astype(jnp.float32)
    scaled = jnp.where(x > 0, x / how.repetition, x * how.repetition)
    x = jnp.where(tokens_before > 0, scaled, x)
    x = x - how.presence * (written > 0) - how.frequency * written
    tokens = jnp.arange(len(x), dtype=jnp.uint32)
    allowed = (how.allowed[tokens // 32] >> (tokens % 32)) & 1
    return jnp.where(allowed == 1, x, -jnp.inf)
