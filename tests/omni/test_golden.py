"""Whole conversations, media and all, against the reference: token ids and positions exact, logits to 1e-5, greedy
continuations equal."""

import pytest

import omni
from tests.golden.load import CASES, assert_stages, end_tokens, prepared


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


def conversation(case):
    """A case in the public message format: a sound track given as an array says its rate."""
    messages = case.with_media()
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "video" and "audio" in part:
                part["audio"] = omni.Audio(part["audio"], 16000)
    return messages


@pytest.mark.parametrize("name", CASES)
def test_a_conversation(model, golden, name):
    case = golden.case(name)
    inputs = model.prepare(conversation(case))
    assert_stages(name, prepared(inputs) | {"logits": model.logits(inputs)[case.logits_at]}, case.stages)


def test_greedy_continuations_all_in_one_batch(model, golden):
    """Thirty conversations of different lengths side by side give each its own continuation."""
    ends = end_tokens(model)
    cases = [golden.case(name) for name in CASES]
    replies = model.generate([conversation(case) for case in cases], max_new_tokens=12, temperature=0.0)
    for case, reply in zip(cases, replies, strict=True):
        wanted = case.greedy
        stop = next((i for i, token in enumerate(wanted) if token in ends), len(wanted))
        assert reply.token_ids == wanted[:stop], case.name
        assert reply.finish_reason == ("stop" if stop < len(wanted) else "length")
