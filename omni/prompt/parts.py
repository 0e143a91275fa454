"""Parts of a message's content: text, and media in the forms of the tools that write them."""

import base64
import binascii
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from omni.errors import InputError, shown
from omni.media.embedding import Embedding
from omni.media.types import Audio, Image, Video, above_zero, as_source, whole
from omni.prompt.plain import Plain, as_mapping

Medium = Image | Audio | Video | Embedding

CLASSES = {"image": Image, "audio": Audio, "video": Video}
_BUDGET = ("min_pixels", "max_pixels")
# What a part may say besides its type and its value.
OPTIONS = {
    "image": (*_BUDGET, "detail"),
    "audio": ("sampling_rate",),
    "video": (
        *(*_BUDGET, "total_pixels", "fps", "num_frames", "min_frames", "max_frames", "audio"),
        *("nframes", "sample_fps", "detail"),
    ),
}
# Options of qwen-vl-utils and others that are not ours, and what to do instead.
_INSTEAD = {
    "resized_height": "set min_pixels and max_pixels, or resize the medium first",
    "resized_width": "set min_pixels and max_pixels, or resize the medium first",
    "video_start": "cut the video first",
    "video_end": "cut the video first",
    "raw_fps": "give the frames' own rate as fps",
    "image_patch_size": "it is the checkpoint's",
    "file_id": "give the file's address or bytes",
}
# OpenAI's forms, and those made after them: the kind that each holds.
URLS = {"image_url": "image", "audio_url": "audio", "video_url": "video", "input_image": "image"}
# Where transformers' forms of a medium have its value, beside its own name.
PLACES = ("url", "path", "base64")
TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
TYPES = ("text", "image", "audio", "video", *URLS, "input_audio", *(name for name in TEXTS if name != "text"))
# Parts that are content of another kind, and the form to use.
_OTHERS = {
    "file": "give an image, audio or video in a part of its own kind, and a text as text",
    "input_file": "give an image, audio or video in a part of its own kind, and a text as text",
    "document": "give its text as text, and its pages as images",
    "tool_use": "write the message's tool_calls",
    "tool_call": "write the message's tool_calls",
    "tool_result": "write a message of role tool",
    "function_call": "write the message's tool_calls",
    "reasoning": "write it into the message's reasoning_content",
    "redacted_thinking": "leave it out",
}
LOW_DETAIL = 512 * 512
"""Pixels of an image that OpenAI's `detail` asks to be read in low detail."""


def read_part(part: Any, media: list[Medium], plain: Plain) -> dict[str, Any]:
    """Return a part as a template reads it; its medium goes to the list. Thoughts come as a part of type `thinking`.

    Raises:
        InputError: `bad_part`, `unknown_key`, `bad_option`, `wrong_medium`, `bad_base64`, or the codes of the media.
    """
    if isinstance(part, str):
        return {"type": "text", "text": plain.text(part)}
    part = as_mapping(part)
    if not isinstance(part, Mapping):
        raise InputError("bad_part", f"a part of a content list must be a string or a dict, got {kind_of(part)}")
    key = _type(part)
    if key in TEXTS or key == "thinking":
        return _text(part, key, plain)
    kind = "audio" if key == "input_audio" else URLS.get(key, key)
    value, options = _value(part, key, kind), dict(part)
    if key in URLS:
        value, more = _url(value, key, kind)
        options |= more
    elif key == "input_audio":
        value = _input_audio(value)
    media.append(medium_of(kind, value, _options(kind, options, value)))
    return {"type": kind, kind: True}


