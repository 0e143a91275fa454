"""The public message format: checked, and split into what a template reads and the media it stands for."""

import base64
import binascii
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from omni.embedding import Embedding
from omni.errors import InputError
from omni.media import Audio, Image, Video

Medium = Image | Audio | Video | Embedding

ROLES = ("system", "user", "assistant", "tool")
_CLASSES = {"image": Image, "audio": Audio, "video": Video}
# What a part may say besides its type and its value.
_OPTIONS = {
    "image": ("min_pixels", "max_pixels"),
    "audio": ("sampling_rate",),
    "video": ("fps", "num_frames", "audio"),
}
# OpenAI's forms, and those made after them: the kind that each holds.
_URLS = {"image_url": "image", "audio_url": "audio", "video_url": "video"}
# What an assistant's message may have in place of content.
_INSTEAD_OF_CONTENT = ("tool_calls", "reasoning_content")
_TYPES = ("text", "image", "audio", "video", *_URLS, "input_audio")


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
            an `omni.Embedding`. Options: `min_pixels`, `max_pixels` of an image; `sampling_rate` of audio; `fps`,
            `num_frames`, `audio` of a video. Other keys of a message are for the template.

    Raises:
        InputError: `bad_messages`, `bad_role`, `bad_content`, `bad_part`, `unknown_key`, `bad_option`,
            `wrong_medium` or `bad_base64`.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise InputError("bad_messages", f"messages must be a non-empty list of dicts, got {_kind(messages)}")
    media: list[Medium] = []
    return Parsed(tuple(_message(message, media) for message in messages), tuple(media))


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
    return isinstance(messages[0], Mapping | int | np.integer)


def _message(message: Any, media: list[Medium]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError("bad_messages", f"a message must be a dict with role and content, got {_kind(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        shown = repr(role[:40]) if isinstance(role, str) else _kind(role)
        raise InputError("bad_role", f"a message's role must be one of {', '.join(ROLES)}, got {shown}")
    content = message.get("content")
    if content is None:
        # What calls tools, or has only thought so far, may say nothing.
        if role != "assistant" or not any(message.get(key) for key in _INSTEAD_OF_CONTENT):
            keys = ", ".join(repr(key) for key in message)
            raise InputError("bad_content", f"a message of role {role} has no content; its keys are {keys}")
        content = ""
    elif isinstance(content, list | tuple):
        content = [_part(part, media) for part in content]
    elif not isinstance(content, str):
        raise InputError("bad_content", f"content must be a string or a list of parts, got {_kind(content)}")
    return {**message, "content": content}


def _part(part: Any, media: list[Medium]) -> dict[str, Any]:
    """A part as a template reads it; its medium goes to the list."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise InputError("bad_part", f"a part of a content list must be a string or a dict, got {_kind(part)}")
    key = _type(part)
    kind = "audio" if key == "input_audio" else _URLS.get(key, key)
    options = _OPTIONS.get(kind, ())
    _refuse_unknown(part, ("type", key, *options), key)
    value = part.get(key)
    if value is None:
        keys = ", ".join(repr(k) for k in part)
        raise InputError("bad_part", f"a part of type {key} must have the key {key!r}; its keys are {keys}")
    if kind == "text":
        if not isinstance(value, str):
            raise InputError("bad_part", f"the text of a part must be a string, got {_kind(value)}")
        return {"type": "text", "text": value}
    if key in _URLS:
        value = _url(value, key)
    elif key == "input_audio":
        value = _input_audio(value)
    given = {name: _option(name, part[name]) for name in options if part.get(name) is not None}
    media.append(_medium(kind, value, given))
    return {"type": kind, kind: True}


def _type(part: Mapping[str, Any]) -> str:
    """What a part is: by its type, or by its one telling key."""
    if "type" not in part:
        # A video's own key comes before `audio`, which is its option then.
        found = [key for key in ("video", *_TYPES) if key in part]
        if not found:
            keys = ", ".join(repr(key) for key in part) or "none"
            raise InputError("bad_part", f"a part must have a type, one of {', '.join(_TYPES)}; its keys: {keys}")
        return found[0]
    given = part["type"]
    if not isinstance(given, str):
        raise InputError("bad_part", f"a part's type must be a string, got {_kind(given)}")
    if given not in _TYPES:
        nearest = difflib.get_close_matches(given, _TYPES, n=1, cutoff=0.0)[0]
        raise InputError("bad_part", f"a part's type {given[:40]!r} is not known; the nearest is {nearest!r}")
    return given


def _refuse_unknown(given: Mapping[Any, Any], known: Sequence[str], what: str) -> None:
    for key in given:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            shown = repr(str(key)[:40])
            raise InputError("unknown_key", f"{what} has no {shown}; the nearest key that it has is {nearest!r}")


def _option(name: str, value: Any) -> Any:
    """A part's option, checked."""
    if name == "audio":
        if isinstance(value, Embedding | Image | Video):
            raise InputError("wrong_medium", f"a video's audio must be True, False or a recording, got {_kind(value)}")
        return value
    number = None
    if isinstance(value, Real) and not isinstance(value, bool):
        if name == "fps":
            number = float(value)
        elif isinstance(value, Integral):
            number = int(value)
    if number is None or not 0 < number < float("inf"):
        wanted = "number" if name == "fps" else "whole number"
        shown = repr(value)[:40] if isinstance(value, Real) else _kind(value)
        raise InputError("bad_option", f"{name} must be a {wanted} above 0, got {shown}")
    return number


def _medium(kind: str, value: Any, options: dict[str, Any]) -> Medium:
    """A value as a wrapped medium of its kind."""
    if isinstance(value, Embedding):
        if value.kind != kind:
            raise InputError("wrong_medium", f"a part of type {kind} holds an embedding of kind {value.kind}")
        if options:
            raise InputError("bad_option", f"{next(iter(options))} is for reading a medium; an embedding has been read")
        return value
    if isinstance(value, Image | Audio | Video):
        if not isinstance(value, _CLASSES[kind]):
            raise InputError("wrong_medium", f"a part of type {kind} holds an omni.{type(value).__name__}")
        return replace(value, **options)
    return _CLASSES[kind](value, **options)


def _url(value: Any, key: str) -> str:
    """`{"url": ...}`, or the address itself: http(s), data URI or path."""
    if isinstance(value, Mapping):
        _refuse_unknown(value, ("url", "detail"), key)
        if value.get("detail", "auto") != "auto":
            raise InputError("bad_option", f"{key}: detail is not supported; set min_pixels or max_pixels beside it")
        value = value.get("url")
    if not isinstance(value, str) or not value:
        raise InputError("bad_part", f"{key} must be an address or a dict with one as its url")
    return value


def _input_audio(value: Any) -> bytes | str:
    """`{"data": base64, "format": ...}`; the format shows in the data."""
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), str):
        raise InputError("bad_part", "input_audio must be a dict with base64 text as its data")
    _refuse_unknown(value, ("data", "format"), "input_audio")
    if value["data"].startswith("data:"):
        return value["data"]
    try:
        return base64.b64decode("".join(value["data"].split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("bad_base64", "the data of input_audio is not base64") from None


def _kind(value: Any) -> str:
    """What a value is, for a message: no contents, no addresses."""
    return "nothing" if value is None else f"a {type(value).__name__}"
