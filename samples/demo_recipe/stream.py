"""Conversations that are made while a model trains on them: batches without end, all of one shape."""

import multiprocessing
import os
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np

import omni
from omni.training import Batch, BatchOverflow, BatchShape, Example, collate, make_example
from samples.demo_recipe import voices
from samples.demo_recipe.conversations import conversation

# Of batches made lately, to draw from while makers are slower than an accelerator.
_KEPT_BYTES = 8 << 30
# How often in a row a batch may not fit. One in a hundred does not.
_MISSES = 20
_model: Any = None


def batch_shape(size: int) -> BatchShape:
    """For so many conversations of the demo: what one batch in a hundred does not fit into, and few conversations.

    Pictures have 64 patches at most; a clip has two or three pairs of frames; most of what is heard lasts a second.
    """

    def rows(share: float) -> int:
        mean = share * size
        return int(np.ceil(mean + 3.2 * mean**0.5))

    audio = {1: 0.17, 2: 0.07, 4: 0.012, 8: 0.008}
    return BatchShape(
        tokens=192,
        vision={(64, 768): rows(0.72), (64, 1536): rows(0.24)},
        audio={(chunks, 128, 100): rows(share) for chunks, share in audio.items()},
    )


def _begin(checkpoint: Path, recorded: Path) -> None:
    global _model
    # A process that is killed has no time to end those that work for it.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    jax.config.update("jax_platforms", "cpu")
    voices.use_recorded(recorded)
    _model = omni.load(checkpoint, dtype="float32")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make(size: int, seed: tuple[int, int]) -> Batch:
    random, fitting = np.random.RandomState(seed), batch_shape(size)
    for misses in count(1):
        examples: list[Example] = []
        while len(examples) < size:
            messages, _ = conversation(random, False, lambda content, suffix: content)
            example = make_example(_model, messages)
            if len(example.token_ids) <= fitting.tokens:
                examples.append(example)
        try:
            return collate(examples, _model.config, fitting)
        except BatchOverflow:
            if misses == _MISSES:
                raise
    raise AssertionError


def stream(
    checkpoint: Path, recorded: Path, size: int, workers: int, seed: int = 0, start: int = 0
) -> Generator[Batch, None, None]:
    """Batches without end. Each new one is given at once; while none is ready, one of those that were made lately.

    Which those are depends on how fast the machine makes them, so two runs are alike and not the same. To be closed,
    which ends the processes.

    Args:
        checkpoint: whose processors, tokenizer and template are used.
        recorded: what voices.py recorded.
        size: conversations a batch.
        workers: processes that make batches.
        seed: of the conversations.
        start: how many batches to leave out.
    """
    random, number, made = np.random.RandomState((seed, start)), start, []
    # For the makers, which have a processor each.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (checkpoint, recorded))
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
            made.append(future.result())
            if len(made) > max(1, _KEPT_BYTES // sum(array.nbytes for array in jax.tree.leaves(made[-1]))):
                made.pop(0)
            yield made[-1]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
