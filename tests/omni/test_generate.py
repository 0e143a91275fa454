"""Generation: batches, seeds, stops, streams, and the engine below them."""

import numpy as np
import pytest

import omni
from omni.generation import engine as engine_module
from omni.generation.text import TextStream

TALK = [
    [{"role": "user", "content": text}]
    for text in ("Hi", "Tell me about the sea, at length, and mind the gulls.", "1 2 3", "A longer question? " * 12)
]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


def ids(replies):
    return [reply.token_ids for reply in replies]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9, "seed": 7}])
def test_alone_equals_in_a_batch(model, options):
    options = {"max_new_tokens": 8, **options}
    together = model.generate(TALK, **options)
    assert ids(together) == [model.generate(talk, **options).token_ids for talk in TALK]
    assert ids(model.generate(TALK[::-1], batch_size=3, **options)) == ids(together)[::-1]


def test_seeds(model):
    options = {"max_new_tokens": 8, "temperature": 1.0}
    first = model.generate([TALK[0]] * 2, seed=[1, 2], **options)
    assert first[0].token_ids != first[1].token_ids
    assert ids(model.generate([TALK[0]] * 2, seed=[2, 1], **options)) == ids(first)[::-1]
    unseeded = [tuple(model.generate(TALK[0], **options).token_ids) for _ in range(4)]
    assert len(set(unseeded)) > 1


def test_a_stream_is_the_reply_in_pieces(model):
    options = {"max_new_tokens": 24, "temperature": 1.0, "seed": 3}
    reply = model.generate(TALK[1], **options)
    pieces = list(model.stream(TALK[1], **options))
    assert len(pieces) > 1
    assert "".join(pieces) == reply.text == model.tokenizer.decode(reply.token_ids)


def test_stop_strings_end_a_reply_before_them(model):
    options = {"max_new_tokens": 24, "temperature": 1.0, "seed": 3}
    text = model.generate(TALK[1], **options).text
    stop = text[5:8]
    reply = model.generate(TALK[1], stop=[stop], **options)
    assert reply.text == text[: text.index(stop)]
    assert reply.finish_reason == "stop"
    assert "".join(model.stream(TALK[1], stop=[stop], **options)) == reply.text


def test_token_ids_in_token_ids_out(model):
    prompt = model.prepare(TALK[1]).token_ids.tolist()
    options = {"max_new_tokens": 5, "temperature": 0.0}
    assert model.generate(prompt, **options).token_ids == model.generate(TALK[1], **options).token_ids
    assert model.generate(np.asarray(prompt), **options).token_ids == model.generate(prompt, **options).token_ids
    np.testing.assert_array_equal(model.logits(prompt), model.logits(model.prepare(TALK[1])))


def test_an_end_token_ends_and_is_not_part_of_the_reply(model):
    prompt = model.prepare(TALK[0])
    first = model.generate(TALK[0], max_new_tokens=4, temperature=0.0).token_ids
    session = model.engine.start([prompt.to_prompt()])
    steps = list(
        model.engine.decode(
            session, omni.generation.sampling.Sampling(), [0], 9, frozenset({first[2]}), np.ones(1, bool)
        )
    )
    assert [int(step[0]) for step in steps] == first[:3]


def test_chunks_of_a_prompt_change_nothing(model, monkeypatch):
    whole = model.engine.start([model.prepare(talk).to_prompt() for talk in TALK]).logits
    monkeypatch.setattr(engine_module, "PREFILL_LENGTHS", (16,))
    cut = model.engine.start([model.prepare(talk).to_prompt() for talk in TALK]).logits
    np.testing.assert_allclose(np.asarray(cut), np.asarray(whole), atol=2e-4)


def test_a_cache_that_grows_changes_nothing(model):
    long = model.generate(TALK[3], max_new_tokens=330, temperature=0.0)
    assert len(long.token_ids) > 256 or long.finish_reason == "stop"
    tail = model.prepare(TALK[3]).token_ids.tolist() + long.token_ids[:-1]
    assert int(model.logits(tail)[-1].argmax()) == long.token_ids[-1]


def test_rewinding(model):
    one, two = (model.prepare(talk).to_prompt() for talk in TALK[:2])
    session = model.engine.start([one])
    session.rewind(2)
    model.engine.extend(session, [two], [2])
    np.testing.assert_allclose(np.asarray(session.logits), np.asarray(model.engine.start([two]).logits), atol=2e-4)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_new_tokens": 0}, "bad_max_new_tokens"),
        ({"temperature": -1.0}, "bad_temperature"),
        ({"seed": -1}, "bad_seed"),
        ({"seed": [1, 2]}, "bad_seed"),
        ({"batch_size": 0}, "bad_batch_size"),
    ],
)
def test_bad_options(model, options, code):
    with pytest.raises(omni.InputError) as error:
        model.generate(TALK[0], **options)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("messages", "code"),
    [([], "bad_messages"), ("Hello", "bad_messages"), ([10**9], "bad_token_ids"), ([-1], "bad_token_ids")],
)
def test_bad_messages(model, messages, code):
    with pytest.raises(omni.InputError) as error:
        model.generate(messages)
    assert error.value.code == code


def test_a_conversation_beyond_the_models_length(model):
    with pytest.raises(omni.InputError) as error:
        model.generate([5] * (model.config.text.max_position_embeddings + 1))
    assert error.value.code == "too_many_tokens"


@pytest.mark.parametrize("stop", [["gull"], ["s and"], ["g", "boats come"], ["never"]])
def test_stops_are_found_across_tokens(model, stop):
    text = "The first boats come in, gulls and 🎉 all."
    stream = TextStream(model.tokenizer, stop)
    shown = ""
    for token in model.tokenizer.encode(text):
        shown += stream.push(token)
        if stream.stopped:
            break
    shown += stream.flush()
    ends = [text.index(s) for s in stop if s in text]
    assert shown == stream.text == text[: min(ends, default=len(text))]
    assert stream.stopped == bool(ends)
