"""Many callers of one model: each its own answer, whoever drives, and nothing left running."""

import gc
import threading
import time

import numpy as np
import pytest

import omni
from omni.generation import programs
from tests.omni.scheduling import text

USER = [[{"role": "user", "content": f"Question {i}: what is {'so ' * i}blue?"}] for i in range(16)]
OPTIONS = [
    {"max_new_tokens": 3 + i % 5, "temperature": float(i % 3), "seed": i, "top_k": 10 * (i % 2), "logprobs": i % 2}
    for i in range(16)
]


@pytest.fixture(scope="module")
def alone(model):
    return [model.generate(messages, **how) for messages, how in zip(USER, OPTIONS, strict=True)]


def in_threads(calls):
    """What each call gave, all of them at once."""
    found, errors = [None] * len(calls), []

    def run(i):
        try:
            found[i] = calls[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return found


def same(found, wanted):
    assert [reply.token_ids for reply in found] == [reply.token_ids for reply in wanted]
    assert [reply.text for reply in found] == [reply.text for reply in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.logprobs is None) == (theirs.logprobs is None)
        if mine.logprobs is not None:
            np.testing.assert_allclose(
                [one.logprob for one in mine.logprobs], [o.logprob for o in theirs.logprobs], atol=1e-4
            )


@pytest.fixture(scope="module")
def engine(model):
    with model.serve(max_batch=4, max_length=256) as engine:
        yield engine


def test_sixteen_threads_each_get_their_own_answer(model, engine, alone):
    same(in_threads([lambda i=i: engine.submit(USER[i], **OPTIONS[i]).result() for i in range(16)]), alone)


def test_sixteen_threads_without_an_engine(model, alone):
    """Whoever waits drives; generate, stream and chat share one batch."""

    def stream(i):
        return "".join(model.stream(USER[i], **OPTIONS[i]))

    calls = [lambda i=i: model.generate(USER[i], **OPTIONS[i]) if i % 2 else stream(i) for i in range(16)]
    found = in_threads(calls)
    same(found[1::2], alone[1::2])
    assert found[::2] == [reply.text for reply in alone[::2]]
    assert not len(model.generator.dispatcher.scheduler)


def test_pieces_join_to_the_reply(engine, alone):
    tickets = [engine.submit(messages, **how) for messages, how in zip(USER, OPTIONS, strict=True)]
    for ticket, reply in zip(tickets, alone, strict=True):
        assert "".join(ticket) == reply.text == ticket.result().text
        assert ticket.done


def test_a_cancelled_request_ends_and_no_other(engine, alone):
    long = engine.submit(USER[0], max_new_tokens=200, temperature=0)
    other = engine.submit(USER[1], **OPTIONS[1])
    long.cancel()
    with pytest.raises(omni.InputError) as error:
        long.result()
    assert error.value.code == "cancelled"
    same([other.result()], alone[1:2])


def test_leaving_a_loop_cancels(engine):
    ticket = engine.submit(USER[0], max_new_tokens=200, temperature=0)
    for _ in ticket:
        break
    gc.collect()
    while not ticket.done:
        time.sleep(0.01)
    assert len(ticket.partial().token_ids) < 200


def test_an_exception_in_a_consumer_is_its_own(engine, alone):
    with pytest.raises(ZeroDivisionError):
        for _ in engine.submit(USER[0], max_new_tokens=100):
            raise ZeroDivisionError
    same([engine.submit(USER[2], **OPTIONS[2]).result()], alone[2:3])


def test_a_deadline_is_the_requests_own(engine, alone):
    other = engine.submit(USER[1], **OPTIONS[1])
    with pytest.raises(omni.InputError) as error:
        engine.submit(USER[0], max_new_tokens=250, deadline=0.05).result()
    assert error.value.code == "deadline"
    same([other.result()], alone[1:2])


def test_a_timeout_leaves_the_request_going(engine):
    ticket = engine.submit(USER[0], max_new_tokens=60, temperature=0)
    with pytest.raises(TimeoutError):
        ticket.result(timeout=0)
    assert ticket.result().usage.completion_tokens <= 60


def test_a_full_queue_refuses_or_waits(model, alone):
    with model.serve(max_batch=1, max_length=512, max_queue=2) as engine:
        tickets = [engine.submit(USER[0], max_new_tokens=300, temperature=0)]
        with pytest.raises(omni.InputError, match="2 requests wait already") as error:
            for _ in range(4):
                tickets.append(engine.submit(USER[1], **OPTIONS[1], wait=False))
        assert error.value.code == "queue_full" and len(tickets) in (2, 3, 4)
        tickets[0].cancel()
        waited = engine.submit(USER[2], **OPTIONS[2])
        same([waited.result()], alone[2:3])
        same([ticket.result() for ticket in tickets[1:]], [alone[1]] * len(tickets[1:]))


def test_what_needs_more_than_the_cache_is_refused(model):
    with model.serve(max_batch=1, cache_bytes=1) as engine:
        with pytest.raises(omni.InputError) as error:
            engine.submit(USER[0], max_new_tokens=1000)
        assert error.value.code == "cache_full"


def test_a_closed_engine_ends_what_it_had_and_takes_no_more(model):
    before = threading.active_count()
    with model.serve(max_batch=2, max_length=256) as engine:
        tickets = [engine.submit(USER[0], max_new_tokens=200, temperature=0) for _ in range(4)]
    for ticket in tickets:
        assert ticket.done
        with pytest.raises(omni.InputError) as error:
            ticket.result()
        assert error.value.code == "cancelled"
    with pytest.raises(omni.InputError) as error:
        engine.submit(USER[0], max_new_tokens=9)
    assert error.value.code == "engine_closed"
    assert threading.active_count() == before


def test_an_engine_that_breaks_tells_who_waits(model, monkeypatch, alone):
    with model.serve(max_batch=2, max_length=256) as engine:
        whole = engine._generator.engine.step

        def broken(*_):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(engine._generator.engine, "step", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.submit(USER[0], max_new_tokens=9).result()
        monkeypatch.setattr(engine._generator.engine, "step", whole)
        same([engine.submit(USER[1], **OPTIONS[1]).result()], alone[1:2])


def test_nothing_is_compiled_after_warming_up(model):
    dice = np.random.default_rng(0)
    with model.serve(max_batch=4, max_length=512) as engine:
        assert engine.warm_up() <= 24
        engine.submit(USER[0], max_new_tokens=2).result()
        before = programs.prefill.count, programs.step.count, programs.choose._cache_size()
        tickets = []
        for i in range(40):
            ids = text(int(dice.integers(1, 400)), i).token_ids
            how = {
                "temperature": float(dice.uniform(0, 2)),
                "top_p": float(dice.uniform(0.1, 1)),
                "top_k": int(dice.integers(0, 200)),
                "repetition_penalty": float(dice.choice([1, 1.1])),
                "max_new_tokens": int(dice.integers(1, 6)),
            }
            tickets.append(engine.submit(ids, **how))
        for ticket in tickets:
            ticket.result()
        after = programs.prefill.count, programs.step.count, programs.choose._cache_size()
        assert after == before
