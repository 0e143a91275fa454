"""The engine: cached equals uncached, in chunks equals at once, alone equals in a batch, whatever the cache's size."""

import numpy as np
import pytest
from load import relative_error, with_media

import omni
from omni.generation import engine as engine_module
from omni.generation.engine import Engine, Prompt, Session
from omni.generation.sampling import Sampling

GREEDY, SAMPLED = Sampling(), Sampling(1.0, top_p=0.9)
NO_ENDS: frozenset[int] = frozenset()


def text(length: int, seed: int = 0) -> Prompt:
    ids = np.random.RandomState(seed).randint(0, 856, length).astype(np.int32)
    return Prompt(ids, np.broadcast_to(np.arange(length, dtype=np.float32), (3, length)), float(length))


def beginning(prompt: Prompt, length: int) -> Prompt:
    """A prompt's first tokens, as an earlier turn would have held them."""
    return Prompt(prompt.token_ids[:length], prompt.position_ids[:, :length], 0.0, prompt.overlays)


def decode(engine: Engine, session: Session, steps: int, sampling: Sampling = GREEDY, seeds=None, ends=NO_ENDS):
    """int32 [steps, batch]."""
    batch = len(session.lengths)
    found = engine.decode(session, sampling, seeds or [0] * batch, steps, ends, np.ones(batch, bool))
    return np.stack(list(found))


@pytest.fixture(scope="module", params=["small", "large"])
def engine(model, request) -> Engine:
    """The same decoder as a small one, for which few lengths and capacities are to do, and as a large one."""
    engine = Engine(model.parts.text, model.config.deepstack_levels)
    assert engine._small
    engine._small = request.param == "small"
    return engine


@pytest.fixture(scope="module")
def crowded(model, golden) -> Prompt:
    """A picture, clips and a heard film in 100-odd tokens."""
    messages = with_media(golden.case("together_sound").messages)
    for part in messages[0]["content"]:
        if part["type"] == "video":
            part["audio"] = omni.Audio(part["audio"], 16000)
    return model.prepare(messages).to_prompt()


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(engine_module, "PREFILL_LENGTHS", (16,))


def test_a_token_at_a_time_equals_all_at_once(engine, crowded, small_chunks):
    """Media rows too, one by one."""
    wanted = engine.logits(crowded)
    session = engine.start([beginning(crowded, 1)])
    for i in range(1, len(crowded)):
        engine.extend(session, [beginning(crowded, i + 1)], [i])
        assert relative_error(np.asarray(session.logits[0]), wanted[i]) < 1e-5, i


def test_decoded_tokens_are_the_best_of_a_full_pass(engine, crowded):
    tokens = decode(engine, engine.start([crowded]), 12)[:, 0]
    steps = crowded.next_position + np.arange(11, dtype=np.float32)
    whole = Prompt(
        np.concatenate([crowded.token_ids, tokens[:-1]]),
        np.concatenate([crowded.position_ids, np.broadcast_to(steps, (3, 11))], axis=1),
        crowded.next_position + 11,
        crowded.overlays,
    )
    np.testing.assert_array_equal(engine.logits(whole)[-12:].argmax(-1), tokens)


def test_chunks_equal_the_whole(engine, crowded, monkeypatch):
    """Cut inside a picture and inside a film with its sound."""
    prompts = [crowded, text(7), text(50), text(16)]
    whole, every = engine.start(prompts), engine.logits(crowded)
    monkeypatch.setattr(engine_module, "PREFILL_LENGTHS", (16,))
    cut = engine.start(prompts)
    assert relative_error(np.asarray(cut.logits), np.asarray(whole.logits)) < 1e-5
    assert relative_error(engine.logits(crowded), every) < 1e-5
    np.testing.assert_array_equal(cut.lengths, [len(prompt) for prompt in prompts])
    np.testing.assert_array_equal(cut.cache.lengths, cut.lengths)
    np.testing.assert_array_equal(cut.next_positions, [crowded.next_position, 7, 50, 16])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_alone_equals_in_a_batch(engine, crowded, sampling):
    prompts, seeds = [text(3), crowded, text(40, 1), text(16, 2)], [5, 6, 7, 8]
    together = decode(engine, engine.start(prompts), 10, sampling, seeds)
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = decode(engine, engine.start([prompt]), 10, sampling, [seed])
        np.testing.assert_array_equal(together[:, i], alone[:, 0])
    backwards = decode(engine, engine.start(prompts[::-1]), 10, sampling, seeds[::-1])
    np.testing.assert_array_equal(backwards[:, ::-1], together)


def test_a_row_follows_its_seed_and_no_other(engine):
    session = [engine.start([text(16)] * 4) for _ in range(2)]
    first = decode(engine, session[0], 10, SAMPLED, [1, 2, 1, (1 << 32) - 1])
    second = decode(engine, session[1], 10, SAMPLED, [1, 3, 4, 2])
    np.testing.assert_array_equal(first[:, 0], first[:, 2])
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    np.testing.assert_array_equal(first[:, 1], second[:, 3])
    assert len({tuple(row) for row in np.concatenate([first, second], axis=1).T}) == 5


