"""Training: conversations with their media to a loss, and a loss to new weights."""

import warnings
from typing import Any

from omni.training.batch import Batch, BatchOverflow, BatchShape, collate
from omni.training.data import batches, mixed, read_jsonl
from omni.training.defaults import answer_tokens, completed
from omni.training.example import Example, encode_media, make_example
from omni.training.loss import hidden_states, loss_and_counts
from omni.training.options import TrainingOptions
from omni.training.parameters import LoRA, TrainableParameters
from omni.training.state import saved_step
from omni.training.trainer import Metrics, train, train_on

__all__ = [
    "Batch",
    "BatchOverflow",
    "BatchShape",
    "Example",
    "LoRA",
    "Metrics",
    "TrainableParameters",
    "TrainingOptions",
    "answer_tokens",
    "batches",
    "collate",
    "completed",
    "encode_media",
    "hidden_states",
    "loss_and_counts",
    "make_example",
    "mixed",
    "read_jsonl",
    "saved_step",
    "train",
    "train_on",
]

_RENAMED = {"NoRoom": "BatchOverflow", "Room": "BatchShape", "Trained": "TrainableParameters"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"omni.training.{name} is now called {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
