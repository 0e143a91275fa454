"""What the folder of a training run tells of it, before it holds a checkpoint and after."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

STATE_FOLDER = "state"
_RECORD = "run.json"


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

    def __str__(self) -> str:
        return f"training of {self.model} on {self.data} that has not ended; go on with: {self.command}"


def write_run(folder: Path, run: TrainingRun) -> None:
    """Writes the record of a run that begins, or goes on."""
    (folder / _RECORD).write_text(json.dumps(asdict(run), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_run(folder: Path) -> TrainingRun | None:
    """The record that lies in a folder; None where there is none that can be read."""
    try:
        return TrainingRun(**json.loads((folder / _RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def unfinished_run(folder: Path) -> TrainingRun | None:
    """The run whose folder holds no checkpoint yet; None of any other folder."""
    return None if (folder / "config.json").exists() else read_run(folder)
