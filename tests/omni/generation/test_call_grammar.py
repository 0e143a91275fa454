"""Replies that must be calls: whichever of the allowed tokens are chosen, calls of declared functions come out."""

from pathlib import Path

import jsonschema
import numpy as np
import pytest

import omni
from omni.generation.grammar import Grammars
from omni.prompt.prompt_options import PromptOptions
from omni.prompt.reply_stream import ReplyFormat, ReplyStream
from omni.prompt.tokenizer import Tokenizer

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F"]},
        "place": {"$ref": "#/$defs/place"},
        "exact": {"type": "boolean"},
        "times": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    },
    "required": ["days", "unit"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False}},
}
# In XML what has no type of its own is text, as it is read.
XML_WEATHER = WEATHER | {"properties": {**WEATHER["properties"], "place": WEATHER["$defs"]["place"]}}
TOKENIZER = Tokenizer.from_directory(Path(omni.__file__).parent / "assets" / "demo")
END = TOKENIZER.id_of("<|endoftext|>")


def function(name, parameters=None):
    return {"type": "function", "function": {"name": name} | ({} if parameters is None else {"parameters": parameters})}


@pytest.fixture(scope="module")
def grammars():
    return Grammars(TOKENIZER, TOKENIZER.size)


def constraint(grammars, form, tools, choice, parallel=True, opened=False):
    options = PromptOptions.of(tools, tool_choice=choice, parallel_tool_calls=parallel)
    reply = ReplyFormat(opened=opened, calls=form, tools=options.tools, choice=options.choice)
    return reply, grammars.constraint(None, frozenset([END]), reply)


def among(found):
    """The tokens that may come next."""
    mask = found.mask()
    if mask is None:
        return np.arange(TOKENIZER.size)
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))


def walk(reply, found, seed, most=400):
    """A reply of tokens that are drawn among those that may come, long texts and white space seldom; None where cut."""
    random = np.random.RandomState(seed)
    spelled = [TOKENIZER.token_bytes(i, skip_special=False) for i in range(TOKENIZER.size)]
    closing = np.isin([text[:1] for text in spelled], [b'"', b"}", b"]", b"<"])
    written, stream = [], ReplyStream(reply)
    for _ in range(most):
        allowed = among(found)
        likely = allowed[closing[allowed]]
        token = int(random.choice(likely if len(likely) and random.rand() < 0.5 else allowed))
        if token == END:
            break
        written.append(token)
        if found.accept(token):
            break
    else:
        return None
    stream.push(b"".join(spelled[token] for token in written).decode())
    stream.flush()
    return stream


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("choice", ["required", "weather", "now"])
@pytest.mark.parametrize("parallel", [True, False])
def test_calls_of_declared_functions_come_out(grammars, form, choice, parallel):
    schema = WEATHER if form == "json" else XML_WEATHER
    tools = [function("weather", schema), function("now")]
    chosen = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    numbers = []
    for seed in range(6):
        reply, found = constraint(grammars, form, tools, chosen, parallel)
        stream = walk(reply, found, seed)
        if stream is None:
            continue
        assert stream.text == "" and stream.tool_calls
        numbers.append(len(stream.tool_calls))
        for call in stream.tool_calls:
            assert call.name in (("weather", "now") if choice == "required" else (choice,))
            jsonschema.validate(call.parsed, schema if call.name == "weather" else {"type": "object"})
    assert numbers and (max(numbers) == 1 or (parallel and choice == "required"))


def test_a_thought_that_is_open_ends_first(grammars):
    _, found = constraint(grammars, "json", [function("now")], "required", opened=True)
    assert found.mask() is None
    found.accept(TOKENIZER.encode("Hm")[0])
    found.accept(TOKENIZER.control_tokens["</think>"])
    texts = {TOKENIZER.token_bytes(int(i), skip_special=False) for i in among(found)}
    assert b"<tool_call>" in texts and texts <= {b"<tool_call>", b"\n", b"\n\n"}


def test_no_call_is_asked_of_replies_that_may_do_without(grammars):
    for choice in (None, "auto"):
        assert constraint(grammars, "json", [function("now")], choice)[1] is None


@pytest.mark.parametrize(
    "choice", ["sometimes", 5, {"type": "function"}, {"type": "tool", "name": "now"}, ["now"]], ids=str
)
def test_choices_that_are_none(choice):
    refused(choice, [function("now")])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "now"}], ids=str)
def test_a_call_needs_a_tool(choice):
    refused(choice, None)
    refused({"type": "function", "name": "then"}, [function("now")])


def refused(choice, tools):
    with pytest.raises(omni.InputError) as error:
        PromptOptions.of(tools, tool_choice=choice)
    assert error.value.code == "bad_tool_choice" and len(str(error.value)) <= 500


def test_choices_in_both_of_openai_s_forms():
    for choice in ({"type": "function", "name": "now"}, {"type": "function", "function": {"name": "now"}}):
        assert PromptOptions.of([function("now")], tool_choice=choice).choice.name == "now"
    assert PromptOptions.of([function("now")], tool_choice="none").tools == ()
    with pytest.raises(omni.InputError, match="parallel_tool_calls"):
        PromptOptions.of([function("now")], parallel_tool_calls=False)
    assert PromptOptions.of(None, parallel_tool_calls=False).choice.mode == "auto"


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        ("json", {"properties": {"a": {"type": "array", "uniqueItems": True}}}),
        ("json", {"type": "array"}),
        ("xml", {"properties": {"a": {"type": "integer", "not": {"const": 3}}}}),
        ("xml", {"properties": {"a": {"type": "string", "pattern": "a+"}}}),
        ("xml", {"properties": {}, "required": ["a"]}),
        ("json", {"properties": {"a": {"minContains": 1}}}),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_followed_are_refused(grammars, form, parameters):
    with pytest.raises(omni.InputError) as error:
        constraint(grammars, form, [function("f", parameters)], "required")
    assert error.value.code == "unsupported_schema" and len(str(error.value)) <= 500
