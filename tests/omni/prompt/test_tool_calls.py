"""Calls of tools are found whatever pieces the text comes in, and what is not a call stays text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.prompt.tool_calls import CallStream, ToolCall, form_of
from tests.omni.prompt.tool_call_cases import JSON, NOW, TOOLS, XML, coder, function, hermes

CASES = {
    f"{form}: {name}": (form, *case) for form, cases in (("json", JSON), ("xml", XML)) for name, case in cases.items()
}


def parsed(form, pieces):
    """What pieces hold: the text, and the calls."""
    stream = CallStream(form, TOOLS)
    found = [one for piece in pieces for one in stream.push(piece)] + stream.flush()
    calls = [one for one in found if isinstance(one, ToolCall)]
    assert all(json.loads(call.arguments) == call.parsed for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    return "".join(one for one in found if isinstance(one, str)), [(call.name, call.parsed) for call in calls]


@pytest.mark.parametrize("name", CASES)
def test_texts_whole_and_cut_at_every_character(name):
    form, text, remains, calls = CASES[name]
    wanted = (remains, calls)
    assert parsed(form, [text]) == wanted
    assert parsed(form, text) == wanted
    for at in range(len(text)):
        assert parsed(form, [text[:at], text[at:]]) == wanted


def test_there_are_sixty_texts_in_both_forms():
    assert len(CASES) >= 60 and min(len(JSON), len(XML)) >= 30


PARTS = ["<tool_call>", "</tool_call>", "<function=now>", "</function>", "<parameter=a>", "</parameter>", "\n", " ",
         "x", NOW, "<", "tool_call>"]  # fmt: skip


@settings(max_examples=40)
@given(st.sampled_from(["json", "xml"]), st.lists(st.sampled_from(PARTS), max_size=12), st.data())
def test_the_cuts_do_not_matter(form, parts, data):
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = parsed(form, [text])
    assert parsed(form, pieces) == whole
    if not whole[1]:
        assert whole[0] == text


def test_text_is_told_as_soon_as_it_is_certain():
    stream = CallStream("json")
    assert stream.push("It is ") == ["It is"]
    assert stream.push("a <tool") == [" a"]
    assert stream.push("box>") == [" <toolbox>"]
    assert stream.push("<tool_call>{") == [] == stream.push('"name": "now", "arguments": {}}')
    (call,) = stream.push("</tool_call>")
    assert call == ToolCall("now", "{}")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), values, max_size=3))
def test_what_a_template_writes_is_read_back(arguments):
    text = json.dumps({"name": "now", "arguments": arguments}, ensure_ascii=False)
    if "</tool_call>" not in text:
        assert parsed("json", [hermes(text)]) == ("", [("now", arguments)])


@settings(max_examples=40)
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), st.text("ab<>\n\r =/", max_size=12), max_size=3))
def test_strings_of_the_other_form_are_read_back(arguments):
    assert parsed("xml", [coder(function("now", **arguments))]) == ("", [("now", arguments)])


def test_the_form_is_what_the_template_says():
    assert form_of("{{ '<tool_call>' }}{{ '<function=' ~ name ~ '>' }}{{ '<parameter=' ~ key ~ '>' }}") == "xml"
    assert form_of("{{ '<tool_call>' }}{{ call | tojson }}{{ '</tool_call>' }}") == "json"
    assert form_of("{{ tools | tojson }}") is None


def test_a_call_as_a_message_holds_it():
    call = ToolCall("now", '{"a": 1}', "call_1")
    function = {"name": "now", "arguments": '{"a": 1}'}
    assert call.to_message() == {"id": "call_1", "type": "function", "function": function}
    assert ToolCall("now", "{}").id != ToolCall("now", "{}").id and ToolCall("now", "{}").id.startswith("call_")
