"""Rotary positions with three axes, their frequencies interleaved (MRoPE, arXiv:2502.13923 and arXiv:2104.09864)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Rotation = tuple[Float[jax.Array, "batch tokens half"], Float[jax.Array, "batch tokens half"]]


def frequencies(head_width: int, theta: float) -> Float[np.ndarray, "half"]:
    """Radians a position, for each pair of channels; rounded to float32 where the reference rounds."""
    exponents = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
    return np.float32(1) / (theta ** exponents.astype(np.float64)).astype(np.float32)


def axis_of_frequency(head_width: int, section: tuple[int, int, int]) -> np.ndarray:
    """Which axis each frequency follows: t h w t h w ... while a section lasts, then time to the end."""
    axes = np.zeros(head_width // 2, np.int32)
    for axis in (1, 2):
        axes[axis : 3 * section[axis] : 3] = axis
    return axes


def rotation(
    positions: Float[jax.Array, "3 batch tokens"], head_width: int, theta: float, section: tuple[int, int, int]
) -> Rotation:
    """Cosines and sines of the angles by which each pair of channels turns.

    Args:
        positions: of each token in time, height and width; fractions are allowed.
        head_width: H, or the channels of a head that are turned.
        theta: base of the frequencies.
        section: how many frequencies follow each axis.
    """
    chosen_HBT = positions.astype(jnp.float32)[axis_of_frequency(head_width, section)]
    angles_BTH = jnp.moveaxis(chosen_HBT, 0, -1) * frequencies(head_width, theta)
    return jnp.cos(angles_BTH), jnp.sin(angles_BTH)


def rotate(
    x: Float[jax.Array, "batch tokens heads width"], by: Rotation
) -> Float[jax.Array, "batch tokens heads width"]:
    """Turns channel i together with channel i + R / 2, in float32, for the first R channels that `by` has angles for.

    Keeps the dtype, and the channels beyond.
    """
    cos, sin = by[0][:, :, None], by[1][:, :, None]
    turned, kept = jnp.split(x, [2 * cos.shape[-1]], axis=-1)
    first, second = jnp.split(turned.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([turned, kept], axis=-1) if kept.size else turned
