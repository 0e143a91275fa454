"""Conversations from a file, in batches of similar length, in an order that depends on a seed alone."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np

from omni.media.encoder import MediaEncoder
from omni.model import Model
from omni.prompt.records import Conversation, naming, read_records, size
from omni.training.batch import Batch, collate
from omni.training.example import Example, encode_media, make_example

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
    encoder: MediaEncoder | None = None,
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
        encoder: runs the towers on media before they come into a batch, once for a medium that is kept as it is then;
            None where towers are trained, and so run in each step.

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

    def store(index: int, example: Example) -> None:
        # What the towers made takes more memory than what they read: where it does not fit, that may.
        nonlocal room
        before = kept[index].media_bytes if index in kept else 0
        if example.media_bytes - before <= room:
            room -= example.media_bytes - before
            kept[index] = example

    def ready(members: Sequence[int], examples: list[Example]) -> list[Example]:
        for i, example in zip(members, examples, strict=True):
            if i not in kept:
                store(i, example)
        examples = [kept.get(i, example) for i, example in zip(members, examples, strict=True)]
        if encoder is None:
            return examples
        # In one thread, and together: towers may need all memory. A batch may hold a conversation twice.
        raw = {i: example for i, example in zip(members, examples, strict=True) if not example.is_encoded}
        encoded = dict(zip(raw, encode_media(list(raw.values()), encoder), strict=True))
        for i, example in encoded.items():
            store(i, example)
        return [encoded.get(i, example) for i, example in zip(members, examples, strict=True)]

    with ThreadPoolExecutor() as pool:
        waiting: deque[tuple[list[int], list[Future[Example]]]] = deque()
        for chosen in islice(_plan(conversations, batch_size, seed), start, None):
            members = chosen.tolist()
            waiting.append((members, [pool.submit(make, i) for i in members]))
            if len(waiting) > _AHEAD:
                members, futures = waiting.popleft()
                yield collate(ready(members, [future.result() for future in futures]), model.config)


def validation_batches(
    model: Model, conversations: Sequence[Conversation], batch_size: int, encoder: MediaEncoder | None = None
) -> list[Batch]:
    """Every conversation once, in batches of like media and length; none is repeated, so that none counts twice.

    Args:
        model: whose processors, template and tokenizer are used.
        conversations: with an answer each.
        batch_size: conversations a batch.
        encoder: as for `batches`.

    Raises:
        InputError: a conversation cannot be used; the message tells which, counted from 1.
    """
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, conversation in enumerate(conversations):
        with naming(i):
            kinds, length = size(conversation)
        groups.setdefault(kinds, []).append((length, i))
    held = []
    for members in groups.values():
        ranked = [i for _, i in sorted(members)]
        for start in range(0, len(ranked), batch_size):
            examples = []
            for i in ranked[start : start + batch_size]:
                with naming(i):
                    examples.append(make_example(model, conversations[i]))
            held.append(collate(examples if encoder is None else encode_media(examples, encoder), model.config))
    return held


def mixed(
    new: Callable[[int], Iterator[Batch]], old: Callable[[int], Iterator[Batch]], share: float, start: int = 0
) -> Iterator[Batch]:
    """Batches of two kinds by turns, from the one numbered `start` on.

    Args:
        new: batches from the one with that number on.
        old: likewise, of what the model is not to forget.
        share: how many of all are old, from 0 to 1.
        start: how many batches are left out.
    """

    def old_before(number: int) -> int:
        return int(number * share + 1e-9)

    before = old_before(start)
    fresh, earlier = new(start - before), old(before)
    for i in count(start):
        yield next(earlier if old_before(i + 1) > old_before(i) else fresh)


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
