"""Conversations from a file, in batches of similar length, in an order that depends on a seed alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
# Batches whose examples are made, and sorted by length, together.
_WINDOW = 8


def read_jsonl(path: Path) -> list[Conversation]:
    """Conversations, one JSON object `{"messages": [...]}` a line; media paths are relative to the file.

    Raises:
        InputError: the file cannot be read or has no conversations; `bad_line`, with the number of the first line that
            holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
    """Batches without end, from the one numbered `start` on; every conversation comes once an epoch.

    Examples are made in threads, those of the next few batches while these are trained on. Batches hold conversations
    of similar length, and come in random order.

    Raises:
        InputError: a conversation cannot be used; the message tells which, counted from 1.
    """
    size = batch_size * _WINDOW

    def make(index: int) -> Example:
        try:
            return make_example(model, conversations[index])
        except InputError as error:
            raise InputError(error.code, f"conversation {index + 1}: {error}") from error

    with ThreadPoolExecutor() as pool:
        window = start // _WINDOW
        ahead = [pool.submit(make, i) for i in _members(window, len(conversations), size, seed)]
        while True:
            examples = sorted((future.result() for future in ahead), key=lambda example: len(example.token_ids))
            window += 1
            ahead = [pool.submit(make, i) for i in _members(window, len(conversations), size, seed)]
            for place in np.random.RandomState((seed, window)).permutation(_WINDOW)[start % _WINDOW :]:
                yield collate(examples[place * batch_size : (place + 1) * batch_size], model.config)
            start = 0


def _members(window: int, count: int, size: int, seed: int) -> list[int]:
    """Which conversations a window holds: a slice of one permutation after another."""
    places = range(window * size, (window + 1) * size)
    epochs = {place // count for place in places}
    orders = {epoch: np.random.RandomState((seed, 1 << 20, epoch)).permutation(count) for epoch in epochs}
    return [int(orders[place // count][place % count]) for place in places]


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
