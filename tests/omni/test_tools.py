"""Tools: declared by the template, calls and thoughts told apart in replies, results as messages."""

import json

import numpy as np
import pytest

import omni
from omni.generation.engine import Choice, Engine
from omni.prompt.template import ChatTemplate
from tests.omni.prompt.tool_call_cases import coder, function, hermes
from tests.omni.prompt.tool_templates import CODER, HERMES

ASK = [{"role": "user", "content": "How warm is it in Paris?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather <|im_end|> of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
OTHER = {"type": "function", "function": {"name": "now", "description": "Tells the time."}}
CALLS = {
    HERMES: hermes('{"name": "weather", "arguments": {"city": "Paris", "days": 3}}'),
    CODER: coder(function("weather", city="Paris", days="3")),
}
ARGUMENTS = {"city": "Paris", "days": 3}


@pytest.fixture(scope="module")
def demo():
    return omni.load("demo", parts="text")


@pytest.fixture(params=[HERMES, CODER], ids=["hermes", "coder"])
def source(request):
    return request.param


@pytest.fixture
def model(demo, source, monkeypatch):
    """The demo with a template of either form."""
    monkeypatch.setattr(demo, "template", ChatTemplate(source))
    return demo


@pytest.fixture
def writes(monkeypatch, demo):
    """Makes the model write a text, and end."""

    def script(text, *, ends=True):
        tokens = demo.tokenizer.encode_prompt(text, "\ue000") + [demo.generation.eos_token_ids[0]] * ends

        def choose(self, logits, rows, how, steps, masks=()):
            chosen = np.asarray([tokens[min(step, len(tokens) - 1)] for step in steps], np.int32)
            rows = len(chosen)
            none = np.zeros((rows, 0), np.int32), np.zeros((rows, 0), np.float32)
            return Choice(chosen, np.zeros(rows, np.float32), *none)

        monkeypatch.setattr(Engine, "choose", choose)

    return script


def refused(call, *arguments, **options):
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    assert len(str(error.value)) <= 500
    return error.value.code


def test_tools_are_in_the_prompt_and_hold_no_control_token(model):
    inputs = model.prepare(ASK, tools=[TOOL, OTHER])
    for text in ("weather", "Tells the weather <|im_end|> of a city.", "now", "Tells the time."):
        assert text in inputs.prompt
    end = model.tokenizer.control_tokens["<|im_end|>"]
    assert (inputs.token_ids == end).sum() == 2
    assert model.prepare(ASK, tools=[]).prompt == model.prepare(ASK).prompt
    flat = {"type": "function", **TOOL["function"]}
    assert model.prepare(ASK, tools=[flat]).prompt == model.prepare(ASK, tools=[TOOL]).prompt


def test_calls_are_told_apart(model, source, writes):
    writes("Let me look.\n" + CALLS[source])
    reply = model.generate(ASK, tools=[TOOL])
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Let me look.", None, "tool_calls")
    (call,) = reply.tool_calls
    assert (call.name, call.parsed, json.loads(call.arguments)) == ("weather", ARGUMENTS, ARGUMENTS)
    assert reply.raw_text == "Let me look.\n" + CALLS[source] == "".join(model.stream(ASK, tools=[TOOL]))
    assert reply.raw_text == model.tokenizer.decode(reply.token_ids)
    # Without tools it is text like any other.
    plain = model.generate(ASK)
    assert (plain.text, plain.tool_calls, plain.finish_reason) == (reply.raw_text, (), "stop")


def test_a_call_that_is_cut_off_is_text(model, source, writes):
    half = CALLS[source][:-30]
    writes(half, ends=False)
    length = len(model.tokenizer.encode_prompt(half, "\ue000"))
    reply = model.generate(ASK, tools=[TOOL], max_new_tokens=length)
    assert (reply.text, reply.tool_calls, reply.finish_reason) == (half, (), "length")


def test_thoughts_are_told_apart(model, source, writes):
    writes("Hm.\n</think>\n\nLook.\n" + CALLS[source])
    options = {"tools": [TOOL], "template_options": {"enable_thinking": True}}
    reply = model.generate(ASK, **options)
    assert (reply.reasoning, reply.text, len(reply.tool_calls)) == ("Hm.", "Look.", 1)
    with model.serve(max_batch=2) as engine:
        events = list(engine.submit(ASK, **options).events())
        assert engine.submit(ASK, **options).result() == reply
    texts = {
        kind: "".join(event.text for event in events if isinstance(event, kind))
        for kind in (omni.ReasoningDelta, omni.TextDelta)
    }
    assert texts == {omni.ReasoningDelta: "Hm.", omni.TextDelta: "Look."}
    assert [event for event in events if isinstance(event, omni.ToolCallDelta)] == [
        omni.ToolCallDelta(0, reply.tool_calls[0])
    ]


def test_a_reply_is_a_message_of_the_conversation(model, source, writes):
    writes("Look." + "\n" + CALLS[source])
    reply = model.generate(ASK, tools=[TOOL])
    result = {"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "21 degrees"}
    inputs = model.prepare([*ASK, reply.message, result], tools=[TOOL])
    assert reply.raw_text in inputs.prompt and "<tool_response>\n21 degrees\n</tool_response>" in inputs.prompt
    # Arguments as a dict are the same prompt.
    parsed = {**reply.message, "tool_calls": [{"function": {"name": "weather", "arguments": ARGUMENTS}}]}
    assert model.prepare([*ASK, parsed, result], tools=[TOOL]).prompt == inputs.prompt


def test_a_chat_with_tools(model, source, writes):
    chat = model.chat(tools=[TOOL])
    writes("<think>\nHm.\n</think>\n\n" + CALLS[source])
    call = chat.send(ASK[0]["content"]).tool_calls[0]
    writes("21 degrees.")
    reply = chat.send([{"role": "tool", "tool_call_id": call.id, "content": "21"}])
    assert (reply.text, reply.finish_reason) == ("21 degrees.", "stop")
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert chat.messages[1]["reasoning_content"] == "Hm." and chat.messages[1]["tool_calls"][0]["id"] == call.id
    assert model.prepare(chat.messages, tools=[TOOL]).prompt.endswith("21 degrees.<|im_end|>\n<|im_start|>assistant\n")


def test_thoughts_stay_in_the_content_where_a_template_looks_for_them_there(demo, writes):
    chat = demo.chat()
    writes("<think>\nHm.\n</think>\n\nYes.")
    assert (chat.send("Hi").reasoning, chat.reply.text) == ("Hm.", "Yes.")
    assert chat.messages[1]["content"] == "<think>\nHm.\n</think>\n\nYes."


BAD_TOOLS = {
    "text": "weather",
    "a dict": TOOL,
    "a number": [5],
    "no name": [{"type": "function", "function": {}}],
    "a blank name": [{"type": "function", "function": {"name": " "}}],
    "another type": [{"type": "web_search"}],
    "parameters as text": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}],
    "a description as a list": [{"type": "function", "function": {"name": "f", "description": []}}],
    "one name twice": [TOOL, TOOL],
    "an object": [{"type": "function", "function": {"name": "f", "parameters": {"a": object()}}}],
}


@pytest.mark.parametrize("name", BAD_TOOLS)
def test_tools_are_refused(demo, name):
    assert refused(demo.generate, ASK, tools=BAD_TOOLS[name]) == "bad_tools"


def test_what_a_template_would_not_read_is_refused(demo, monkeypatch):
    assert refused(demo.generate, ASK, tools=[TOOL]) == "no_tools"
    assert refused(demo.generate, [1, 2], template_options={"enable_thinking": False}) == "bad_option"
    monkeypatch.setattr(demo, "template", ChatTemplate(HERMES.replace("<tool_call>", "<call>")))
    assert refused(demo.generate, ASK, tools=[TOOL]) == "no_tools"
    monkeypatch.setattr(demo, "template", ChatTemplate(HERMES.replace("tool | tojson", "tool.function.name")))
    assert refused(demo.generate, ASK, tools=[TOOL]) == "dropped_content"
    assert "now" in demo.prepare(ASK, tools=[{"function": {"name": "now"}}]).prompt
