"""Conversations that are made while a model trains on them: batches without end, all of one shape."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import omni
from omni.training import Batch, Example, Room, collate, make_example
from samples.demo_recipe import voices
from samples.demo_recipe.conversations import conversation

# What there is to draw from, of batches made lately: makers are slower than an accelerator.
_KEPT = 600
_model: Any = None


def room(size: int) -> Room:
    """For so many conversations of the demo: what one batch in a hundred does not fit into, and few conversations.

    Pictures have 64 patches at most; a clip has two or three pairs of frames; most of what is heard lasts a second.
    """

    def rows(share: float) -> int:
        mean = share * size
        return int(np.ceil(mean + 3.2 * mean**0.5))

    audio = {1: 0.17, 2: 0.07, 4: 0.012, 8: 0.008}
    return Room(
        tokens=192,
        vision={(64, 768): rows(0.72), (64, 1536): rows(0.24)},
        audio={(chunks, 128, 100): rows(share) for chunks, share in audio.items()},
    )


def _begin(checkpoint: Path, recorded: Path) -> None:
    global _model
    jax.config.update("jax_platforms", "cpu")
    voices.use_recorded(recorded)
    _model = omni.load(checkpoint, dtype="float32")


def _make(size: int, seed: tuple[int, int]) -> Batch:
    random, fitting = np.random.RandomState(seed), room(size)
    while True:
        examples: list[Example] = []
        while len(examples) < size:
            messages, _ = conversation(random, False, lambda content, suffix: content)
            example = make_example(_model, messages)
            if len(example.token_ids) <= fitting.tokens:
                examples.append(example)
        try:
            return collate(examples, _model.config, fitting)
        except ValueError:
            continue  # more than there is room for


def stream(checkpoint: Path, recorded: Path, size: int, workers: int, seed: int = 0) -> Iterator[Batch]:
    """Batches on the device. Each new one is given at once; while none is ready, one of those that were.

    Which those are depends on how fast the machine makes them, so two runs are alike and not the same.

    Args:
        checkpoint: whose processors, tokenizer and template are used.
        recorded: what voices.py recorded.
        size: conversations a batch.
        workers: processes that make batches.
        seed: of the conversations.
    """
    random, number, made = np.random.RandomState(seed), 0, []
    # For the makers, which have a processor each.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (checkpoint, recorded)) as pool:
        waiting: set[Future] = set()
        try:
            while True:
                while len(waiting) < 4 * workers:
                    waiting.add(pool.submit(_make, size, (seed, number)))
                    number += 1
                done, _ = wait(waiting, timeout=0 if made else None, return_when=FIRST_COMPLETED)
                if not done:
                    yield made[random.randint(len(made))]
                    continue
                future = done.pop()
                waiting.remove(future)
                made = [*made[-_KEPT + 1 :], jax.tree.map(jnp.asarray, future.result())]
                yield made[-1]
        finally:
            for future in waiting:
                future.cancel()
