"""Validation: the loss on conversations that are not learned, and the weights with which it was lowest."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from encoders.nn.compile import compiler_options, is_small
from omni.training.batch import Batch
from omni.training.loss import loss_and_counts
from omni.training.parameters import TrainableParameters, Weights
from omni.training.state import load_progress, save_progress

_FILE = "best.safetensors"


class Validation:
    """Measures a run now and then, keeps its best weights on disk, and says when it no longer gets better.

    Args:
        trained: what is trained.
        batches: of conversations that are not learned; each shape is a program.
        directory: of the run's state. Where it holds best weights already, the run goes on with them.
        patience: steps without a lower loss after which to stop.
    """

    def __init__(self, trained: TrainableParameters, batches: Sequence[Batch], directory: Path, patience: int):
        self._frozen, self._batches = trained.frozen, batches
        self._directory, self._patience = directory, patience
        self._measure = jax.jit(
            lambda *weights, batch: loss_and_counts(trained.module(*weights), batch),
            compiler_options=compiler_options(is_small((trained.start, trained.frozen))),
        )
        nothing = {"weights": trained.start, "loss": jnp.float32(math.inf), "step": jnp.int32(0)}
        self._best: Any = load_progress(directory, nothing, _FILE) or nothing

    def check(self, step: int, weights: Weights) -> float:
        """Return the mean loss of the learned tokens, in nats, and keep the weights where it is the lowest so far."""
        total, count = 0.0, 0
        for batch in self._batches:
            loss, tokens = self._measure(weights, self._frozen, batch=batch)
            total, count = total + float(loss) * int(tokens), count + int(tokens)
        mean = total / max(1, count)
        if mean < float(self._best["loss"]):
            best = {"weights": weights, "loss": jnp.float32(mean), "step": jnp.int32(step)}
            save_progress(self._directory, best, _FILE)
            # A copy on the host: the next step gives the memory of these away.
            self._best = load_progress(self._directory, best, _FILE)
        return mean

    def is_over(self, step: int) -> bool:
        """Whether the loss was lowest too long ago."""
        return step - self.best_step >= self._patience

    @property
    def best_step(self) -> int:
        """After which step the loss was lowest; 0 before the first check."""
        return int(self._best["step"])

    @property
    def best_weights(self) -> Weights:
        """The weights after that step."""
        return jax.tree.map(jnp.asarray, self._best["weights"])
