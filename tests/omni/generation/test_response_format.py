"""Replies in a form that was asked for: whole ones fit it, those cut by length begin one, and no other is begun."""

import json
import re
import sys

import jsonschema
import llguidance
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import omni
from tests.omni.prompt.tool_call_cases import TOOLS
from tests.omni.prompt.tool_templates import HERMES
from tests.schemas import bounded_schemas

ASK = [{"role": "user", "content": "Describe it."}]
SAMPLED = {"temperature": 1.0, "seed": 1, "max_new_tokens": 160}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "é"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def demo():
    return omni.load("demo", parts="text")


def schema(value):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": value}}


def refused(call, *arguments, **options):
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    assert len(str(error.value)) <= 500
    return error.value.code


class Beginnings:
    """Tells by bytes alone, without the model's tokens, whether a text begins what a grammar describes."""

    tokens = [*[bytes([i]) for i in range(256)], b"<end>"]  # noqa: RUF012
    special_token_ids = [256]  # noqa: RUF012
    bos_token_id, eos_token_id = None, 256

    def __call__(self, text):
        return list(text)

    def holds(self, grammar, text) -> bool:
        table = llguidance.LLTokenizer(llguidance.TokenizerWrapper(self), n_vocab=257, eos_token=256)
        matcher = llguidance.LLMatcher(table, grammar)
        return matcher.try_consume_tokens(list(text.encode())) == len(text.encode())


def check(value, reply):
    """A whole reply fits the schema; one that was cut begins what fits."""
    if reply.finish_reason == "stop":
        jsonschema.Draft202012Validator(value, format_checker=jsonschema.FormatChecker()).validate(
            json.loads(reply.text)
        )
    else:
        assert Beginnings().holds(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(value)), reply.text)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(bounded_schemas(), st.integers(0, 99))
def test_replies_fit_their_schemas(demo, value, seed):
    check(value, demo.generate(ASK, response_format=schema(value), **SAMPLED | {"seed": seed}))


@pytest.mark.parametrize("length", [1, 3, 9])
def test_replies_that_are_cut_begin_what_fits(demo, length):
    replies = demo.generate(ASK, n=4, response_format=schema(PERSON), **SAMPLED | {"max_new_tokens": length})
    for reply in replies:
        check(PERSON, reply)
        assert "�" not in reply.text


def test_forms_of_all_kinds(demo):
    grammar = 'start: "it is " what\nwhat: "a " /[a-z]{1,5}/ | NUMBER\nNUMBER: /[0-9]{1,3}/'
    (found,) = (demo.generate(ASK, response_format={"type": "regex", "regex": r"\d{4}-[ab]+?c"}, **SAMPLED),)
    assert found.finish_reason == "length" or re.fullmatch(r"\d{4}-[ab]+?c", found.text)
    found = demo.generate(ASK, response_format={"type": "grammar", "grammar": grammar}, **SAMPLED)
    assert re.fullmatch(r"it is (a [a-z]{1,5}|\d{1,3})", found.text) and found.finish_reason == "stop"
    found = demo.generate(ASK, response_format={"type": "json_object"}, **SAMPLED | {"max_new_tokens": 12})
    assert found.text.startswith("{")
    assert demo.generate(ASK, response_format={"type": "text"}, **SAMPLED) == demo.generate(ASK, **SAMPLED)


def test_rows_beside_it_are_what_they_were(demo):
    wanted = [demo.generate(ASK, **SAMPLED | {"max_new_tokens": 12, "seed": i}) for i in range(2)]
    formed = demo.generate(ASK, response_format=schema(PERSON), **SAMPLED)
    with demo.serve(max_batch=4) as engine:
        plain = [engine.submit(ASK, **SAMPLED | {"max_new_tokens": 12, "seed": i}) for i in range(2)]
        tickets = [engine.submit(ASK, response_format=schema(PERSON), **SAMPLED) for _ in range(2)]
        assert [ticket.result() for ticket in tickets] == [formed] * 2
        assert [ticket.result() for ticket in plain] == wanted
    check(PERSON, formed)


def test_the_best_token_of_those_that_fit_is_taken(demo):
    choice = {"type": "regex", "regex": "(red|blue|green) circle"}
    first, second = (demo.generate(ASK, response_format=choice, temperature=0) for _ in range(2))
    assert first == second and re.fullmatch(choice["regex"], first.text)


