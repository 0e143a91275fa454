"""Training state on disk: weights, optimiser and step, so that a run which was killed goes on where it was.

Beside it lies what was asked for: a run that went on with another rate or other parts would be neither of the two.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encoders.nn.mesh import is_shared, on_host
from omni.checkpoint.safetensors import open_file, write_tensors
from omni.errors import CheckpointError
from omni.training.options import TrainingOptions

STATE_FILE = "training.safetensors"
_OPTIONS_FILE = "options.json"
# May be others when a run goes on: they say what is kept and when it is measured, and change no step.
_FREE = ("save_every", "keep_gib", "check_every", "patience")
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


def keep_options(directory: Path, options: TrainingOptions) -> None:
    """Note the options of a run that begins; where one goes on, they must be those that it began with.

    The state of a run that noted none, of an earlier version, goes on with those that are given.

    Args:
        directory: of the state; it is there.
        options: of the run, with every choice made.

    Raises:
        CheckpointError: `other_training_run`, the state is of a run with other options.
    """
    file = directory / _OPTIONS_FILE
    chosen = {name: value for name, value in asdict(options).items() if name not in _FREE}
    given = json.loads(json.dumps(chosen, default=lambda value: np.asarray(value).tolist()))
    noted = _noted_options(file) if saved_step(directory) is not None else None
    if noted is None:
        if jax.process_index() == 0:
            half_done = directory / f".{_OPTIONS_FILE}"
            half_done.write_text(json.dumps(given, indent=1) + "\n", encoding="utf-8")
            os.replace(half_done, file)
        return
    begun = [f"{name}={json.dumps(noted[name])[:60]}" for name in given if noted.get(name, given[name]) != given[name]]
    if begun:
        message = f"the run in the output directory was begun with {', '.join(begun)}: give that, or another folder"
        raise CheckpointError(message, code="other_training_run")


def _noted_options(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        noted = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file.name} cannot be read", code="other_training_run") from error
    if not isinstance(noted, dict):
        raise CheckpointError(f"{file.name} holds no options", code="other_training_run")
    return noted


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
