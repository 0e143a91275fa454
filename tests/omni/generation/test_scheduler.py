"""Rows join and leave between steps, and none feels another: not its seed, its length, its failure or its memory."""

from itertools import pairwise

import numpy as np
import pytest

import omni
from omni.generation.buckets import Buckets
from omni.generation.engine import Engine
from omni.generation.memory import MemoryBudget
from omni.generation.scheduler import Scheduler
from omni.options import Adjustments, Sampling
from processors import Deadline
from tests.omni.scheduling import GREEDY, replies, run, task, text


@pytest.fixture
def engine(model) -> Engine:
    return Engine(model.parts.text, model.config.deepstack_levels)


@pytest.fixture
def sampled():
    return [Sampling(1.0, top_p=0.9, seed=seed) for seed in (5, 6, 7, 8)]


PROMPTS = [text(3), text(90, 5), text(40, 1), text(16, 2)]


@pytest.mark.parametrize("greedy", [True, False])
def test_alone_equals_in_a_batch(engine, sampled, greedy):
    how = [GREEDY] * 4 if greedy else sampled
    together = replies(engine, PROMPTS, 10, how)
    assert len({tuple(reply) for reply in together}) == 4
    for prompt, one, wanted in zip(PROMPTS, how, together, strict=True):
        assert replies(engine, [prompt], 10, [one]) == [wanted]
    assert replies(engine, PROMPTS[::-1], 10, how[::-1]) == together[::-1]


@pytest.mark.parametrize("max_batch", [1, 2, 3])
def test_rows_that_join_later_change_nothing(engine, sampled, max_batch):
    wanted = replies(engine, PROMPTS, 10, sampled)
    tasks = [task(prompt, 10, how) for prompt, how in zip(PROMPTS, sampled, strict=True)]
    assert run(engine, tasks, max_batch) == wanted
    scheduler = Scheduler(engine, max_batch)
    tasks = [task(prompt, 10, how) for prompt, how in zip(PROMPTS, sampled, strict=True)]
    for one in tasks:
        scheduler.add(one)
        for _ in range(3):
            scheduler.step()
            assert len(engine.memory.running) <= max_batch
    while scheduler.step():
        pass
    assert [one.reply for one in tasks] == wanted


def test_a_row_follows_its_seed_and_no_other(engine):
    def talk(*seeds):
        return replies(engine, [text(16)] * 4, 10, [Sampling(1.0, top_p=0.9, seed=seed) for seed in seeds])

    first, second = talk(1, 2, 1, (1 << 32) - 1), talk(1, 3, 4, 2)
    assert first[0] == first[2] == second[0] and first[1] == second[3]
    assert len({tuple(row) for row in (*first, *second)}) == 5


def test_an_end_token_ends_its_row_alone(engine):
    prompts = [text(16, seed) for seed in range(4)]
    free = replies(engine, prompts, 10)
    end = free[3][1]
    tasks = [task(prompt, 10, ends=frozenset({end})) for prompt in prompts]
    for found, whole, one in zip(run(engine, tasks), free, tasks, strict=True):
        assert found == (whole[: whole.index(end)] if end in whole else whole)
        assert one.finish_reason == ("stop" if end in whole else "length")
    assert tasks[3].finish_reason == "stop"


def test_a_consumer_ends_its_row_alone(engine):
    prompts = [text(16, seed) for seed in range(3)]
    free, heard = replies(engine, prompts, 8), []
    tasks = [task(prompt, 8) for prompt in prompts]
    tasks[1].on_token = lambda token: heard.append(token) or len(heard) == 3
    assert run(engine, tasks) == [free[0], free[1][:3], free[2]]
    assert heard == free[1][:3] and [one.finish_reason for one in tasks] == ["length", "stop", "length"]


# --- failures -------------------------------------------------------------------------------------------------------


