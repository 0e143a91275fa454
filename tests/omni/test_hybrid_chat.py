"""A conversation over a model whose linear layers keep a state that cannot be cut back."""

import json
import shutil

import jax
import pytest

import omni
from omni.generation.engine import Engine
from omni.generation.memory import MemoryBudget
from tests.golden import text_families, tiny
from tests.omni.scheduling import afresh, replies, run, task, text

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


@pytest.mark.parametrize("cut", [False, True])
def test_every_turn_answers_as_if_all_were_read_afresh(model, monkeypatch, cut):
    """Where an answer was changed, the states after the message before it serve, and nothing later."""
    seen, prepare = [], model.prepare_turn
    model.engine.memory.reset()
    monkeypatch.setattr(model, "prepare_turn", lambda *args: seen.append(prepare(*args)) or seen[-1])
    chat = model.chat(system="You are terse.", **OPTIONS)
    before = ends = 0
    for turn, said in enumerate(("Hello.", "What is the sea?", "And the sky?")):
        if cut and turn:
            # What was said is then encoded from its text, and not all of its tokens are those of the answer.
            chat._reusable = None
            chat._encoded[-1] = {"role": "assistant", "content": "Something else."}
        reply = chat.send(said)
        prompt = seen[-1].to_prompt(model.generator.message_ends)
        assert reply.token_ids == afresh(model, prompt, OPTIONS["max_new_tokens"])
        if not turn:
            assert not reply.usage.cached_tokens
        elif cut:
            assert reply.usage.cached_tokens == ends
        else:
            assert reply.usage.cached_tokens == before
        before = reply.usage.prompt_tokens + len(reply.token_ids) - 1
        ends = prompt.message_ends[-1]


def test_states_serve_their_own_beginning_alone(model):
    prompt = model.prepare(list(range(20))).to_prompt()
    engine = Engine(model.parts.text)
    (reply,) = replies(engine, [prompt], 3)
    for more, cached in (([*reply[:2], 7], 22), ([7, 7], 20), (None, 0)):
        later = model.prepare(list(range(19))).to_prompt() if more is None else prompt.followed_by(more)
        one = task(later, 3)
        assert run(engine, [one]) == [afresh(model, later, 3)]
        assert one.cached_tokens == cached


def test_states_are_kept_within_the_budget(model):
    probe = Engine(model.parts.text)
    size, slot = probe.memory._state_bytes, probe.memory._slot_bytes
    engine = Engine(model.parts.text, budget=MemoryBudget(1 << 30, 2 * size + 1), slots=8192)
    assert size > 0 and slot > 0
    prompts = [text(20, seed) for seed in range(4)]
    for prompt in prompts:
        replies(engine, [prompt], 1)
        kept = [states for row in engine.memory.held for states in row.states.values()]
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(kept)) <= 2 * size
    one, two = task(prompts[3].followed_by([1]), 1), task(prompts[0].followed_by([1]), 1)
    run(engine, [one])
    run(engine, [two])
    assert (one.cached_tokens, two.cached_tokens) == (20, 0)
