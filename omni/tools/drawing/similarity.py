"""How alike several media are: the cosines of their pooled embeddings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from omni.media.embedding import Embedding
from processors.drawing.picture import Picture, shortened

# More names than this are not written, nor their cosines.
_MOST_NAMED, _MOST_WRITTEN = 40, 20


def similarity(embeddings: Sequence[Embedding]) -> Float[np.ndarray, "media media"]:
    """Return the cosine of each pooled embedding with each, as they are and not centred."""
    vectors = np.stack([embedding.pooled() for embedding in embeddings]).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.clip(vectors @ vectors.T, -1, 1)


def similarity_picture(embeddings: Sequence[Embedding], names: Sequence[str]) -> Picture:
    """A picture of how alike media are.

    Args:
        embeddings: of one model.
        names: one for each.
    """
    cosines = similarity(embeddings)
    caption = f"{len(names)} media: cosines of their pooled embeddings, not centred"
    return Picture("similarity", caption, lambda: draw_similarity(cosines, names))


def draw_similarity(cosines: Float[np.ndarray, "media media"], names: Sequence[str]) -> Figure:
    """Draw a matrix of cosines with the names of what is compared."""
    count = len(names)
    side = min(max(count * 0.6, 2.4), 10)
    named = count <= _MOST_NAMED
    labels = [shortened(name, 28) for name in names] if named else []
    # Names stand on the left and, at a slant, below.
    margin = max(map(len, labels), default=0) * 0.075
    figure = Figure(figsize=(max(side + margin + 1.4, 5.5), side + margin * 0.75 + 0.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    if named:
        axes.set_xticks(range(count), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), labels)
    else:
        axes.set_xlabel("medium")
        axes.set_ylabel("medium")
    if count <= _MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(cosines):
            ink = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
    return figure
