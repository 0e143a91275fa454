"""Which gradients are compared with the reference's, and along what."""

import zlib

import numpy as np

CASES = ("together", "video_sound")


def directions(name: str, shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    """Random unit vectors in the space of a tensor, float64 [count, *shape], from a stream seeded by its name."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal((count, *shape))
    return drawn / np.sqrt((drawn**2).sum(axis=tuple(range(1, drawn.ndim)), keepdims=True))
