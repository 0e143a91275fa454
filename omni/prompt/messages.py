"""The public message format: checked, and split into what a template reads and the media it stands for."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni.errors import InputError
from omni.prompt.parts import Medium, decode_base64, keys_of, kind_of, medium_of, read_part
from omni.prompt.plain import Plain, as_mapping

__all__ = ["MEDIA_KEYS", "REASONING", "Medium", "Parsed", "is_single", "is_token_ids", "parse"]

ROLES = ("system", "user", "assistant", "tool")
# Newer and older names of roles.
_ALIASES = {"developer": "system", "function": "tool"}
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where an assistant's thoughts stand, in the forms of the tools that write them."""
# What an assistant's message may have in place of content.
_INSTEAD_OF_CONTENT = ("tool_calls", *REASONING)
MEDIA_KEYS = {f"{kind}{s}": kind for kind in ("image", "video", "audio") for s in ("s", "")}
"""Media beside a message's content, as ollama has them: they come before its text."""
# What other tools put beside content, and the form to use.
_REFUSED = {
    **dict.fromkeys(("file", "files", "attachments", "experimental_attachments", "documents", "media", "medias"), ""),
    "tools": "the declaration of tools is not a part of a message; write it into the system message",
    "functions": "the declaration of tools is not a part of a message; write it into the system message",
    "system": "write a message of role system",
    "messages": "a message does not hold messages",
}
_TAG = re.compile(r"<(image|video|audio)>")
# What base64 of the usual formats begins with: JPEG, PNG, GIF, RIFF.
BARE_BASE64 = re.compile(r"(?:/9j/|iVBORw0K|R0lGOD|UklGR)[A-Za-z0-9+/_=\s-]{40,}\Z")


@dataclass(frozen=True, eq=False)
class Parsed:
    """A conversation, taken apart.

    Attributes:
        messages: plain dicts for a template; a medium is `{"type": "image", "image": True}`.
        media: the media, in order of appearance.
    """

    messages: tuple[dict[str, Any], ...]
    media: tuple[Medium, ...]


