"""Conversations from a file, in batches of similar length, in an order that depends on a seed alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np

from omni.model import Model
from omni.records import Conversation, naming, read_records, size
from omni.training.batch import Batch, collate
from omni.training.example import Example, make_example

# Batches that are sorted by length together, and batches that are made ahead of time.
_WINDOW, _AHEAD = 16, 3


def read_jsonl(path: Path) -> list[Conversation]:
    """Conversations, one JSON object `{"messages": [...]}` a line; files and errors are those of `read_records`."""
    return [record.messages for record in read_records(path)]


def batches(
    model: Model,
    conversations: Sequence[Conversation],
    batch_size: int,
    seed: int,
    start: int = 0,
    keep: int = 0,
    encoded: bool = False,
) -> Iterator[Batch]:
    """Batches without end, from the one numbered `start` on; every conversation comes at least once an epoch.

    A batch holds conversations with media of the same kinds and of similar length, so that few shapes occur. Examples
    are made in threads, those of the next batches while one is trained on; the first ones, up to `keep` bytes of media,
    are kept for the epochs to come.

    Args:
        model: whose processors, template and tokenizer are used.
        conversations: with an answer each.
        batch_size: conversations a batch.
        seed: of their order.
        start: how many batches are left out.
        keep: bytes of media.
        encoded: run the towers on media here, with the weights that they have now, and not in each step: once for a
            medium that is kept.

    Raises:
        InputError: a conversation cannot be used; the message tells which, counted from 1.
    """

    kept: dict[int, Example] = {}
    room = keep

    def make(index: int) -> Example:
        if index in kept:
            return kept[index]
        with naming(index):
            return make_example(model, conversations[index])

    def ready(index: int, example: Example) -> Example:
        """In one thread, as towers may need all memory."""
        nonlocal room
        if index in kept:
            return kept[index]
        example = example.encoded(model) if encoded else example
        if example.media_bytes <= room:
            room -= example.media_bytes
            kept[index] = example
        return example

    with ThreadPoolExecutor() as pool:
        waiting: deque[list[tuple[int, Future[Example]]]] = deque()
        for members in islice(_plan(conversations, batch_size, seed), start, None):
            waiting.append([(int(i), pool.submit(make, int(i))) for i in members])
            if len(waiting) > _AHEAD:
                yield collate([ready(i, future.result()) for i, future in waiting.popleft()], model.config)


def _plan(conversations: Sequence[Conversation], batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Which conversations each batch holds; a group that does not fill its last batch begins anew in it."""
    sizes = []
    for i, conversation in enumerate(conversations):
        with naming(i):
            sizes.append(size(conversation))
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (kinds, _) in enumerate(sizes):
        groups.setdefault(kinds, []).append(i)
    for epoch in count():
        random, found = np.random.RandomState((seed, epoch)), []
        for members in groups.values():
            order = random.permutation(members)
            order = np.concatenate([order, np.resize(order, -len(order) % batch_size)])
            for window in np.split(order, range(_WINDOW * batch_size, len(order), _WINDOW * batch_size)):
                ranked = sorted(window, key=lambda i: sizes[i][1])
                found += np.split(np.asarray(ranked), len(ranked) // batch_size)
        yield from (found[i] for i in random.permutation(len(found)))
