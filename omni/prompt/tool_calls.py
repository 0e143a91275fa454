"""Calls of tools in what a model writes: the JSON form of Hermes and Qwen3, and the XML form of Qwen3-Coder.

    <tool_call>                                       <tool_call>
    {"name": "weather", "arguments": {"days": 3}}     <function=weather>
    </tool_call>                                      <parameter=days>
                                                      3
                                                      </parameter>
                                                      </function>
                                                      </tool_call>

A block that is damaged, or cut off, is text: no program is handed half a call.
"""

import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

Form = Literal["json", "xml"]
"""How a checkpoint writes calls."""

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION, _END_FUNCTION = "<function=", "</function>"
_PARAMETER, _END_PARAMETER = "<parameter=", "</parameter>"
CALL_TAGS = _OPEN, _CLOSE
"""What stands around a call, in both forms."""
_CLOSER = {_OPEN: _CLOSE, _FUNCTION: _END_FUNCTION}
_FUNCTIONS = re.compile(r"<function=(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETERS = re.compile(r"<parameter=([^<>\n]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_NAME = re.compile(r"[^<>\n]+")


@dataclass(frozen=True)
class ToolCall:
    """One call that a model asks for.

    Attributes:
        name: of the function.
        arguments: JSON text of an object, as OpenAI's replies have it.
        id: ties the result of the tool to the call.
    """

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}", compare=False)

    @property
    def parsed(self) -> dict[str, Any]:
        """The arguments as a dict."""
        return json.loads(self.arguments)

    def to_message(self) -> dict[str, Any]:
        """The call as an entry of an assistant message's `tool_calls`."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def form_of(source: str) -> Form | None:
    """Return the form that a chat template teaches; None where it teaches neither."""
    if _FUNCTION in source and _PARAMETER in source:
        return "xml"
    return "json" if _OPEN in source else None


class CallStream:
    """Text as it comes -> text without calls, and calls. Where the text is cut does not matter.

    White space between text and a call belongs to neither, as templates write it there.

    Args:
        form: of the calls.
        tools: declarations, whose types say what a parameter of the XML form is.
    """

    def __init__(self, form: Form, tools: Sequence[Mapping[str, Any]] = ()):
        self._openers = (_OPEN,) if form == "json" else (_OPEN, _FUNCTION)
        self._parse: Callable[[str, bool], list[ToolCall]] = (
            _parse_json if form == "json" else lambda block, whole: _parse_xml(block, whole, tools)
        )
        self._held, self._opener = "", ""
        # White space that may turn out to stand before a call, and the one that did.
        self._space, self._gap = "", ""
        self._shown, self._after_call = False, False

    def push(self, piece: str) -> list[str | ToolCall]:
        """Take a piece of text; return what is certain now."""
        self._held += piece
        return list(self._advance(final=False))

    def flush(self) -> list[str | ToolCall]:
        """Return what was held back, at the end of the text."""
        return list(self._advance(final=True))

    def _advance(self, *, final: bool) -> Iterator[str | ToolCall]:
        while True:
            if self._opener:
                closer = _CLOSER[self._opener]
                at = self._held.find(closer, len(self._opener))
                if at < 0 and not final:
                    return
                end = len(self._held) if at < 0 else at + len(closer)
                yield from self._block(self._held[:end], whole=at >= 0)
                self._held, self._opener = self._held[end:], ""
                continue
            if self._after_call and self._is_left_over(final):
                return
            places = [(at, opener) for opener in self._openers if (at := self._held.find(opener)) >= 0]
            if not places:
                break
            at, self._opener = min(places)
            before, self._held = self._held[:at], self._held[at:]
            yield from self._text(before)
        keep = 0 if final else max(overlap(self._held, opener) for opener in self._openers)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        yield from self._text(shown)
        if final and self._space and not self._after_call:
            yield self._space

    def _block(self, block: str, *, whole: bool) -> Iterator[str | ToolCall]:
        calls = self._parse(block.removeprefix(_OPEN).removesuffix(_CLOSE), whole)
        if not calls:
            yield from self._text(block)
            return
        self._gap, self._space, self._after_call = self._gap or self._space, "", True
        yield from calls

    def _is_left_over(self, final: bool) -> bool:
        """Drop the end of a block whose beginning the model left out; whether it may still come."""
        rest = self._held.lstrip()
        if rest.startswith(_CLOSE):
            self._held = rest.removeprefix(_CLOSE)
        return not final and bool(rest) and rest != _CLOSE and _CLOSE.startswith(rest)

    def _text(self, text: str) -> Iterator[str]:
        text = self._space + text
        body = text.rstrip()
        self._space = text[len(body) :]
        if not body:
            return
        if self._after_call:
            own = len(body) - len(body.lstrip())
            body = (self._gap or body[:own] if self._shown else "") + body[own:]
            self._after_call, self._gap = False, ""
        self._shown = True
        yield body


def overlap(text: str, mark: str) -> int:
    """Return the length of the longest end of a text that begins a mark and is not the whole of it."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)


def _parse_json(block: str, whole: bool) -> list[ToolCall]:
    """The call of a block; none where it is damaged. One that lacks its end tag alone is whole."""
    call = _loads(block)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        return []
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        arguments = _loads(arguments)
    return [_call(call["name"], arguments)] if isinstance(arguments, dict) else []


def _parse_xml(block: str, whole: bool, tools: Sequence[Mapping[str, Any]]) -> list[ToolCall]:
    """The calls of a block; none where one of them is damaged."""
    if not whole and not block.rstrip().endswith(_END_FUNCTION):
        return []
    calls = []
    for function in _FUNCTIONS.findall(block):
        name, end, body = function.partition(">")
        if not end or not _NAME.fullmatch(name.strip()):
            return []
        parameters = _PARAMETERS.findall(body)
        if len(parameters) != body.count(_PARAMETER):
            return []
        types = _properties(name.strip(), tools)
        calls.append(
            _call(name.strip(), {key.strip(): _value(text, types.get(key.strip())) for key, text in parameters})
        )
    return calls


def _call(name: str, arguments: dict[str, Any]) -> ToolCall:
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def _properties(name: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The declared parameters of a function."""
    for tool in tools:
        function = tool.get("function", tool)
        if function.get("name") == name:
            properties = (function.get("parameters") or {}).get("properties")
            return properties if isinstance(properties, Mapping) else {}
    return {}


def _value(text: str, schema: Any) -> Any:
    """The value of a parameter, by its declared type; text where it has none, or is of none."""
    # The template writes one line end before a value and one after it.
    text = text.removeprefix("\n").removesuffix("\n")
    if not isinstance(schema, Mapping):
        return text
    types, body = types_of(schema), text.strip()
    if not types or types == {"string"}:
        return text
    if "null" in types and body.lower() == "null":
        return None
    if types & {"integer", "number"} and (number := _number(body, "number" in types)) is not None:
        return number
    if "boolean" in types and body.lower() in _BOOLEANS:
        return _BOOLEANS[body.lower()]
    value = _loads(body, default=text)
    kinds = {"object": dict, "array": list}
    if any(name in types and isinstance(value, kind) for name, kind in kinds.items()):
        return value
    return text if "string" in types else value


def _number(text: str, fractions: bool) -> int | float | None:
    """A number as Python reads it; whole numbers are whole, whatever they are declared as."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if not math.isfinite(value) or not (fractions or text.lstrip("+-").isdigit()):
        return None
    return int(text) if text.lstrip("+-").isdigit() else int(value) if value.is_integer() else value


_NUMBER = re.compile(r"[+-]?(\d{1,300}\.?\d{0,300}|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_ALIASES = {
    **dict.fromkeys(("str", "text", "varchar", "char", "enum"), "string"),
    **dict.fromkeys(("int", "int32", "int64", "uint", "uint32", "uint64", "long", "short", "unsigned"), "integer"),
    **dict.fromkeys(("float", "float32", "float64", "double"), "number"),
    **{"bool": "boolean", "dict": "object", "list": "array", "arr": "array", "sequence": "array"},
}
_KINDS = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))


def types_of(schema: Any) -> set[str]:
    """The types that a schema names, or that its values have."""
    if not isinstance(schema, Mapping):
        return set()
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    types = {_ALIASES.get(name.strip().lower(), name.strip().lower()) for name in names if isinstance(name, str)}
    values = schema.get("enum") if isinstance(schema.get("enum"), list) else []
    for value in [*(values or []), *([schema["const"]] if "const" in schema else [])]:
        types.add(next((name for kind, name in _KINDS if isinstance(value, kind)), "null"))
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            types = types.union(*map(types_of, schema[key]))
    return types


def _loads(text: str, default: Any = None) -> Any:
    """A JSON value as every reader of JSON understands it."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return default


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
