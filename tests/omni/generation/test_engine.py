"""The engine: cached equals uncached, in chunks equals at once, wherever rows stand in the pool."""

import numpy as np
import pytest

import omni
from omni.generation import memory as memory_module
from omni.generation import programs
from omni.generation.buckets import Buckets
from omni.generation.engine import Engine
from omni.options import Adjustments, Sampling
from omni.prompt.sequence import Prompt
from tests.golden.load import relative_error, with_media
from tests.omni.scheduling import GREEDY, beginning, replies, run, task, text


@pytest.fixture(params=["small", "large"])
def engine(model, request) -> Engine:
    """The same decoder as a small one, for which few shapes are to do, and as a large one."""
    assert Engine(model.parts.text)._small
    return Engine(model.parts.text, model.config.deepstack_levels, buckets=Buckets.of(request.param == "small"))


@pytest.fixture
def chunked(model) -> Engine:
    """Reads 16 tokens at a time."""
    return Engine(model.parts.text, model.config.deepstack_levels, buckets=Buckets((1, 4), (16,), 64))


@pytest.fixture(scope="module")
def crowded(model, golden) -> Prompt:
    """A picture, clips and a video with audio in 100-odd tokens."""
    messages = with_media(golden.case("together_sound").messages)
    for part in messages[0]["content"]:
        if part["type"] == "video":
            part["audio"] = omni.Audio(part["audio"], 16000)
    return model.prepare(messages).to_prompt()


def read(engine, prompt, *ends):
    """The scores after so many tokens of a prompt, read one part after another."""
    row, found = engine.open(prompt, len(prompt), GREEDY), []
    for end in ends:
        count = end - row.length
        found.append(np.asarray(engine.read([row], [count], engine.buckets.length(count), 1)[0]))
    engine.memory.close(row, hold=False)
    return found


def test_a_token_at_a_time_equals_all_at_once(chunked, crowded):
    """Media rows too, one by one."""
    wanted = chunked.logits(crowded)
    for i, found in enumerate(read(chunked, crowded, *range(1, len(crowded) + 1))):
        assert relative_error(found, wanted[i]) < 1e-5, i


def test_decoded_tokens_are_the_best_of_a_full_pass(engine, crowded):
    (tokens,) = replies(engine, [crowded], 12)
    whole = crowded.followed_by(tokens[:-1])
    np.testing.assert_array_equal(engine.logits(whole)[-12:].argmax(-1), tokens)


def test_chunks_equal_the_whole(engine, chunked, crowded):
    """Cut inside an image and inside a video with its audio."""
    prompts = [crowded, text(7), text(50), text(16)]
    assert replies(engine, prompts, 4) == replies(chunked, prompts, 4)
    assert relative_error(chunked.logits(crowded), engine.logits(crowded)) < 1e-5
    states = [one.states(crowded) for one in (engine, chunked)]
    assert relative_error(states[1].normed, states[0].normed) < 1e-5
    hidden = [one.hidden(prompts) for one in (engine, chunked)]
    assert hidden[0].shape == (4, engine.width)
    assert relative_error(hidden[1], hidden[0]) < 1e-5


def test_a_pool_that_grows_changes_nothing(model, engine):
    prompts = [text(14, 3), text(5, 4), text(1), text(300, 1)]
    wanted = replies(engine, prompts, 20)
    small = Engine(model.parts.text, model.config.deepstack_levels, slots=128)
    assert replies(small, prompts, 20) == wanted
    assert small.memory.pool.slots == 1024


def test_a_row_that_outgrows_its_region_moves(model):
    """One is extended where it stands; the other has a neighbour, and is copied elsewhere."""
    prompts = [text(120, 1), text(120, 2)]
    engine = Engine(model.parts.text, model.config.deepstack_levels)
    rows = [engine.open(prompt, 120, GREEDY) for prompt in prompts]
    engine.read(rows, [120, 120], engine.buckets.length(120), engine.buckets.batch(2))
    before = [row.offset for row in rows]
    assert engine.memory.reserve(rows[1], 200) and rows[1].offset == before[1]
    assert engine.memory.reserve(rows[0], 500) and rows[0].offset != before[0]
    assert not engine.memory.pool.keys.is_deleted()
    tokens, places = [5, 6], [120.0, 120.0]
    found = np.asarray(engine.step(rows, tokens, places))[:2]
    for i, prompt in enumerate(prompts):
        wanted = engine.logits(prompt.followed_by(tokens[i : i + 1]))[-1]
        assert relative_error(found[i], wanted) < 1e-5


def test_a_prompt_beyond_the_model_is_refused_before_memory_is_taken(engine, monkeypatch):
    monkeypatch.setattr(memory_module.HybridCache, "create", lambda *_: pytest.fail("a cache was made"))
    for call in (engine.logits, lambda prompt: run(engine, [task(prompt, 3)])):
        with pytest.raises(omni.InputError, match="65537 tokens long, the model reads 65536") as error:
            call(text(65537))
        assert error.value.code == "too_many_tokens"


def test_a_reply_ends_where_the_model_does(engine, monkeypatch):
    monkeypatch.setattr(engine, "max_tokens", 20)
    found = replies(engine, [text(16), text(10), text(16), text(3)], 30)
    # The last token is chosen and not read.
    assert [len(reply) for reply in found] == [5, 11, 5, 18]


# --- programs -------------------------------------------------------------------------------------------------------


def compiled_programs() -> tuple[int, ...]:
    return programs.prefill.count, programs.step.count, programs.choose._cache_size()


def test_prompts_with_and_without_media_share_a_program(engine, crowded):
    replies(engine, [text(60, 1)], 1)
    before = compiled_programs()
    assert beginning(crowded, 60).overlays
    replies(engine, [beginning(crowded, 60)], 1)
    assert compiled_programs() == before


def test_settings_lengths_and_batches_share_programs(model):
    engine = Engine(model.parts.text, model.config.deepstack_levels, slots=8192, places=16)
    dice = np.random.default_rng(0)
    for batch in (1, 3, 4, 16):
        replies(engine, [text(20, i) for i in range(batch)], 2)
    before = compiled_programs()
    for _ in range(12):
        count = int(dice.integers(1, 17))
        how = [
            Sampling(
                temperature=float(dice.choice([0, 0.3, 1.7])),
                top_p=float(dice.uniform(0.1, 1)),
                top_k=int(dice.choice([0, 1, 5, 500])),
                min_p=float(dice.choice([0, 0.1])),
                seed=int(dice.integers(1 << 32)),
                adjustments=some_adjustments(dice),
                logprobs=[None, 0, 5][int(dice.integers(3))],
            )
            for _ in range(count)
        ]
        prompts = [text(int(dice.integers(1, 100)), int(dice.integers(1000))) for _ in range(count)]
        replies(engine, prompts, int(dice.integers(1, 4)), how)
    assert compiled_programs() == before


def some_adjustments(dice):
    return Adjustments(
        repetition_penalty=float(dice.choice([1, 1.2])),
        presence_penalty=float(dice.choice([0, 0.5])),
        logit_bias={int(dice.integers(800)): 2.0} if dice.integers(2) else {},
        banned_tokens=tuple(dice.integers(0, 800, int(dice.integers(4))).tolist()),
    )
