"""Training: conversations with their media to a loss, and a loss to new weights."""

from omni.training.batch import Batch, collate
from omni.training.example import Example, make_example
from omni.training.loss import loss_and_counts

__all__ = ["Batch", "Example", "collate", "loss_and_counts", "make_example"]