def test_an_error_of_a_consumer_ends_its_row_alone(engine):
    prompts = [text(16, seed) for seed in range(3)]
    free = replies(engine, prompts, 8)
    tasks = [task(prompt, 8) for prompt in prompts]

    def breaks(token):
        raise KeyError(token)

    tasks[0].on_token = breaks
    with pytest.raises(KeyError):
        run(engine, tasks)
    assert [one.reply for one in tasks] == [free[0][:1], *free[1:]]


def test_a_cancelled_row_leaves_the_others(engine):
    prompts = [text(16, seed) for seed in range(3)]
    free = replies(engine, prompts, 8)
    tasks, scheduler = [task(prompt, 8) for prompt in prompts], Scheduler(engine)
    for one in tasks:
        scheduler.add(one)
    scheduler.step()
    tasks[0].cancelled = True
    while scheduler.step():
        pass
    assert [one.reply for one in tasks[1:]] == free[1:] and all(one.done for one in tasks)
    assert 0 < len(tasks[0].reply) < 8 and free[0][: len(tasks[0].reply)] == tasks[0].reply


def test_a_deadline_ends_its_row_alone(engine):
    over = Deadline(1e-9)
    tasks = [task(text(16), 4), task(text(16, 1), 4, deadline=over)]
    with pytest.raises(omni.InputError) as error:
        run(engine, tasks)
    assert error.value.code == "deadline"
    assert len(tasks[0].reply) == 4 and not tasks[1].reply


