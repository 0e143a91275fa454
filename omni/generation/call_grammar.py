"""Replies that are calls of tools, as a grammar in llguidance's kind of Lark: the form that a checkpoint writes.

Names are those of the declared functions, and arguments follow their schemas. Control tokens stand in it by their ids,
so that a call begins and ends with the very tokens that the model was trained on.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from omni.errors import InputError
from omni.prompt.tool_calls import CALL_TAGS, Form, types_of
from omni.prompt.tool_choice import ToolChoice

Tool = Mapping[str, Any]
Options = Mapping[str, Any]
# No text of the XML form may hold what begins or ends its parts.
_TAGS = r"<\/?(tool_call|function|parameter)"
# Keywords that a text in quotes can follow, and one without cannot.
_OF_TEXT = ("pattern", "format", "minLength", "maxLength")


def call_grammar(
    form: Form,
    tools: Sequence[Tool],
    choice: ToolChoice,
    control_tokens: Mapping[str, int],
    options: Options,
    check: Callable[[Any], None],
) -> str:
    """The grammar of a reply that is calls alone.

    Args:
        form: of the calls.
        tools: that are declared.
        choice: which of them, and how many calls.
        control_tokens: the tokenizer's, by their texts.
        options: of the library, for every schema.
        check: refuses what cannot be followed of a schema.

    Raises:
        InputError: `unsupported_schema`.
    """
    named = [tool["function"] for tool in tools if choice.name in (None, tool["function"]["name"])]
    write = _json_call if form == "json" else _xml_call
    rules = [line for i, function in enumerate(named) for line in write(i, function, options, check)]
    opening, closing = (_token(tag, control_tokens) for tag in CALL_TAGS)
    lines = [
        # A thought that the prompt opened ends before the first call, which templates put line ends between.
        'start: ("\\n\\n" | "\\n")? call' + (' ("\\n" call)*' if choice.parallel else ""),
        f'call: {opening} "\\n" ({" | ".join(f"f{i}" for i in range(len(named)))}) "\\n" {closing}',
        *rules,
    ]
    if form == "xml":
        lines.append(f'TEXT: (/(?s:.*)/ & ~/(?s:.*{_TAGS}.*)/) "\\n</parameter>\\n"')
    return "\n".join(lines) + "\n"


def _token(tag: str, control_tokens: Mapping[str, int]) -> str:
    """A tag as its control token; as text where the tokenizer has none."""
    return f"<[{control_tokens[tag]}]>" if tag in control_tokens else _literal(tag)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _line(text: str) -> str:
    return _literal(text + "\n")


def _json_call(index: int, function: Tool, options: Options, check: Callable[[Any], None]) -> Iterator[str]:
    """`{"name": ..., "arguments": {...}}`."""
    schema = _parameters(function)
    check(schema)
    beginning = '{"name": ' + json.dumps(function["name"], ensure_ascii=False) + ', "arguments": '
    yield f"f{index}: {_literal(beginning)} a{index} {_literal('}')}"
    yield f"a{index}: {_schema(schema, options)}"


def _xml_call(index: int, function: Tool, options: Options, check: Callable[[Any], None]) -> Iterator[str]:
    """`<function=...>`, each parameter between tags of its own, and `</function>`."""
    schema = _parameters(function)
    check(schema)
    properties = schema.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise InputError("unsupported_schema", "the properties of a tool's parameters must be a dict")
    required = schema.get("required") or ()
    if missing := [name for name in required if name not in properties]:
        raise InputError(
            "unsupported_schema", f"the tool's parameter {str(missing[0])[:80]!r} is required, not declared"
        )
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    parts, rules = [], []
    for i, (key, inner) in enumerate(properties.items()):
        rule = f"p{index}_{i}"
        rules.append(f"{rule}: {_line(f'<parameter={key}>')} {_value(inner, shared, options)}")
        parts.append(rule if key in required else f"{rule}?")
    yield " ".join([f"f{index}:", _line(f"<function={function['name']}>"), *parts, '"</function>"'])
    yield from rules


def _value(schema: Any, shared: Mapping[str, Any], options: Options) -> str:
    """A parameter's value with its end tag: as JSON, or as text where that is what it is read as."""
    end = _literal("\n</parameter>\n")
    types = types_of(schema)
    if types and "string" not in types:
        return f"{_schema({**shared, **schema}, options)} {end}"
    values = schema.get("enum") if isinstance(schema, Mapping) else None
    if isinstance(schema, Mapping) and "const" in schema:
        values = [schema["const"]]
    if isinstance(values, list) and values:
        texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
        return f"({' | '.join(map(_literal, texts))}) {end}"
    if isinstance(schema, Mapping) and (unread := [key for key in _OF_TEXT if key in schema]):
        raise InputError(
            "unsupported_schema", f"{unread[0]} of a tool's text cannot be followed in the XML form of calls"
        )
    return "TEXT"


def _parameters(function: Tool) -> Mapping[str, Any]:
    """The schema of a function's arguments: always an object."""
    schema = function.get("parameters") or {}
    if schema.get("type", "object") != "object":
        raise InputError("unsupported_schema", "the parameters of a tool must be of type object")
    return {"type": "object", **schema}


def _schema(schema: Mapping[str, Any], options: Options) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": dict(options)})
