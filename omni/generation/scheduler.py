"""Who runs next: rows join and leave between steps, and long prompts take turns with rows that run.

One thread at a time drives a scheduler, step by step. A step reads at most one chunk of prompts and one token of every
row that runs. Nothing that goes wrong with one task touches another.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import UInt32

from omni.errors import InputError
from omni.generation.buckets import TURN_TOKENS
from omni.generation.engine import Choice, Engine, not_finite
from omni.generation.grammar import Constraint
from omni.generation.memory import CacheRow
from omni.options import Sampling
from omni.prompt.sequence import Prompt
from processors import Deadline

# Tokens of a reply that memory is kept for when its prompt is read.
_AHEAD = 128

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities of one token of a reply.

    Attributes:
        logprob: of the token that was chosen, by the model's own scores.
        top: the most likely tokens and their log-probabilities.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Task:
    """One reply in the making.

    Attributes:
        prompt: what the decoder reads first.
        sampling: how its tokens are chosen.
        max_new_tokens: most tokens of the reply.
        ends: tokens that end it.
        on_token: called with every token but an end token; what it returns says whether the reply is to end there.
        deadline: when it must be through.
        constraint: what its tokens may be; None for any.
        reply: its tokens so far.
        logprobs: theirs, where they were asked for.
        finish_reason: why it ended.
        cached_tokens: tokens of the prompt that had been read before.
        error: why it failed.
        done: whether it has ended, one way or the other.
    """

    prompt: Prompt
    sampling: Sampling
    max_new_tokens: int
    ends: frozenset[int] = frozenset()
    on_token: Callable[[int], bool] = lambda token: False
    deadline: Deadline = field(default_factory=Deadline)
    constraint: Constraint | None = None
    reply: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason = "length"
    cached_tokens: int = 0
    error: BaseException | None = None
    done: bool = False
    cancelled: bool = False
    row: CacheRow | None = None
    _whole_room: bool = False

    @property
    def needed(self) -> int:
        """Tokens that it may come to hold; the last one of a reply is not read."""
        return len(self.prompt) + self.max_new_tokens - 1


class Scheduler:
    """Runs tasks on an engine.

    Args:
        engine: the device side.
        max_batch: most rows that run at the same time; may be raised between steps.
    """

    def __init__(self, engine: Engine, max_batch: int | None = None):
        self.engine = engine
        self.max_batch: int = engine.memory.places if max_batch is None else max_batch
        self._waiting: deque[Task] = deque()
        self._reading: list[Task] = []
        self._running: list[Task] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._reading) + len(self._running)

    @property
    def waiting(self) -> int:
        """Tasks that have no row yet."""
        return len(self._waiting)

    @property
    def reading(self) -> int:
        """Tasks whose prompts are being read."""
        return len(self._reading)

    def check(self, task: Task) -> None:
        """Refuse a task that can never run.

        Raises:
            InputError: `too_many_tokens`; `no_output_head`; `cache_full`, it needs more memory than there may be; the
                codes of settings that name tokens.
        """
        self.engine.check_head()
        self.engine.check_length(task.prompt)
        task.sampling.adjustments.check(self.engine.vocabulary)
        needed, most = min(task.needed, self.engine.max_tokens), self.engine.memory.most_slots
        if needed > most:
            raise InputError(
                "cache_full", f"a conversation of {needed} tokens, its reply included, needs more than the {most} that "
                "the cache may hold; ask for fewer new tokens or allow more memory"
            )  # fmt: skip

    def add(self, task: Task) -> None:
        """Let a task wait for its turn."""
        self._waiting.append(task)

    def step(self) -> bool:
        """Go on with every task; return whether any is left."""
        self.sweep()
        try:
            self.engine.make_places(self.max_batch)
            self._admit()
            if self._reading:
                self._read()
            if self._running:
                self._decode()
        except BaseException:
            self.recover()
            raise
        return len(self) > 0

    def sweep(self) -> None:
        """End tasks that were cancelled, or whose time is up."""
        for task in self._all():
            if task.cancelled:
                self._end(task)
                continue
            try:
                task.deadline.check()
            except InputError as error:
                self._end(task, error)

    def cancel_all(self, error: BaseException | None = None) -> None:
        """End every task, for a reason or for none."""
        for task in self._all():
            task.cancelled = error is None
            self._end(task, error)

    def recover(self) -> None:
        """After an interruption in the middle of a step: every row is read anew, and goes on as it would have."""
        self.engine.recover()
        for task in reversed([*self._running, *self._reading]):
            self._suspend(task)

    def _all(self) -> list[Task]:
        return [*self._waiting, *self._reading, *self._running]

    # --- turns ----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and len(self._reading) + len(self._running) < self.max_batch:
            task = self._waiting[0]
            whole = task.prompt.followed_by(task.reply)
            most = min(task.needed, self.engine.max_tokens)
            slots = most if task._whole_room else min(most, len(whole) + _AHEAD)
            row = self.engine.open(whole, max(slots, len(whole)), task.sampling, task.reply)
            if row is None:
                if self._reading or self._running:
                    return  # there will be memory when one of them ends
                self._waiting.popleft()
                self._end(task, InputError("cache_full", f"there is no memory for a conversation of {slots} tokens"))
                continue
            self._waiting.popleft()
            task.row = row
            if not task.reply:
                task.cached_tokens = row.length
            self._reading.append(task)

    def _read(self) -> None:
        """One chunk: the next tokens of the prompt that came first, and of others as many as go with them."""
        limit = TURN_TOKENS if self._running else self.engine.buckets.chunk_tokens
        rows = [_row(task) for task in self._reading]
        length, most = self.engine.buckets.chunk(len(rows[0].prompt) - rows[0].length, limit)
        tasks, rows = self._reading[:most], rows[:most]
        counts = [min(length, self._until(row)) for row in rows]
        logits = self.engine.read(rows, counts, length, self.engine.buckets.chunk_batch(len(rows), most))
        through = [row.length == len(row.prompt) for row in rows]
        for row, is_through in zip(rows, through, strict=True):
            if row.length in row.prompt.message_ends or (is_through and not row.prompt.message_ends):
                self.engine.memory.keep_states(row)
        if not any(through):
            return
        done = [task for task, is_through in zip(tasks, through, strict=True) if is_through]
        self._reading = [task for task in self._reading if task not in done]
        self._running += done
        self._choose(logits, tasks, through)

    def _until(self, row: CacheRow) -> int:
        """Tokens up to where the states are to be kept, or to the end."""
        if self.engine.memory.is_hybrid:
            # Of the ends of messages only the last ones are worth a chunk of their own.
            for end in row.prompt.message_ends[-2:]:
                if row.length < end < len(row.prompt):
                    return end - row.length
        return len(row.prompt) - row.length

    def _decode(self) -> None:
        self._make_room()
        tasks = self._running[: self.engine.buckets.rows]
        if not tasks:
            return
        rows = [_row(task) for task in tasks]
        positions = [task.prompt.next_position + len(task.reply) - 1 for task in tasks]
        logits = self.engine.step(rows, [task.reply[-1] for task in tasks], positions)
        self._choose(logits, tasks, [True] * len(tasks))

    def _choose(self, logits, tasks: list[Task], wanted: list[bool]) -> None:
        masks = [self._mask(task) if is_wanted else None for task, is_wanted in zip(tasks, wanted, strict=True)]
        wanted = [is_wanted and not task.done for task, is_wanted in zip(tasks, wanted, strict=True)]
        rows = [task.row if is_wanted else None for task, is_wanted in zip(tasks, wanted, strict=True)]
        steps = [len(task.reply) for task in tasks]
        choice = self.engine.choose(logits, rows, [task.sampling for task in tasks], steps, masks)
        for i, task in enumerate(tasks):
            if wanted[i]:
                self._accept(task, choice, i)

    def _mask(self, task: Task) -> UInt32[np.ndarray, "words"] | None:
        """The tokens that a task with a form of its own may go on with; the engine works meanwhile."""
        if task.constraint is None:
            return None
        try:
            mask = task.constraint.mask()
            if mask is None:
                return None
            mask = mask & task.sampling.adjustments.allowed(self.engine.vocabulary)
            if not mask.any():
                raise InputError("no_token_left", "what response_format asks for next is banned, or no token spells it")
            return mask
        except InputError as error:
            self._end(task, error)
            return None

    def _accept(self, task: Task, choice: Choice, i: int) -> None:
        token = int(choice.tokens[i])
        if token < 0:
            self._end(task, not_finite())
            return
        if token in task.ends:
            task.finish_reason = "stop"
            self._end(task)
            return
        task.reply.append(token)
        if task.sampling.logprobs is not None:
            pairs = zip(choice.top_ids[i].tolist(), choice.top_logprobs[i].tolist(), strict=True)
            task.logprobs.append(TokenLogprobs(float(choice.logprobs[i]), tuple(pairs)[: task.sampling.logprobs]))
        try:
            stops = task.on_token(token)
            if task.constraint is not None:
                stops = task.constraint.accept(token) or stops
        # Whatever a consumer does wrong, the rows beside it go on.
        except BaseException as error:
            self._end(task, error)
            if not isinstance(error, Exception):
                raise
            return
        if stops:
            task.finish_reason = "stop"
        if stops or len(task.reply) >= task.max_new_tokens or self._held(task) >= self.engine.max_tokens:
            self._end(task)

    @staticmethod
    def _held(task: Task) -> int:
        return _row(task).length

    # --- memory ---------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Room for one more token in each row that runs; where there is none, the rows that came last wait."""
        for task in list(self._running):
            if task.row is None:
                continue
            row = task.row
            while row.length + 1 > row.capacity and not self.engine.memory.reserve(row, row.length + _AHEAD):
                last = (self._reading or self._running)[-1]
                last._whole_room = last is task
                self._suspend(last)
                if last is task:
                    break

    def _suspend(self, task: Task) -> None:
        """Back to the front of those who wait; what was read is held as long as there is memory."""
        self._forget(task)
        self._waiting.appendleft(task)

    def _end(self, task: Task, error: BaseException | None = None) -> None:
        if task in self._waiting:
            self._waiting.remove(task)
        self._forget(task)
        task.error, task.done = error, True

    def _forget(self, task: Task) -> None:
        for tasks in (self._reading, self._running):
            if task in tasks:
                tasks.remove(task)
        if task.row is None:
            return
        row, task.row = task.row, None
        # What the row holds beyond its prompt is the reply, all but the last token of it.
        row.prompt = task.prompt.followed_by(task.reply[: max(0, row.length - len(task.prompt))])
        self.engine.close(row)


def _row(task: Task) -> CacheRow:
    assert task.row is not None
    return task.row