def test_an_end_token_ends_its_row_alone(engine):
    prompts = [text(16, seed) for seed in range(4)]
    free = decode(engine, engine.start(prompts), 10)
    end = int(free[3, 1])
    found = decode(engine, engine.start(prompts), 10, ends=frozenset({end}))
    for row in range(4):
        at = np.flatnonzero(free[:, row] == end)
        last = at[0] if len(at) else 9
        np.testing.assert_array_equal(found[: last + 1, row], free[: last + 1, row])
        assert (found[last + 1 :, row] == -1).all()


def test_a_row_that_the_caller_clears_has_ended(engine):
    prompts, ended = [text(16, seed) for seed in range(4)], 3
    free, session, active = decode(engine, engine.start(prompts), 8), engine.start(prompts), np.ones(4, bool)
    found = []
    for step, tokens in enumerate(engine.decode(session, GREEDY, [0] * 4, 8, NO_ENDS, active)):
        found.append(tokens.copy())
        if step == 2:
            active[ended] = False
    np.testing.assert_array_equal(np.stack(found)[:, :ended], free[:, :ended])
    np.testing.assert_array_equal(np.stack(found)[:, ended], [*free[:3, ended], -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(session.lengths, [16 + 7] * 3 + [16 + 2])
    np.testing.assert_array_equal(session.cache.lengths, session.lengths)


def test_decoding_stops_when_every_row_has_ended(engine):
    active = np.ones(1, bool)
    for steps, _ in enumerate(engine.decode(engine.start([text(16)]), GREEDY, [0], 50, NO_ENDS, active), start=1):
        active[:] = steps < 4
    assert steps == 4


def test_a_cache_that_grows_changes_nothing(engine, monkeypatch):
    prompts = [text(14, 3), text(5, 4), text(1), text(9)]
    wanted = decode(engine, engine.start(prompts), 20)
    for name, value in (("_FIRST_CAPACITY", 16), ("_FIRST_CAPACITY_IF_SMALL", 16), ("_LEAST_LENGTH_IF_SMALL", 1)):
        monkeypatch.setattr(engine_module, name, value)
    session = engine.start(prompts)
    assert session.cache.capacity == 16
    np.testing.assert_array_equal(decode(engine, session, 20), wanted)
    assert session.cache.capacity == 64


def test_rewinding_forgets_what_came_after(engine, crowded):
    other = text(15)
    for length in (0, 1, 14):
        session = engine.start([other])
        decode(engine, session, 5)
        session.rewind(length)
        assert session.lengths.tolist() == [length]
        engine.extend(session, [other], [length])
        assert relative_error(np.asarray(session.logits), np.asarray(engine.start([other]).logits)) < 1e-5
    session.rewind(0)
    engine.extend(session, [crowded], [0])
    assert relative_error(np.asarray(session.logits), np.asarray(engine.start([crowded]).logits)) < 1e-5


def test_decoding_needs_a_prefill(engine):
    session = engine.start([text(16)])
    session.rewind(3)
    with pytest.raises(ValueError, match="logits of a prefill"):
        decode(engine, session, 1)


def test_a_prompt_beyond_the_model_is_refused_before_memory_is_taken(engine, monkeypatch):
    monkeypatch.setattr(engine_module.KVCache, "create", lambda *_: pytest.fail("a cache was made"))
    for call in (engine.logits, lambda prompt: engine.start([text(3), prompt])):
        with pytest.raises(omni.InputError, match="65537 tokens long, the model reads 65536") as error:
            call(text(65537))
        assert error.value.code == "too_many_tokens"


def test_a_reply_ends_where_the_model_does(engine, monkeypatch):
    monkeypatch.setattr(engine, "_max_tokens", 20)
    session = engine.start([text(16), text(10), text(16), text(3)])
    found = decode(engine, session, 30)
    # The last token is chosen and not read.
    assert (found >= 0).sum(axis=0).tolist() == [5, 11, 5, 18]
    assert session.lengths.tolist() == [20] * 4


def test_prompts_with_and_without_media_share_a_program(engine, crowded):
    short = beginning(crowded, 60)
    engine.start([text(60)])
    before = engine_module._prefill.count
    assert short.overlays and not text(60).overlays
    engine.start([short])
    assert engine_module._prefill.count == before


def test_a_small_decoder_reads_short_prompts_through_one_program(model):
    engine = Engine(model.parts.text, model.config.deepstack_levels)
    engine.start([text(100)])
    before = engine_module._prefill.count
    for n in (1, 17, 40):
        assert engine.start([text(n)]).cache.capacity == 1024
    assert engine_module._prefill.count == before
    # Of many rows pads would cost more than a program.
    assert engine.start([text(n) for n in (1, 2, 3, 4, 5)]).cache.capacity == 256


def test_another_temperature_compiles_no_decoder(engine):
    session = engine.start([text(16)])
    decode(engine, session, 2)
    before = engine_module._step.count
    for temperature in (0.3, 0.31):
        engine.extend(session, [text(16)], [15])
        decode(engine, session, 2, Sampling(temperature, top_k=5))
    assert engine_module._step.count == before
