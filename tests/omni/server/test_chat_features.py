"""Tools, thoughts and forms of replies, through the official client; what the model writes is scripted."""

import json

import numpy as np
import openai
import pytest

import omni
from omni.generation.engine import Choice, Engine
from omni.prompt.template import ChatTemplate
from tests.omni.prompt.tool_call_cases import hermes
from tests.omni.prompt.tool_templates import CODER, HERMES
from tests.omni.server import servers

ASK = [{"role": "user", "content": "How warm is it in Paris?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
ARGUMENTS = {"city": "Paris", "days": 3}
CALL = hermes(json.dumps({"name": "weather", "arguments": ARGUMENTS}))
SCHEMA = {
    "type": "object",
    "properties": {"shape": {"enum": ["circle", "square"]}},
    "required": ["shape"],
    "additionalProperties": False,
}
STRICT = {
    "type": "function",
    "function": {"name": "choose", "description": "Takes a shape.", "parameters": SCHEMA},
}


@pytest.fixture(scope="module")
def model():
    return omni.load("demo", parts="text")


@pytest.fixture(scope="module")
def client(model):
    with servers.thread(lambda: model, name="demo") as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=300) as one:
            yield one


@pytest.fixture
def writes(monkeypatch, model):
    """Makes the model write a text, and end."""

    def script(text):
        tokens = [*model.tokenizer.encode_prompt(text, "\ue000"), model.generation.eos_token_ids[0]]

        def choose(self, logits, rows, how, steps, *masks):
            chosen = np.asarray([tokens[min(step, len(tokens) - 1)] for step in steps], np.int32)
            none = np.zeros((len(chosen), 0), np.int32), np.zeros((len(chosen), 0), np.float32)
            return Choice(chosen, np.zeros(len(chosen), np.float32), *none)

        monkeypatch.setattr(Engine, "choose", choose)

    monkeypatch.setattr(model, "template", ChatTemplate(HERMES))
    return script


def test_a_call_of_a_tool_and_its_result(client, writes):
    writes("Let me look." + CALL)
    asked = dict(model="demo", messages=ASK, tools=[TOOL])
    (choice,) = client.chat.completions.create(**asked).choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, call.type) == ("tool_calls", "Let me look.", "function")
    assert call.function.name == "weather" and json.loads(call.function.arguments) == ARGUMENTS
    writes("It is warm.")
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    follow = [*ASK, choice.message.to_dict(), result]
    (choice,) = client.chat.completions.create(model="demo", messages=follow, tools=[TOOL]).choices
    assert (choice.finish_reason, choice.message.content) == ("stop", "It is warm.")


def test_a_call_that_is_streamed(client, writes):
    writes("Let me look." + CALL)
    chunks = list(client.chat.completions.create(model="demo", messages=ASK, tools=[TOOL], stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == "Let me look."
    (call,) = [call for delta in deltas for call in delta.tool_calls or []]
    assert call.index == 0 and call.id and json.loads(call.function.arguments) == ARGUMENTS
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_tools_that_are_not_to_be_called_are_not_offered(client, writes):
    writes(CALL)
    asked = dict(model="demo", messages=ASK, tools=[TOOL])
    with_tools = client.chat.completions.create(**asked).usage.prompt_tokens
    (choice,) = (reply := client.chat.completions.create(**asked, tool_choice="none")).choices
    assert choice.message.tool_calls is None and reply.usage.prompt_tokens < with_tools
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=ASK, tool_choice="required")
    assert (refused.value.code, refused.value.param) == ("bad_tool_choice", "tool_choice")


@pytest.mark.parametrize("template", [HERMES, CODER], ids=["json", "xml"])
def test_a_call_that_is_required(client, model, monkeypatch, template):
    monkeypatch.setattr(model, "template", ChatTemplate(template))
    asked = dict(model="demo", messages=ASK, tools=[TOOL, STRICT], max_tokens=200)
    named = {"type": "function", "function": {"name": "choose"}}
    (choice,) = client.chat.completions.create(**asked, tool_choice=named, seed=1, temperature=1).choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.function.name == "choose" and json.loads(call.function.arguments)["shape"] in ("circle", "square")
    # Of several tools the model chooses, and what it writes is calls.
    asked = dict(model="demo", messages=ASK, tools=[STRICT], max_tokens=200, parallel_tool_calls=False)
    chunks = list(client.chat.completions.create(**asked, tool_choice="required", stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    (call,) = [call for delta in deltas for call in delta.tool_calls or []]
    assert call.function.name == "choose" and not any(delta.content for delta in deltas)


def test_tools_in_responses(client, writes):
    writes("Let me look." + CALL)
    tool = {"type": "function", "strict": False, **TOOL["function"]}
    asked = client.responses.create(model="demo", input=ASK, tools=[tool])
    message, call = asked.output
    assert (message.type, message.content[0].text) == ("message", "Let me look.")
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    assert json.loads(call.arguments) == ARGUMENTS and asked.tools[0].name == "weather"
    writes("It is warm.")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    follow = [*ASK, message.to_dict(), call.to_dict(), result]
    assert client.responses.create(model="demo", input=follow, tools=[tool]).output_text == "It is warm."


def test_tools_in_responses_that_are_streamed(client, writes):
    writes("Let me look." + CALL + CALL)
    tool = {"type": "function", "strict": False, **TOOL["function"]}
    with client.responses.stream(model="demo", input=ASK, tools=[tool]) as stream:
        kinds = [one.type for one in stream]
        answer = stream.get_final_response()
    assert [one.type for one in answer.output] == ["message", "function_call", "function_call"]
    assert answer.output_text == "Let me look."
    assert [json.loads(one.arguments) for one in answer.output[1:]] == [ARGUMENTS, ARGUMENTS]
    assert len({one.call_id for one in answer.output[1:]}) == 2
    assert kinds.count("response.function_call_arguments.done") == 2 and kinds[-1] == "response.completed"
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 3
    writes("")
    with client.responses.stream(model="demo", input=ASK) as stream:
        list(stream)
        assert stream.get_final_response().output_text == ""


def test_a_call_that_is_required_in_responses(client, model, monkeypatch):
    monkeypatch.setattr(model, "template", ChatTemplate(HERMES))
    tool = {"type": "function", "strict": True, **STRICT["function"]}
    asked = dict(model="demo", input=ASK, tools=[tool], max_output_tokens=200)
    for choice in ({"type": "function", "name": "choose"}, "required"):
        answer = client.responses.create(**asked, tool_choice=choice, parallel_tool_calls=False)
        (call,) = answer.output
        assert json.loads(call.arguments)["shape"] in ("circle", "square") and answer.tool_choice is not None


def test_a_template_without_tools_refuses_them(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=ASK, tools=[TOOL])
    assert refused.value.code == "no_tools"


def test_replies_and_responses_of_a_form(client):
    form = {"name": "seen", "schema": SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": form}
    reply = client.chat.completions.create(model="demo", messages=ASK, response_format=wanted, max_tokens=60, seed=1)
    assert json.loads(reply.choices[0].message.content)["shape"] in ("circle", "square")
    text = {"format": {"type": "json_schema", **form}}
    answer = client.responses.create(model="demo", input="Hello", text=text, max_output_tokens=60)
    assert json.loads(answer.output_text)["shape"] in ("circle", "square")
    for bad in ({"type": "json_schema"}, {"type": "yaml"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="demo", messages=ASK, response_format=bad)
        assert refused.value.code == "bad_response_format"
