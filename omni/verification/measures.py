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
    """

    relative: float
    largest: float
    cosine: float
    unequal: int
    size: int

    @property
    def sort_key(self) -> tuple[float, int]:
        """The farther of two distances has the greater key."""
        return self.relative, self.unequal


SAME = Distance(0.0, 0.0, 1.0, 0, 0)


def distance(ours: np.ndarray, wanted: np.ndarray) -> Distance:
    """Measures in float64."""
    a, b = np.asarray(ours), np.asarray(wanted)
    if a.shape != b.shape:
        return Distance(np.inf, np.inf, 0.0, max(a.size, b.size), b.size)
    unequal = int((a != b).sum())
    if not unequal:
        return Distance(0.0, 0.0, 1.0, 0, b.size)
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Distance(np.inf, np.inf, 0.0, unequal, b.size)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    apart = float(np.linalg.norm(a - b))
    cosine = float(a @ b) / (norms[0] * norms[1]) if all(norms) else 0.0
    return Distance(apart / norms[1] if norms[1] else np.inf, float(np.abs(a - b).max()), cosine, unequal, b.size)


def relative_error(ours: np.ndarray, wanted: np.ndarray) -> float:
    """L2 norm of the difference over that of what is wanted, in float64; infinite where the shapes differ."""
    return distance(ours, wanted).relative
