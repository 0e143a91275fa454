"""Items of `/v1/responses`: what a conversation was, in the form of a chat, and what an answer is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from omni.prompt.tool_calls import ToolCall
from omni.server.errors import Refusal

# What a message of an earlier answer has beside its role and content.
_BESIDE = frozenset(("type", "id", "status"))


def messages_of(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages, calls of functions and their results as messages of a chat.

    Calls that follow a message of the assistant, or one another, are of one turn.

    Raises:
        Refusal: `unsupported_field`, an item of another type; `bad_field`, a call or a result without what it needs.
    """
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({key: value for key, value in item.items() if key not in _BESIDE})
        elif kind == "function_call":
            if not messages or messages[-1].get("role") != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(_call(item))
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": _text(item, "call_id"), "content": _output(item)})
        else:
            raise Refusal("unsupported_field", f"items of type {str(kind)[:40]!r} are not read", "input")
    return messages


def message_item(item_id: str, text: str | None, status: str) -> dict[str, Any]:
    """The message of an answer; without content before there is any."""
    content = [] if text is None else [text_part(text)]
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def call_item(call: ToolCall, status: str) -> dict[str, Any]:
    """A call of a function in an answer; without arguments before they are there."""
    return {
        "id": "fc_" + call.id.removeprefix("call_"),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments if status == "completed" else "",
    }


def text_part(text: str) -> dict[str, Any]:
    """The content of an answer's message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": _text(item, "name"), "arguments": _text(item, "arguments")}
    return {"id": _text(item, "call_id"), "type": "function", "function": function}


def _output(item: Mapping[str, Any]) -> Any:
    output = item.get("output")
    if not isinstance(output, str | list):
        raise Refusal("bad_field", "the output of a function_call_output must be a text or a list of parts", "input")
    return output


def _text(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise Refusal("bad_field", f"{name} of a {item['type']} must be a text", "input")
    return value