@pytest.mark.parametrize("method", ["read", "step", "choose"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_step_is_done_again(engine, sampled, monkeypatch, method, error):
    """What the program had been given is lost: rows are read anew, and go on as they would have."""
    how = [Sampling(one.temperature, one.top_p, seed=one.seed, adjustments=Adjustments(1.3)) for one in sampled]
    wanted = replies(engine, PROMPTS, 6, how)
    whole, calls = getattr(engine, method), []

    def interrupted(*args):
        found = whole(*args)
        calls.append(found)
        if len(calls) == 2:
            raise error
        return found

    monkeypatch.setattr(engine, method, interrupted)
    scheduler = Scheduler(engine, 2)
    tasks = [task(prompt, 6, one) for prompt, one in zip(PROMPTS, how, strict=True)]
    for one in tasks:
        scheduler.add(one)
    with pytest.raises(error):
        while scheduler.step():
            pass
    while scheduler.step():
        pass
    assert [one.reply for one in tasks] == wanted


def test_scores_that_are_not_finite_fail_their_row_alone(engine, monkeypatch):
    prompts = [text(16, seed) for seed in range(3)]
    free, whole = replies(engine, prompts, 5), engine.step
    monkeypatch.setattr(engine, "step", lambda rows, *more: whole(rows, *more).at[1].set(np.nan))
    tasks = [task(prompt, 5) for prompt in prompts]
    with pytest.raises(omni.InputError, match="NaN or infinity") as error:
        run(engine, tasks)
    assert error.value.code == "not_finite"
    assert tasks[0].reply == free[0] and tasks[1].reply == free[1][:1] and tasks[2].error is not None


# --- turns ----------------------------------------------------------------------------------------------------------


def test_long_prompts_take_turns_with_rows_that_run(model, monkeypatch):
    """Between two steps of a row that runs, no more than one chunk of 256 tokens is read."""
    engine = Engine(model.parts.text, model.config.deepstack_levels, buckets=Buckets.served(4))
    events, read, step = [], engine.read, engine.step
    monkeypatch.setattr(engine, "read", lambda rows, n, *more: events.append(sum(n)) or read(rows, n, *more))
    monkeypatch.setattr(engine, "step", lambda rows, *more: events.append("step") or step(rows, *more))
    tasks = [task(text(20), 12), task(text(900, 1), 2), task(text(700, 2), 2)]
    scheduler = Scheduler(engine, 4)
    scheduler.add(tasks[0])
    scheduler.step()
    for one in tasks[1:]:
        scheduler.add(one)
    while not tasks[0].done:
        scheduler.step()
    first = events.index("step")
    turns = events[first:]
    assert all(a == "step" or b == "step" for a, b in pairwise(turns))
    assert max(event for event in turns if event != "step") <= 256
    while scheduler.step():
        pass
    assert [one.reply for one in tasks] == [
        *replies(engine, [text(20)], 12),
        *replies(engine, [text(900, 1), text(700, 2)], 2),
    ]


# --- memory ---------------------------------------------------------------------------------------------------------


def bounded(model, slots) -> Engine:
    """An engine whose pool holds so many tokens at the most."""
    probe = Engine(model.parts.text, model.config.deepstack_levels)
    budget = MemoryBudget(slots * probe.memory._slot_bytes, slots * probe.memory._slot_bytes)
    return Engine(model.parts.text, model.config.deepstack_levels, budget=budget, slots=128)


def test_rows_that_outgrow_the_memory_wait_and_lose_nothing(model, engine):
    prompts = [text(100, seed) for seed in range(4)]
    how = [Sampling(1.0, seed=seed) for seed in range(4)]
    wanted = replies(engine, prompts, 60, how)
    small = bounded(model, 512)
    tasks = [task(prompt, 60, one) for prompt, one in zip(prompts, how, strict=True)]
    assert run(small, tasks) == wanted
    assert small.memory.pool.slots <= 512


def test_what_can_never_fit_is_refused(model):
    small = bounded(model, 512)
    with pytest.raises(omni.InputError, match="more than the 512 that the cache may hold") as error:
        run(small, [task(text(100), 500)])
    assert error.value.code == "cache_full"
    assert len(run(small, [task(text(100), 413)])[0]) == 413


def test_a_beginning_that_was_read_is_not_read_again(engine, monkeypatch):
    counts, read = [], engine.read
    monkeypatch.setattr(engine, "read", lambda rows, n, *more: counts.append(sum(n)) or read(rows, n, *more))
    first = text(300, 1)
    (reply,) = replies(engine, [first], 5)
    later = first.followed_by(reply).followed_by([1, 2, 3])
    tasks = [task(later, 5), task(first, 5), task(text(300, 2), 5)]
    wanted = [run(Engine(engine.decoder, 3), [task(one.prompt, 5)])[0] for one in tasks]
    counts.clear()
    for one, reply, read_now in zip(tasks, wanted, (4, 1, 300), strict=True):
        assert run(engine, [one]) == [reply]
        assert one.cached_tokens == len(one.prompt) - read_now and sum(counts) == read_now
        counts.clear()


def test_a_beginning_is_shared_with_a_row_that_runs(engine):
    """And copied: neither sees what the other goes on with."""
    start = text(200, 1)
    prompts = [start.followed_by([1]), start.followed_by([2, 3]), start.followed_by([4])]
    wanted = [replies(engine, [prompt], 6)[0] for prompt in prompts]
    engine.memory.reset()
    scheduler, tasks = Scheduler(engine), [task(prompt, 6) for prompt in prompts]
    scheduler.add(tasks[0])
    while not tasks[0].reply:
        scheduler.step()
    for one in tasks[1:]:
        scheduler.add(one)
    while scheduler.step():
        pass
    assert [one.reply for one in tasks] == wanted
    assert [one.cached_tokens for one in tasks] == [0, 200, 200]


def test_the_least_recently_used_is_forgotten_first(model):
    small = bounded(model, 512)
    prompts = [text(120, seed) for seed in range(4)]
    for prompt in prompts:
        run(small, [task(prompt, 1)])
    run(small, [task(prompts[0], 1)])
    run(small, [task(text(120, 9), 1)])  # there is no memory left for the second
    cached = []
    for prompt in (prompts[0], prompts[1]):
        one = task(prompt, 1)
        run(small, [one])
        cached.append(one.cached_tokens)
    assert cached == [119, 0]
