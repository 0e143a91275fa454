"""The media of a chunk of prompts as a table of rows, and for each token which row takes its place."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from omni.decoder.media_rows import MediaRows
from omni.prompt.sequence import Prompt


def gather_media(
    prompts: Sequence[Prompt],
    starts: np.ndarray,
    counts: np.ndarray,
    length: int,
    batch: int,
    width: int,
    levels: int,
) -> MediaRows:
    """The media rows of a chunk of every prompt, as a table with a row for each token that there could be."""
    sources, tokens, deepstack = np.zeros((batch, length), np.int32), [], []
    seen = 0
    for b, (prompt, start, number) in enumerate(zip(prompts, starts, counts, strict=True)):
        for overlay in prompt.overlays:
            here = np.flatnonzero((overlay.indices >= start) & (overlay.indices < start + number))
            if not len(here):
                continue
            sources[b, overlay.indices[here] - start] = seen + 1 + np.arange(len(here))
            seen += len(here)
            tokens.append(overlay.tokens[here])
            rows = np.zeros((levels, len(here), width), np.float32)
            if overlay.deepstack is not None:
                rows[: overlay.levels] = overlay.deepstack[:, here]
            deepstack.append(rows)
    size = batch * length
    if not seen:
        return _no_media(size, width, levels)._replace(sources=jnp.asarray(sources))
    pad = size - seen
    table = np.concatenate([*tokens, np.zeros((pad, width), np.float32)]).astype(np.float32)
    if not levels:
        return MediaRows(jnp.asarray(table), None, jnp.asarray(sources))
    table_of_levels = np.concatenate([*deepstack, np.zeros((levels, pad, width), np.float32)], axis=1)
    return MediaRows(jnp.asarray(table), jnp.asarray(table_of_levels), jnp.asarray(sources))


_EMPTY: dict[tuple[int, int, int], MediaRows] = {}


def _no_media(size: int, width: int, levels: int) -> MediaRows:
    """A table that no token names stays on the device: prompts of text alone send nothing."""
    key = (size, width, levels)
    if key not in _EMPTY:
        deepstack = jnp.zeros((levels, size, width)) if levels else None
        _EMPTY[key] = MediaRows(jnp.zeros((size, width)), deepstack, jnp.zeros((0, 0), jnp.int32))
    return _EMPTY[key]
