"""Which gradients are compared with the reference's, along what, and under which names."""

import zlib
from pathlib import Path
from typing import Any

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


def loss_and_gradients(model: Any, batch: Any, directory: Path) -> tuple[float, dict[str, np.ndarray]]:
    """A batch's loss, and its gradients by the names of tensors in files: saved there in the place of the weights."""
    import jax
    from flax import nnx
    from safetensors.numpy import load_file

    from omni.training import loss_and_counts

    graph, state = nnx.split(model.parts)
    weights = jax.tree.map(lambda leaf: leaf, state)  # what split gives would follow the model
    program = jax.jit(jax.value_and_grad(lambda w: loss_and_counts(nnx.merge(graph, w), batch), has_aux=True))
    (loss, _), gradients = program(weights)
    nnx.update(model.parts, gradients)
    model.save(directory)
    nnx.update(model.parts, weights)
    files = sorted(directory.glob("*.safetensors"))
    return float(loss), {name: value for file in files for name, value in load_file(file).items()}