def medium_of(kind: str, value: Any, options: Mapping[str, Any]) -> Medium:
    """Return a value as a wrapped medium of its kind; options of None are defaults.

    Raises:
        InputError: `wrong_medium`, `bad_option`, or the codes of the media.
    """
    if isinstance(value, Embedding):
        if value.kind != kind:
            raise InputError("wrong_medium", f"a part of type {kind} holds an embedding of kind {value.kind}")
        if options:
            raise InputError("bad_option", f"{next(iter(options))} is for reading a medium; an embedding has been read")
        return value
    if isinstance(value, Image | Audio | Video):
        if not isinstance(value, CLASSES[kind]):
            raise InputError("wrong_medium", f"a part of type {kind} holds an omni.{type(value).__name__}")
        return replace(value, **options)
    return CLASSES[kind](value, **options)


def kind_of(value: Any) -> str:
    """Return what a value is, for a message: no contents, no addresses."""
    return "nothing" if value is None else f"a {type(value).__name__}"


def keys_of(value: Mapping[Any, Any]) -> str:
    """Return the keys of a dict, for a message."""
    return ", ".join(repr(str(key)[:40]) for key in list(value)[:8]) or "none"


def refuse_unknown(value: Mapping[Any, Any], known: Sequence[str], what: str) -> None:
    """Raise for a key that is not known; None holds nothing.

    Raises:
        InputError: `unknown_key`, naming the nearest that is known.
    """
    for key, inner in value.items():
        if key not in known and inner is not None:
            name = str(key)[:40]
            if key in _INSTEAD:
                raise InputError("bad_option", f"{what}: {name} is not supported; {_INSTEAD[key]}")
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError("unknown_key", f"{what} has no {name!r}; the nearest key that it has is {nearest!r}")


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes of base64 text, spaces within and padding left out allowed.

    Raises:
        InputError: `bad_base64`.
    """
    body = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("bad_base64", f"the data of {what} is not base64") from None


def is_path(text: str) -> bool:
    """Whether the data of audio is a path or an address, and so no base64."""
    return len(text) < 4096 and bool(re.search(r"\.\w{1,5}\Z|\A\w+://", text))


def _type(part: Mapping[str, Any]) -> str:
    """What a part is: by its type, or by its one telling key."""
    if "type" not in part:
        # A video's own key comes before `audio`, which is its option then.
        known = [key for key in ("video", *TYPES) if key in part]
        if not known:
            raise InputError(
                "bad_part", f"a part must have a type, one of {', '.join(TYPES)}; its keys: {keys_of(part)}"
            )
        return known[0]
    kind = part["type"]
    if not isinstance(kind, str):
        raise InputError("bad_part", f"a part's type must be a string, got {kind_of(kind)}")
    if kind in _OTHERS:
        raise InputError("bad_part", f"a part's type {kind!r} is not supported: {_OTHERS[kind]}")
    if kind not in TYPES and kind != "thinking":
        nearest = difflib.get_close_matches(kind[:40], TYPES, n=1, cutoff=0.0)[0]
        raise InputError("bad_part", f"a part's type {kind[:40]!r} is not known; the nearest is {nearest!r}")
    return str.__str__(kind)


def _text(part: Mapping[str, Any], key: str, plain: Plain) -> dict[str, Any]:
    name = TEXTS.get(key, key)
    # What OpenAI's and Anthropic's replies have beside their text, and no prompt holds.
    beside = {"output_text": ("annotations", "logprobs"), "thinking": ("signature",)}.get(key, ())
    refuse_unknown(
        {k: v for k, v in part.items() if k not in beside or (v and k == "annotations")}, ("type", name), key
    )
    value = part.get(name)
    if not isinstance(value, str):
        raise InputError("bad_part", f"the text of a part must be a string, got {kind_of(value)}")
    return {"type": "thinking" if key == "thinking" else "text", "text": plain.text(value)}


def _value(part: Mapping[str, Any], key: str, kind: str) -> Any:
    """What a part holds, wherever its form has it."""
    name = "image_url" if key == "input_image" else key
    places = [place for place in (name, *PLACES, "source") if part.get(place) is not None]
    if key not in CLASSES:
        places = [place for place in places if place == name]
        refuse_unknown(part, ("type", name, *OPTIONS[kind]), key)
    else:
        refuse_unknown(part, ("type", name, *OPTIONS[kind], *places), key)
    if len(places) != 1:
        reason = "must have the key" if not places else "must have one value, under the key"
        raise InputError("bad_part", f"a part of type {key} {reason} {name!r}; its keys are {keys_of(part)}")
    value = part[places[0]]
    if places[0] == "base64" and isinstance(value, str):
        return decode_base64(value, f"a part of type {key}")
    if places[0] == "source":
        return _source(value, key)
    return value


def _source(value: Any, key: str) -> Any:
    """Anthropic's form: base64 or an address; bytes, where a record's lay in its archive."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        form = value.get("type")
        if form == "base64" and isinstance(value.get("data"), str):
            refuse_unknown(value, ("type", "media_type", "data"), "a source")
            return decode_base64(value["data"], f"a part of type {key}")
        if form == "url" and isinstance(value.get("url"), str):
            refuse_unknown(value, ("type", "url"), "a source")
            return value["url"]
    raise InputError("bad_part", f"the source of a part of type {key} must be a dict of type base64 or url")


