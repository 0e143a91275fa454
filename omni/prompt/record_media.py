"""Media of a record, wherever a message holds them, found where they lie beside its file."""

import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from omni.prompt.messages import BARE_BASE64, MEDIA_KEYS
from omni.prompt.parts import PLACES, URLS, is_path

_KINDS = ("image", "audio", "video")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


def located(messages: Any, beside: Callable[[str], Any]) -> Any:
    """Return the messages with every path of a medium turned into what lies there.

    Args:
        messages: as a file holds them.
        beside: turns a path that is relative to the file into a path, or bytes.
    """
    if not isinstance(messages, list):
        return messages
    return [_message(message, beside) for message in messages]


def _message(message: Any, beside: Callable[[str], Any]) -> Any:
    if not isinstance(message, Mapping):
        return message
    moved: dict[str, Any] = {}
    for key in MEDIA_KEYS:
        if key in message:
            value = message[key]
            moved[key] = [_source(one, beside) for one in value] if isinstance(value, list) else _source(value, beside)
    content = message.get("content")
    if isinstance(content, list):
        moved["content"] = [_part(part, beside) for part in content]
    return {**message, **moved}


def _part(part: Any, beside: Callable[[str], Any]) -> Any:
    if not isinstance(part, Mapping):
        return part
    # Under `url` and `path` only where they are a medium's: a text has no such keys.
    keys = [key for key in (*_KINDS, *URLS, *PLACES[:2], "source", "input_audio") if key in part]
    return {**part, **{key: _source(part[key], beside) for key in keys}}


def _source(value: Any, beside: Callable[[str], Any]) -> Any:
    """A medium where it lies: a path, a list of frames, or a dict that holds one."""
    if isinstance(value, list):
        return [one if isinstance(one, list) else _source(one, beside) for one in value]
    if isinstance(value, str):
        return _path(value, beside)
    if isinstance(value, Mapping):
        keys = [key for key in ("url", "path") if isinstance(value.get(key), str)]
        keys += [key for key in ("data",) if isinstance(value.get(key), str) and is_path(value[key])]
        changed = {key: _path(value[key], beside) for key in keys}
        if any(isinstance(one, bytes) for one in changed.values()):
            return next(iter(changed.values()))  # of an archive: forms with an address hold no bytes
        return {**value, **changed}
    return value


def _path(text: str, beside: Callable[[str], Any]) -> Any:
    if not text or text[:5].lower() == "data:" or (len(text) > 64 and BARE_BASE64.match(text)):
        return text
    scheme = _SCHEME.match(text)
    if scheme is None:
        return beside(text)
    if scheme[0].lower() == "file://":
        # As other tools write a path; a local file's own records may name local files.
        return beside(urllib.parse.unquote(text[len("file://") :]))
    return text
