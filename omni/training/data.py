"""Conversations from a file, in batches of similar length, in an order that depends on a seed alone."""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from omni.errors import InputError
from omni.messages import parse
from omni.model import Model
from omni.training.batch import Batch, collate
from omni.training.example import Example, make_example

Conversation = Sequence[Mapping[str, Any]]
_MEDIA = {"image", "audio", "video"}
# Batches that are sorted by length together, and batches that are made ahead of time.
_WINDOW, _AHEAD = 16, 3


def read_jsonl(path: Path) -> list[Conversation]:
    """Conversations, one JSON object `{"messages": [...]}` a line; media paths are relative to the file.

    Raises:
        InputError: the file cannot be read or has no conversations; `bad_line`, with the number of the first line that
            holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # other separators may stand in strings
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError("bad_file", f"{path} cannot be read: {reason}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            messages = _located(record["messages"], path.parent)
            parse(messages)
        except (json.JSONDecodeError, KeyError, TypeError, InputError) as error:
            reason = error if isinstance(error, InputError) else 'it is not an object with "messages"'
            raise InputError("bad_line", f"line {number} of {path.name}: {reason}") from error
        found.append(messages)
    if not found:
        raise InputError("bad_file", f"{path.name} holds no conversations")
    return found


def batches(
    model: Model, conversations: Sequence[Conversation], batch_size: int, seed: int, start: int = 0
) -> Iterator[Batch]:
    """Batches without end, from the one numbered `start` on; every conversation comes at least once an epoch.

    A batch holds conversations with media of the same kinds and of similar length, so that few shapes occur. Examples
    are made in threads, those of the next batches while one is trained on.

    Raises:
        InputError: a conversation cannot be used; the message tells which, counted from 1.
    """

    def make(index: int) -> Example:
        with _naming(index):
            return make_example(model, conversations[index])

    with ThreadPoolExecutor() as pool:
        waiting: deque[list[Future[Example]]] = deque()
        for members in islice(_plan(conversations, batch_size, seed), start, None):
            waiting.append([pool.submit(make, int(i)) for i in members])
            if len(waiting) > _AHEAD:
                yield collate([future.result() for future in waiting.popleft()], model.config)


def _plan(conversations: Sequence[Conversation], batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Which conversations each batch holds; a group that does not fill its last batch begins anew in it."""
    sizes = []
    for i, conversation in enumerate(conversations):
        with _naming(i):
            sizes.append(_size(conversation))
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


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Says of an error which conversation it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(error.code, f"conversation {index + 1}: {error}") from error


def _size(conversation: Conversation) -> tuple[tuple[int, ...], int]:
    """How many media of each kind a conversation holds, and how many characters."""
    kinds, characters = [0, 0, 0], 0
    for message in parse(conversation).messages:
        content = message["content"]
        for part in [content] if isinstance(content, str) else content:
            if isinstance(part, str) or part["type"] == "text":
                characters += len(part if isinstance(part, str) else part["text"])
            else:
                kinds[("image", "audio", "video").index(part["type"])] += 1
    return tuple(kinds), characters


def _located(messages: Any, folder: Path) -> Any:
    """The messages with paths of media taken from the folder."""

    def part(raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        moved = {}
        for key in _MEDIA & raw.keys():
            value = raw[key]
            if isinstance(value, str) and "://" not in value and not value.startswith("data:"):
                moved[key] = str(folder / value)
        return {**raw, **moved}

    def message(raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("content"), list):
            return raw
        return {**raw, "content": [part(p) for p in raw["content"]]}

    return [message(m) for m in messages] if isinstance(messages, list) else messages
