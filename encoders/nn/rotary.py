"""Rotary position embedding (Su et al., arXiv:2104.09864) on the two axes of a frame."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32


def axial_rotation(
    coordinates: Int32[Array, "rows length 2"], head_width: int, theta: float
) -> tuple[Float[Array, "rows length 1 half"], Float[Array, "rows length 1 half"]]:
    """Cosines and sines: the first half of the frequencies turns with the row, the second with the column."""
    span = head_width // 2
    frequencies = 1.0 / theta ** (np.arange(0, span, 2, dtype=np.float32) / np.float32(span))
    angles = coordinates[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    angles = angles.reshape(*coordinates.shape[:2], 1, span)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "rows length heads width"],
    rotation: tuple[Float[Array, "rows length 1 half"], Float[Array, "rows length 1 half"]],
) -> Float[Array, "rows length heads width"]:
    """Turns each pair (x[i], x[i + width / 2]), in float32."""
    cos, sin = rotation
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
