"""Training state on disk: weights, optimiser and step, so that a run which was killed goes on where it was."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encoders.nn.mesh import is_shared, on_host
from omni.checkpoint.safetensors import open_file, write_tensors
from omni.errors import CheckpointError

STATE_FILE = "training.safetensors"
# Where the count of steps lies in a run's state: weights, moments, steps.
_STEPS = "[2]"


def saved_step(directory: Path) -> int | None:
    """Return how many steps a run had done when its state was last saved; None where nothing was saved.

    Args:
        directory: of the state, as `train` takes it.

    Raises:
        CheckpointError: what was saved cannot be read.
    """
    if not (directory / STATE_FILE).is_file():
        return None
    stored = open_file(directory / STATE_FILE)
    return int(np.array(stored[_STEPS].array).view(np.int32)) if _STEPS in stored else None


def save_progress(directory: Path, state: Any, file: str = STATE_FILE) -> None:
    """Writes a tree of float32 and integer arrays; the file that was there stays until the new one is whole.

    Of the processes that share it the first one writes.
    """
    arrays = {name: on_host(leaf) for name, leaf in _named(state)}
    if jax.process_index() != 0 and any(is_shared(leaf) for leaf in jax.tree.leaves(state)):
        return
    # Files of weights hold no integers here: the bits of counts go as those of float32.
    stored = {name: a if a.dtype == np.float32 else a.astype(np.int32).view(np.float32) for name, a in arrays.items()}
    half_done = directory / f".{file}"
    half_done.unlink(missing_ok=True)
    layout = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in stored.items()}
    write_tensors(half_done, layout, stored.values())
    os.replace(half_done, directory / file)


def load_progress(directory: Path, like: Any, file: str = STATE_FILE) -> Any:
    """The tree that was saved, in the form of `like`; None when nothing was saved.

    Raises:
        CheckpointError: what was saved belongs to another model or to other options.
    """
    if not (directory / file).is_file():
        return None
    stored = open_file(directory / file)
    wanted = dict(_named(like))
    if stored.keys() != wanted.keys() or any(stored[name].shape != leaf.shape for name, leaf in wanted.items()):
        message = f"{file} in the output directory is of a run with another model or other options"
        raise CheckpointError(message, code="other_training_run")

    def read(name: str, leaf: Any) -> np.ndarray:
        array = np.array(stored[name].array)
        return array if leaf.dtype == np.float32 else array.view(np.int32).astype(leaf.dtype)

    return jax.tree.unflatten(jax.tree.structure(like), [read(name, leaf) for name, leaf in _named(like)])


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
