"""What the folder of a training run tells of it, before it holds a checkpoint and after."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from omni.checkpoint.safetensors import open_file
from omni.errors import CheckpointError

STATE_FOLDER, STATE_FILE = "state", "training.safetensors"
_RECORD = "run.json"
# Where the count of steps lies in a run's state: weights, moments, steps.
_STEPS = "[2]"


@dataclass(frozen=True)
class TrainingRun:
    """A run as it was begun.

    Attributes:
        model: what is trained, as it was named.
        data: the file of conversations, as it was named.
        steps: how many there are to be.
        command: what to type for it to go on.
    """

    model: str
    data: str
    steps: int
    command: str


def write_run(folder: Path, run: TrainingRun) -> None:
    """Writes the record of a run that begins, or goes on."""
    (folder / _RECORD).write_text(json.dumps(asdict(run), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_run(folder: Path) -> TrainingRun | None:
    """The record that lies in a folder; None where there is none that can be read."""
    try:
        return TrainingRun(**json.loads((folder / _RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def saved_step(directory: Path) -> int | None:
    """How many steps a run had done when its state was last saved; None where nothing was saved.

    Args:
        directory: of the state, as `train` takes it.

    Raises:
        CheckpointError: what was saved cannot be read.
    """
    if not (directory / STATE_FILE).is_file():
        return None
    stored = open_file(directory / STATE_FILE)
    return int(np.array(stored[_STEPS].array).view(np.int32)) if _STEPS in stored else None


def unfinished_run(folder: Path) -> str | None:
    """One sentence about a run whose folder holds no checkpoint yet; None of any other folder."""
    run = read_run(folder)
    if run is None or (folder / "config.json").exists():
        return None
    try:
        done = saved_step(folder / STATE_FOLDER) or 0
    except CheckpointError:
        done = 0
    saved = f"{done} of {run.steps} steps are saved" if done else f"none of {run.steps} steps is saved yet"
    return f"training of {run.model} on {run.data} that has not ended: {saved}; go on with: {run.command}"