def test_what_the_form_needs_may_not_be_banned(demo):
    digits = [i for i in range(demo.tokenizer.size) if any(c in b"0123456789" for c in demo.tokenizer.token_bytes(i))]
    number = {"type": "regex", "regex": "[0-9]{2}"}
    assert refused(demo.generate, ASK, response_format=number, banned_tokens=digits) == "no_token_left"
    assert re.fullmatch("[0-9]{2}", demo.generate(ASK, response_format=number).text)


def test_a_thought_comes_before_the_form(demo):
    begun = [*ASK, {"role": "assistant", "content": "<think>\nHm"}]
    end = demo.tokenizer.control_tokens["</think>"]
    number = {"type": "regex", "regex": "[0-9]{2}"}
    options = {"response_format": number, "continue_final_message": True, "logit_bias": {end: 100.0}}
    reply = demo.generate(begun, temperature=0, **options)
    assert reply.token_ids[0] == end and re.fullmatch("[0-9]{2}", reply.text) and reply.reasoning is None


def test_a_call_may_come_in_the_place_of_the_form(demo, monkeypatch):
    monkeypatch.setattr(demo, "template", omni.prompt.template.ChatTemplate(HERMES))
    call = demo.tokenizer.control_tokens["<tool_call>"]
    number = {"type": "regex", "regex": "[0-9]{2}"}
    options = {"response_format": number, "tools": TOOLS[1:2], "temperature": 0, "max_new_tokens": 4}
    assert re.fullmatch("[0-9]{2}", demo.generate(ASK, logit_bias={call: -100.0}, **options).text)
    reply = demo.generate(ASK, logit_bias={call: 100.0}, **options)
    assert reply.token_ids[0] == call
    assert re.fullmatch("[0-9]{2}", demo.generate(ASK, logit_bias={call: 100.0}, **options | {"tools": None}).text)


UNSUPPORTED = {
    "unique items": {"type": "array", "uniqueItems": True},
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 2}},
    "unevaluated properties": {"type": "object", "unevaluatedProperties": False},
    "a keyword within": {"type": "object", "properties": {"a": {"dependentSchemas": {}}}},
    "an unknown format": {"type": "string", "format": "shoe-size"},
    "a pattern that looks ahead": {"type": "string", "pattern": "(?=a)b"},
    "a reference elsewhere": {"$ref": "https://example.com/schema"},
    "an unknown type": {"type": "word"},
    "nothing fits": {"type": "string", "minLength": 3, "maxLength": 2},
    "alternatives that overlap": {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 2}]},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_schemas_are_refused_beforehand(demo, name):
    assert refused(demo.generate, ASK, response_format=schema(UNSUPPORTED[name])) == "unsupported_schema"


def test_names_of_properties_are_no_keywords(demo):
    value = {"type": "object", "properties": {"then": {"const": {"else": 1}}}, "required": ["then"]}
    value["additionalProperties"] = False
    check(value, demo.generate(ASK, response_format=schema(value), **SAMPLED))


BAD = {
    "no type": {},
    "another type": {"type": "xml"},
    "another key": {"type": "json_object", "schema": {}},
    "a schema without its envelope": {"type": "json_schema", "schema": {"type": "string"}},
    "a schema that is text": {"type": "json_schema", "json_schema": {"schema": "{}"}},
    "an envelope with another key": {"type": "json_schema", "json_schema": {"schema": {}, "name": "a", "size": 1}},
    "no expression": {"type": "regex"},
    "an empty expression": {"type": "regex", "regex": ""},
    "a long expression": {"type": "regex", "regex": "a" * 300_000},
}


@pytest.mark.parametrize("name", BAD)
def test_forms_are_refused(name):
    assert refused(omni.GenerationOptions, response_format=BAD[name]) == "bad_response_format"


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "regex", "regex": "["},
        {"type": "regex", "regex": r"(a)\1"},
        {"type": "grammar", "grammar": "start: no"},
    ],
)
def test_expressions_and_grammars_are_refused(demo, wanted):
    assert refused(demo.generate, ASK, response_format=wanted) == "bad_response_format"


def test_without_the_library_it_is_named(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert refused(demo.generate, ASK, response_format={"type": "json_object"}) == "response_format_needs_extra"