def parse(messages: Any) -> Parsed:
    """Checks a conversation and takes its media out.

    Args:
        messages: dicts of `role` and `content`; content is a string or a list of parts. A part is a string or a dict
            whose `type` names the key of its value: `text`, `image`, `audio`, `video`, or OpenAI's `image_url` and
            `input_audio`. Values are whatever `omni.Image`, `omni.Audio` and `omni.Video` take, these themselves, or
            an `omni.Embedding`; options are the fields of these. Lists `images`, `videos` and `audios` beside content
            come before its text. Arguments of tool calls may be JSON text. Other keys of a message are for the
            template.

    Raises:
        InputError: `bad_messages`, `bad_role`, `bad_content`, `bad_part`, `bad_tool_call`, `unknown_key`,
            `bad_option`, `wrong_medium`, `bad_base64`, or the codes of `omni.Image`, `omni.Audio` and `omni.Video`.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise InputError("bad_messages", f"messages must be a non-empty list of dicts, got {kind_of(messages)}")
    media: list[Medium] = []
    plain = Plain()
    return Parsed(tuple(_message(message, media, plain) for message in messages), tuple(media))


def is_token_ids(conversation: Any) -> bool:
    """Whether a conversation is given as the ids of its tokens."""
    if isinstance(conversation, np.ndarray):
        return True
    return isinstance(conversation, Sequence) and bool(conversation) and isinstance(conversation[0], int | np.integer)


def is_single(messages: Any) -> bool:
    """Whether one conversation is given, or a list of them.

    Raises:
        InputError: `bad_messages`, neither.
    """
    if isinstance(messages, np.ndarray):
        return messages.ndim < 2
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InputError("bad_messages", "give a non-empty list of messages, of token ids, or of such lists")
    return isinstance(as_mapping(messages[0]), Mapping | int | np.integer)


def _message(message: Any, media: list[Medium], plain: Plain) -> dict[str, Any]:
    message = as_mapping(message)
    if not isinstance(message, Mapping):
        raise InputError("bad_messages", f"a message must be a dict with role and content, got {kind_of(message)}")
    role = _role(message.get("role"))
    others: dict[str, Any] = {}
    beside: list[tuple[str, Any]] = []
    for key, value in message.items():
        if not isinstance(key, str):
            raise InputError("bad_messages", f"a message has a key that is not a string but {kind_of(key)}")
        if key in ("role", "content") or value is None:
            continue
        if key in MEDIA_KEYS:
            beside += _beside(key, value)
        elif key in _REFUSED:
            form = _REFUSED[key] or "write media as parts of its content"
            raise InputError("unknown_key", f"a message has no {key!r}: {form}")
        else:
            others[plain.text(key)] = plain.copy(value, f"the message's {key[:40]!r}")
    parts = [_medium_beside(kind, value, media) for kind, value in beside]
    content = _content(message, role, bool(parts), others, media, plain)
    if parts:
        texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        if any(_TAG.search(text) for text in texts):
            raise InputError(
                "bad_content", "tags such as <image> do not stand for media: write parts in the order of the content"
            )
        content = parts + ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    _thoughts(others, content)
    if isinstance(content, list):
        content = [part for part in content if part["type"] != "thinking"]
    _tool_calls(others)
    return {**others, "role": role, "content": content}


def _role(role: Any) -> str:
    if isinstance(role, str) and _ALIASES.get(role, role) in ROLES:
        return str.__str__(_ALIASES.get(role, role))
    shown = repr(role[:40]) if isinstance(role, str) else kind_of(role)
    raise InputError("bad_role", f"a message's role must be one of {', '.join(ROLES)}, got {shown}")


def _content(
    message: Mapping[str, Any], role: str, shows: bool, others: dict[str, Any], media: list[Medium], plain: Plain
) -> str | list[dict[str, Any]]:
    content = message.get("content")
    if content is None and role == "assistant" and isinstance(others.get("refusal"), str):
        # OpenAI's reply that declines has its text here.
        return others.pop("refusal")
    if content is None:
        # What calls tools, or has only thought so far, may say nothing; nor need what shows media.
        says = role == "assistant" and any(others.get(key) for key in (*_INSTEAD_OF_CONTENT, "function_call"))
        if not says and not shows:
            raise InputError("bad_content", f"a message of role {role} has no content; its keys are {keys_of(message)}")
        return ""
    if isinstance(content, str):
        return plain.text(content)
    if isinstance(content, list | tuple):
        return [read_part(part, media, plain) for part in content]
    raise InputError("bad_content", f"content must be a string or a list of parts, got {kind_of(content)}")


def _beside(key: str, value: Any) -> list[tuple[str, Any]]:
    """Media beside content: their kinds and values."""
    kind = MEDIA_KEYS[key]
    values = list(value) if key.endswith("s") and isinstance(value, list | tuple) else [value]
    if key.endswith("s") and not isinstance(value, list | tuple):
        raise InputError("bad_content", f"{key} beside content must be a list, got {kind_of(value)}")
    return [(kind, one) for one in values]


def _medium_beside(kind: str, value: Any, media: list[Medium]) -> dict[str, Any]:
    if isinstance(value, str) and len(value) > 64 and BARE_BASE64.match(value):
        value = decode_base64(value, f"an {kind} beside content")
    if isinstance(value, Mapping) and "url" in value:
        value = value["url"]
    if value is None:
        raise InputError("bad_content", f"a {kind} beside content is None")
    media.append(medium_of(kind, value, {}))
    return {"type": kind, kind: True}


def _thoughts(others: dict[str, Any], content: str | list[dict[str, Any]]) -> None:
    """Puts an assistant's thoughts where templates look for them; where a tool wrote them they stay too."""
    parts = [part["text"] for part in content if part["type"] == "thinking"] if isinstance(content, list) else []
    texts = [others[key] for key in REASONING if isinstance(others.get(key), str) and others[key]]
    if parts and texts:
        raise InputError("bad_part", f"thoughts are given twice: as parts, and as the message's {REASONING[0]}")
    if len(set(texts)) > 1:
        raise InputError("bad_content", f"thoughts are given twice, and differ: give {REASONING[0]} alone")
    if parts or texts:
        others[REASONING[0]] = "".join([*parts, *texts[:1]])


def _tool_calls(others: dict[str, Any]) -> None:
    """Checks the calls of tools; the older form of one call becomes the newer."""
    old = others.pop("function_call", None)
    if old is not None:
        if others.get("tool_calls"):
            raise InputError("bad_tool_call", "a message has both function_call and tool_calls: give the latter alone")
        others["tool_calls"] = [{"type": "function", "function": old}]
    calls = others.get("tool_calls")
    if not calls:
        return
    if not isinstance(calls, list):
        raise InputError("bad_tool_call", f"tool_calls must be a list of dicts, got {kind_of(calls)}")
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InputError("bad_tool_call", "a tool call must be a dict with a function of a name and arguments")
        arguments = function.get("arguments")
        if arguments is None or arguments == "":
            function["arguments"] = {}
        elif isinstance(arguments, str):
            _check_arguments(arguments)
        elif not isinstance(arguments, dict):
            raise InputError("bad_tool_call", f"a tool call's arguments must be a dict, got {kind_of(arguments)}")


def _check_arguments(text: str) -> None:
    """Refuses the JSON text of arguments that holds no object."""
    message = "a tool call's arguments are text that is not a JSON object"
    try:
        value = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        raise InputError("bad_tool_call", message) from None
    if not isinstance(value, dict):
        raise InputError("bad_tool_call", message)
    Plain().copy(value, "a tool call's arguments")
