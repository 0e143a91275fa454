"""Training: conversations with their media to a loss, and a loss to new weights."""

from omni.training.batch import Batch, NoRoom, Room, collate
from omni.training.data import batches, read_jsonl
from omni.training.example import Example, encode_media, make_example
from omni.training.loss import hidden_states, loss_and_counts
from omni.training.trained import LoRA, Trained
from omni.training.trainer import Metrics, TrainingOptions, train, train_on

__all__ = [
    "Batch",
    "Example",
    "LoRA",
    "Metrics",
    "NoRoom",
    "Room",
    "Trained",
    "TrainingOptions",
    "batches",
    "collate",
    "encode_media",
    "hidden_states",
    "loss_and_counts",
    "make_example",
    "read_jsonl",
    "train",
    "train_on",
]
