"""Later turns read only what is new, no medium is encoded twice, and a failure leaves the conversation as it was."""

import media
import numpy as np
import pytest

import omni
from omni.generation.sampling import Sampling

OPTIONS = {"max_new_tokens": 6, "temperature": 0.0}


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


@pytest.fixture
def seen(model, monkeypatch):
    """How many media each call of a tower has encoded."""
    counts: list[int] = []
    encode = type(model.media.vision).encode
    monkeypatch.setattr(
        type(model.media.vision), "encode", lambda self, p, g: (counts.append(len(g)), encode(self, p, g))[1]
    )
    return counts


@pytest.fixture
def prepared(model, monkeypatch):
    """The inputs of each turn, as the chat made them."""
    found = []
    prepare = model.prepare_turn
    monkeypatch.setattr(model, "prepare_turn", lambda *args: (found.append(prepare(*args)), found[-1])[1])
    return found


def afresh(model, inputs, steps):
    """The greedy answer to the same tokens, with nothing in the cache."""
    session = model.engine.start([inputs.to_prompt()])
    ends = model.options(1, 1, None, None, None, 0, ()).ends
    tokens = [int(t[0]) for t in model.engine.decode(session, Sampling(), [0], steps, ends, np.ones(1, bool))]
    return [token for token in tokens if token not in ends]


def test_every_turn_answers_as_if_all_were_read_afresh(model, seen, prepared):
    chat = model.chat(system="You are terse.", **OPTIONS)
    turns = [("What is this?", [media.image("small")]), ("And this?", [media.image("odd")]), ("Compare them.", [])]
    for number, (text, pictures) in enumerate(turns):
        before = len(seen)
        reply = chat.send(text, *pictures)
        assert sum(seen[before:]) == len(pictures)
        assert reply.token_ids == afresh(model, prepared[-1], OPTIONS["max_new_tokens"])
        assert reply.usage.prompt_tokens == len(prepared[-1].token_ids)
        assert (reply.usage.cached_tokens > 0) == (number > 0)
    assert [m["role"] for m in chat.messages] == ["system"] + ["user", "assistant"] * 3
    assert chat.messages[-1]["content"] == reply.text


def test_later_turns_read_only_what_is_new(model):
    chat = model.chat(**OPTIONS)
    first = chat.send("Tell me of the sea.", media.image("small"))
    held = first.usage.prompt_tokens + len(first.token_ids) - 1
    second = chat.send("More.")
    # All but the answer's last token, which was chosen and not read, is still there.
    if not set(first.token_ids) & set(model.tokenizer.control_tokens.values()):
        assert second.usage.cached_tokens >= held
    assert second.usage.cached_tokens < second.usage.prompt_tokens


def test_the_same_size_is_not_the_same_picture(model, prepared):
    chat = model.chat(**OPTIONS)
    chat.send("What is this?", media.image("small"))
    other = media.image("small")[::-1].copy()
    reply = chat.send("And this?", other)
    assert reply.token_ids == afresh(model, prepared[-1], OPTIONS["max_new_tokens"])


@pytest.mark.parametrize("bad", ["no-such-file.jpg", b"neither picture nor sound"])
def test_a_failure_leaves_the_conversation_as_it_was(model, bad):
    chat = model.chat(**OPTIONS)
    chat.send("Hello.")
    said = list(chat.messages)
    with pytest.raises(omni.InputError):
        chat.send("What is this?", bad)
    assert chat.messages == said
    assert chat.send("And now?").usage.cached_tokens > 0


def test_a_stream_gives_the_text_of_the_reply(model):
    chat, other = model.chat(**OPTIONS), model.chat(**OPTIONS)
    pieces = list(chat.stream("Hello.", media.image("small")))
    assert "".join(pieces) == chat.reply.text == other.send("Hello.", media.image("small")).text


def test_an_answer_that_is_left_in_the_middle_stands(model, prepared):
    chat = model.chat(max_new_tokens=30, temperature=0.0)
    stream = chat.stream("Hello.")
    heard = next(stream)
    stream.close()
    assert chat.messages[-1]["role"] == "assistant" and chat.messages[-1]["content"].startswith(heard)
    assert chat.send("Go on.", max_new_tokens=3).token_ids == afresh(model, prepared[-1], 3)


def test_content_lists(model):
    chat = model.chat(**OPTIONS)
    reply = chat.send(["Look:", {"type": "image", "image": media.image("small")}, {"type": "text", "text": "well?"}])
    assert reply.usage.prompt_tokens > 6
    with pytest.raises(omni.InputError, match="either text and media"):
        chat.send(["Look:"], media.image("small"))


def test_an_unknown_option(model):
    with pytest.raises(TypeError, match="unknown options max_tokens"):
        model.chat(max_tokens=3)
