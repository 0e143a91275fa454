"""A conversation over a model whose linear layers keep a state that cannot be cut back."""

import json
import shutil

import numpy as np
import pytest
import text_families
import tiny

import omni
from omni.generation.sampling import Sampling

OPTIONS = {"max_new_tokens": 6, "temperature": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("hybrid")
    vocabulary = len(json.loads(tiny.TOKENIZER.read_text("utf-8"))["model"]["vocab"]) + 64
    config = text_families.CONFIGS["qwen3_5_text"] | {"vocab_size": vocabulary}
    (directory / "config.json").write_text(json.dumps(config))
    tiny.write_safetensors(directory / "model.safetensors", dict(text_families.tensors(config)))
    shutil.copyfile(tiny.TOKENIZER, directory / "tokenizer.json")
    return omni.load(directory)


def afresh(model, inputs) -> list[int]:
    session = model.engine.start([inputs.to_prompt()])
    steps = OPTIONS["max_new_tokens"]
    return [int(t[0]) for t in model.engine.decode(session, Sampling(), [0], steps, frozenset(), np.ones(1, bool))]


@pytest.mark.parametrize("cut", [False, True])
def test_every_turn_answers_as_if_all_were_read_afresh(model, monkeypatch, cut):
    seen, prepare = [], model.prepare_turn
    monkeypatch.setattr(model, "prepare_turn", lambda *args: seen.append(prepare(*args)) or seen[-1])
    chat = model.chat(system="You are terse.", **OPTIONS)
    for turn, text in enumerate(("Hello.", "What is the sea?", "And the sky?")):
        read = None if chat._read is None else len(chat._read.token_ids)
        if cut and turn:
            # What was said is then encoded from its text, and not all of its tokens are those of the answer.
            chat._spoken = None
            chat._encoded[-1] = {"role": "assistant", "content": "Something else."}
        reply = chat.send(text)
        assert reply.token_ids == afresh(model, seen[-1])
        assert reply.usage.cached_tokens == (0 if cut or not turn else read)


def test_a_session_that_is_cut_back_holds_nothing(model):
    prompt = model.prepare(list(range(20))).to_prompt()
    session = model.engine.start([prompt])
    assert session.rewind(30) == 20
    assert session.rewind(20) == 20
    assert session.rewind(19) == 0
    assert session.lengths.tolist() == [0]
    model.engine.extend(session, [prompt], [0])
    np.testing.assert_allclose(session.logits, model.engine.start([prompt]).logits, rtol=1e-4, atol=1e-4)
