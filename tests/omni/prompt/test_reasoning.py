"""Thoughts are told apart from the answer whatever pieces they come in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.prompt.reasoning import opens_thought
from omni.prompt.reply_stream import ReasoningDelta, ReplyFormat, ReplyStream, TextDelta, ToolCallDelta
from omni.prompt.tool_calls import ToolCall
from tests.omni.prompt.tool_call_cases import NOW, TOOLS, hermes

THINKS = ReplyFormat(thinks=True)
OPENED = ReplyFormat(thinks=True, opened=True)
CALLS = ReplyFormat(thinks=True, opened=True, calls="json", tools=tuple(TOOLS))

# Name -> format, raw text, thoughts, text, number of calls.
CASES = {
    "an answer": (THINKS, "Yes.", "", "Yes.", 0),
    "nothing": (THINKS, "", "", "", 0),
    "white space": (THINKS, " \n", "", " \n", 0),
    "a thought": (THINKS, "<think>\nHm,\nso.\n</think>\n\nYes.", "Hm,\nso.", "Yes.", 0),
    "a thought after white space": (THINKS, "\n<think>Hm.</think>Yes.\n", "Hm.", "Yes.\n", 0),
    "an empty thought": (THINKS, "<think>\n\n</think>\n\nYes.", "", "Yes.", 0),
    "a thought that is not ended": (THINKS, "<think>\nHm, <b", "Hm, <b", "", 0),
    "a thought that ends in a part of its end": (THINKS, "<think>Hm</thi", "Hm</thi", "", 0),
    "a thought later": (THINKS, "Yes. <think>Hm.</think>", "", "Yes. <think>Hm.</think>", 0),
    "a tag that only begins": (THINKS, "<thin> air", "", "<thin> air", 0),
    "the beginning of a tag": (THINKS, "<thi", "", "<thi", 0),
    "two ends": (THINKS, "<think>a</think>b</think>c", "a", "b</think>c", 0),
    "a prompt that opened it": (OPENED, "Hm.\n</think>\n\nYes.", "Hm.", "Yes.", 0),
    "opened, and never closed": (OPENED, "\nHm.\n\nHm.\n", "Hm.\n\nHm.", "", 0),
    "opened, and closed at once": (OPENED, "</think>Yes.", "", "Yes.", 0),
    "text without thoughts": (ReplyFormat(), "<think>Hm.</think>Yes.", "", "<think>Hm.</think>Yes.", 0),
    "a call after a thought": (CALLS, f"Hm.\n</think>\n\n{hermes(NOW)}", "Hm.", "", 1),
    "a call, text and a thought": (CALLS, f"Hm.</think>\n\nNow.\n{hermes(NOW)}", "Hm.", "Now.", 1),
    "a call that ends a thought": (CALLS, f"Hm.\n{hermes(NOW)}", "Hm.", "", 1),
    "a thought about calls": (CALLS, "A <tool_call> is it?\n</think>\nNo.", "A <tool_call> is it?", "No.", 0),
}


def parsed(format, pieces):
    stream = ReplyStream(format)
    deltas = [delta for piece in pieces for delta in stream.push(piece)] + stream.flush()
    told = {kind: "".join(d.text for d in deltas if type(d) is kind) for kind in (ReasoningDelta, TextDelta)}
    calls = [delta.call for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert (told[ReasoningDelta], told[TextDelta], calls) == (stream.reasoning, stream.text, stream.tool_calls)
    assert [d.index for d in deltas if isinstance(d, ToolCallDelta)] == list(range(len(calls)))
    return stream.reasoning, stream.text, len(calls)


@pytest.mark.parametrize("name", CASES)
def test_replies_whole_and_cut_at_every_character(name):
    format, raw, *wanted = CASES[name]
    assert parsed(format, [raw]) == tuple(wanted)
    assert parsed(format, raw) == tuple(wanted)
    for at in range(len(raw)):
        assert parsed(format, [raw[:at], raw[at:]]) == tuple(wanted)


PARTS = ["<think>", "</think>", "\n", " ", "x", "<", "think>", *hermes(NOW).split("\n")]


@settings(max_examples=40)
@given(st.sampled_from([THINKS, OPENED, CALLS]), st.lists(st.sampled_from(PARTS), max_size=12))
def test_the_cuts_do_not_matter(format, parts):
    raw = "".join(parts)
    assert parsed(format, raw) == parsed(format, [raw]) == parsed(format, parts)


def test_thoughts_are_told_as_they_come():
    stream = ReplyStream(CALLS)
    assert stream.push("Hm") == [ReasoningDelta("Hm")]
    assert stream.push(", so</th") == [ReasoningDelta(", so")]
    assert stream.push("ink>\n\nYes") == [TextDelta("Yes")]
    assert stream.push(hermes(NOW)) == [ToolCallDelta(0, ToolCall("now", "{}"))]


def test_which_prompts_open_a_thought():
    ends = ("<|im_end|>",)
    assert opens_thought("<|im_end|>\n<|im_start|>assistant\n<think>\n", ends)
    assert opens_thought("<think>a</think>b<|im_end|><think>c", ends)
    assert not opens_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n", ends)
    assert not opens_thought("What is <think>?<|im_end|>\n<|im_start|>assistant\n", ends)
    assert not opens_thought("assistant\n", ends)
