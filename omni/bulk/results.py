"""Results of a bulk job, as its sinks take them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from omni.bulk.items import Item
from omni.bulk.manifest import Part
from omni.errors import InputError
from omni.media.embedding import Embedding


@dataclass(frozen=True)
class Result:
    """What became of one item.

    Attributes:
        item: which.
        kind: `image`, `audio`, `video` or `text`; None where that is not known.
        vector: of length 1; None where it could not be made, or was not asked for.
        embedding: the tokens of a medium, where they were made.
        seconds: how long audio or video is; None for all else.
        error: why there is no vector.
    """

    item: Item
    kind: str | None = None
    vector: Float32[np.ndarray, "width"] | None = None
    embedding: Embedding | None = None
    seconds: float | None = None
    error: InputError | None = None


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

    def begin(self, part: Part) -> None:
        """Begin a part; what was left of it by a process that ended is dropped."""
        ...

    def write(self, results: list[Result]) -> list[Result]:
        """Write the results of a batch; returns them, with the errors that writing gave."""
        ...

    def commit(self) -> None:
        """Finish the part that was begun: from now on it is there, and before it is not."""
        ...

    def close(self) -> None:
        """Drop a part that was not finished."""
        ...