def _options(kind: str, part: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """A part's options by the names of `omni.Image`, `omni.Audio` and `omni.Video`."""
    options = {name: _checked(name, part[name]) for name in OPTIONS[kind] if part.get(name) is not None}
    detail = options.pop("detail", None)
    for alias, name in (("nframes", "num_frames"), ("sample_fps", "fps")):
        if (number := options.pop(alias, None)) is None:
            continue
        if alias == "sample_fps" and isinstance(as_source(value), str | bytes):
            raise InputError("bad_option", "sample_fps is the rate of a list of frames; of a file, set fps")
        if options.setdefault(name, number) != number:
            raise InputError("bad_option", f"{alias} {shown(number)} is given beside {name} {shown(options[name])}")
    if detail is not None:
        options = _detail(kind, detail) | options
    return options


def _checked(name: str, value: Any) -> Any:
    if name in ("fps", "sample_fps"):
        return above_zero(name, value)
    return value if name in ("audio", "detail") else whole(name, value)


def _detail(kind: str, detail: Any) -> dict[str, int]:
    """OpenAI's wish for detail as a budget of pixels: its own where it is low, else the checkpoint's."""
    if not isinstance(detail, str) or detail not in ("auto", "low", "high", "original"):
        raise InputError("bad_option", f"detail must be auto, low, high or original, got {shown(detail)}")
    if kind != "image" and detail != "auto":
        raise InputError("bad_option", f"detail is for images; set min_pixels or max_pixels of the {kind}")
    return {"max_pixels": LOW_DETAIL} if detail == "low" else {}


def _url(value: Any, key: str, kind: str) -> tuple[Any, dict[str, Any]]:
    """`{"url": ...}`, or the address itself: http(s), data URI or path; and the options beside it."""
    options: dict[str, Any] = {}
    value = as_mapping(value)
    if isinstance(value, Mapping):
        refuse_unknown(value, ("url", "detail"), key)
        if value.get("detail") is not None:
            options["detail"] = value["detail"]
        value = value.get("url")
    if kind == "video" and isinstance(value, list | tuple) and value:
        return list(value), options  # frames, as some clients give them
    if not isinstance(value, str | bytes) or not value:
        raise InputError("bad_part", f"{key} must be an address or a dict with one as its url")
    return value, options


def _input_audio(value: Any) -> bytes | str:
    """`{"data": base64, "format": ...}`; the format shows in the data."""
    value = as_mapping(value)
    if isinstance(value, bytes):
        return value  # from an archive
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), str):
        raise InputError("bad_part", "input_audio must be a dict with base64 text as its data")
    refuse_unknown(value, ("data", "format"), "input_audio")
    data = value["data"]
    if data[:5].lower() == "data:" or is_path(data):
        return data
    return decode_base64(data, "input_audio")
