"""The loss of a batch, from pixels and mel frames to next tokens: one differentiable function of all weights."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from omni.decoder.media_rows import MediaRows
from omni.training.batch import Batch

# Scores that are held at once, 0.3 GiB in float32: those of 551 tokens at a vocabulary of 152,064.
_SCORES_AT_ONCE = 80 << 20


def loss_and_counts(parts: Any, batch: Batch) -> tuple[Float[Array, ""], Int32[Array, ""]]:
    """The mean cross entropy of the learned tokens, and how many there are.

    Args:
        parts: the modules of a model, as `Model.parts` holds them: `.text`, and `.vision` and `.audio` where the batch
            has such media.
        batch: what `collate` made, with at least one learned token.

    Returns:
        The loss in nats a token, and the number of tokens.
    """
    batch = jax.tree.map(jnp.asarray, batch)
    hidden = hidden_states(parts, batch)
    wanted, counted = jnp.asarray(batch.token_ids[:, 1:]), jnp.asarray(batch.learned[:, 1:])
    total = _cross_entropy(parts.text, hidden[:, :-1], wanted, counted)
    count = counted.sum().astype(jnp.int32)
    return total / jnp.maximum(count, 1), count


def hidden_states(parts: Any, batch: Batch) -> Float[Array, "batch tokens width"]:
    """The decoder's hidden states after the final norm, media in their places.

    Args:
        parts: the modules of a model, as `Model.parts` holds them.
        batch: its arrays on the device.
    """
    x = parts.text.embed(batch.token_ids)
    table, levels = _table(parts, batch, x.shape[-1])
    if table is None:
        return parts.text(x, batch.position_ids, None, batch.counts)[0]
    media = MediaRows(table, levels, batch.sources)  # pyright: ignore[reportArgumentType]
    return parts.text(media.place(x), batch.position_ids, None, batch.counts, media)[0]


def _table(parts: Any, batch: Batch, width: int) -> tuple[Array | None, Array | None]:
    """The rows of all media, [rows, width], and the deepstack levels of the first of them, [levels, rows, width]."""
    if batch.encoded is not None:
        return jnp.asarray(batch.encoded.tokens), batch.encoded.deepstack  # pyright: ignore[reportReturnType]
    seen = [parts.vision(*rows) for rows in batch.vision]
    heard = [parts.audio(*rows) for rows in batch.audio]
    tokens = [found.tokens.reshape(-1, width) for found in seen] + [found.reshape(-1, width) for found in heard]
    if not tokens:
        return None, None
    levels = [found.deepstack.reshape(len(found.deepstack), -1, width) for found in seen if found.deepstack is not None]
    return jnp.concatenate(tokens), jnp.concatenate(levels, axis=1) if levels else None


def _cross_entropy(
    text: Any,
    hidden: Float[Array, "batch tokens width"],
    wanted: Int32[Array, "batch tokens"],
    counted: Bool[Array, "batch tokens"],
) -> Float[Array, ""]:
    """The sum over counted tokens; scores are made anew for the gradient, as those of all tokens may not fit."""
    rows, width = wanted.size, hidden.shape[-1]
    size = min(rows, _SCORES_AT_ONCE // text.config.vocab_size)
    pad = -rows % size

    def cut(a: Array) -> Array:
        flat = a.reshape(rows, -1)
        return jnp.pad(flat, [(0, pad), (0, 0)]).reshape(-1, size, flat.shape[1])

    @jax.checkpoint
    def score(total: Array, piece: tuple[Array, Array, Array]) -> tuple[Array, None]:
        hidden_RD, wanted_R1, counted_R1 = piece
        log_probabilities = jax.nn.log_softmax(text.logits(hidden_RD).astype(jnp.float32))
        found_R1 = jnp.take_along_axis(log_probabilities, wanted_R1, axis=-1)
        return total - jnp.where(counted_R1, found_R1, 0).sum(), None

    pieces = (cut(hidden.reshape(rows, width)), cut(wanted), cut(counted))
    return lax.scan(score, jnp.float32(0), pieces)[0]
