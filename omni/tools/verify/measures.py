"""How far two arrays are apart. NumPy alone."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distance:
    """How far an array is from the one that is wanted.

    Attributes:
        relative: L2 norm of the difference over that of the wanted array; infinite where shapes differ or a number is
            not finite.
        largest: greatest absolute difference.
        cosine: of the angle between the two, taken as vectors.
        unequal: values that are not the very same.
        size: values in all.
        median: `relative` of the middle one of the rows, each by itself.
    """

    relative: float
    largest: float
    cosine: float
    unequal: int
    size: int
    median: float

    @classmethod
    def nowhere(cls, unequal: int, size: int) -> "Distance":
        """That of arrays which cannot be compared."""
        return cls(np.inf, np.inf, 0.0, unequal, size, np.inf)

    @classmethod
    def none(cls, size: int, unequal: int = 0) -> "Distance":
        """That of arrays which are alike, though some values may differ without harm."""
        return cls(0.0, 0.0, 1.0, unequal, size, 0.0)


def distance(ours: np.ndarray, wanted: np.ndarray) -> Distance:
    """Measures in float64."""
    a, b = np.asarray(ours), np.asarray(wanted)
    if a.shape != b.shape:
        return Distance.nowhere(max(a.size, b.size), b.size)
    unequal = int((a != b).sum())
    if not unequal:
        return Distance.none(b.size)
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Distance.nowhere(unequal, b.size)
    apart, norm = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    product = float(np.linalg.norm(a)) * norm
    relative = apart / norm if norm else np.inf
    return Distance(
        relative,
        float(np.abs(a - b).max()),
        float((a * b).sum()) / product if product else 0.0,
        unequal,
        b.size,
        _median(a, b) if b.ndim > 1 else relative,
    )


def _median(a: np.ndarray, b: np.ndarray) -> float:
    norms, apart = np.linalg.norm(b, axis=-1), np.linalg.norm(a - b, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(np.where(apart > 0, apart / norms, 0.0)))


def relative_error(ours: np.ndarray, wanted: np.ndarray) -> float:
    """L2 norm of the difference over that of what is wanted, in float64; infinite where the shapes differ."""
    return distance(ours, wanted).relative
