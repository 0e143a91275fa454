"""Which gradients are compared with the reference's, and along what."""

import zlib

import numpy as np

CASES = ("together", "video_sound")


def directions(name: str, shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    """Random unit vectors in the space of a tensor, float64 [count, *shape], from a stream seeded by its name."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal((count, *shape))
    return drawn / np.sqrt((drawn**2).sum(axis=tuple(range(1, drawn.ndim)), keepdims=True))


def summary(name: str, gradient: np.ndarray) -> np.ndarray:
    """What is kept of a tensor's gradient: its norm, and its products with the directions."""
    gradient = gradient.astype(np.float64)
    along = directions(name, gradient.shape).reshape(-1, gradient.size) @ gradient.ravel()
    return np.asarray([np.linalg.norm(gradient), *along])


def assert_agree(name: str, gradient: np.ndarray, wanted: np.ndarray) -> None:
    """A gradient's summary is the reference's, to 1e-4 of its norm."""
    assert np.abs(summary(name, gradient) - wanted).max() < 1e-4 * wanted[0] + 1e-6, name
