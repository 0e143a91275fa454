"""How alike media are: the measure that serves, and which one it was."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64

from omni.errors import InputError, is_whole, shown
from omni.media.embedding import Embedding

if TYPE_CHECKING:
    Measure = Literal["auto", "cosine", "centred cosine"]
else:
    Measure = Any  # anything else is refused with a code

# With fewer, what they have in common is most of what they are.
_LEAST_TO_CENTRE = 3


class Similarity(NamedTuple):
    """How alike two lists are, each with each.

    Attributes:
        values: from -1 to 1; a row for each of the first list, a column for each of the second.
        measure: "cosine", or "centred cosine": of what is left of vectors without their mean.
    """

    values: Float32[np.ndarray, "rows columns"]
    measure: str

    def nearest(self, count: int = 1) -> Int64[np.ndarray, "rows count"]:
        """Return which columns are most like each row, the most alike first.

        Args:
            count: how many; all where there are fewer.

        Raises:
            InputError: `bad_option`, the count is no whole number of 1 or more.
        """
        if not is_whole(count) or count < 1:
            raise InputError("bad_option", f"count must be a whole number of 1 or more, got {shown(count)}")
        return np.argsort(-self.values, axis=1, kind="stable")[:, :count].astype(np.int64)


def similarity(
    items: Sequence[Embedding] | Float[np.ndarray, "rows width"],
    others: Sequence[Embedding] | Float[np.ndarray, "columns _"] | None = None,
    *,
    measure: Measure = "auto",
) -> Similarity:
    """Compare embeddings, or vectors, of one model.

    Mean tokens of a tower share a large part, which says nothing of which media are alike: "auto" takes the mean of all
    away where embeddings are compared and there are at least three of them. Vectors, such as those of `Model.embed`,
    were made to be compared as they are.

    Args:
        items: what `Model.encode` returned of a list, compared by their pooled tokens; or vectors, one a row.
        others: what they are compared with; with one another when None.
        measure: "cosine", "centred cosine", or "auto".

    Returns:
        The cosines, and by which measure.

    Raises:
        InputError: `bad_option`, another measure; `bad_embedding`, nothing to compare, vectors of different widths, or
            ones that are not finite.
    """
    rows, are_pooled = _vectors(items)
    columns, others_are_pooled = (rows, are_pooled) if others is None else _vectors(others)
    if rows.shape[1] != columns.shape[1]:
        message = f"vectors of width {rows.shape[1]} and {columns.shape[1]} cannot be compared"
        raise InputError("bad_embedding", message)
    every = rows if others is None else np.concatenate([rows, columns])
    if measure == "auto":
        centred = are_pooled and others_are_pooled and len(every) >= _LEAST_TO_CENTRE
        measure = "centred cosine" if centred else "cosine"
    if measure not in ("cosine", "centred cosine"):
        raise InputError("bad_option", f"measure must be auto, cosine or centred cosine, got {shown(measure)}")
    if measure == "centred cosine":
        rows, columns = rows - every.mean(axis=0), columns - every.mean(axis=0)
    values = _directions(rows) @ _directions(columns).T
    return Similarity(np.clip(values, -1, 1).astype(np.float32), measure)


def _vectors(items: Any) -> tuple[np.ndarray, bool]:
    """Vectors in float64, one a row, and whether they are means of tokens."""
    are_pooled = isinstance(items, list | tuple) and all(isinstance(item, Embedding) for item in items)
    if not len(items):
        raise InputError("bad_embedding", "there is nothing to compare")
    vectors = [item.pooled() for item in items] if are_pooled else items
    try:
        found = np.stack([np.asarray(vector, np.float64) for vector in vectors])
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise InputError("bad_embedding", "compare embeddings, or vectors of one width, finite and one a row")
    return found, are_pooled


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
