"""The form that a reply is to have, as OpenAI's `response_format` says it, and as a regular expression or a grammar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omni.errors import InputError, shown

LONGEST = 1 << 18
"""Characters of a regular expression or a grammar."""
_KEYS = {"regex": "regex", "grammar": "grammar", "json_schema": "json_schema", "json_object": None, "text": None}
_OF_SCHEMA = ("name", "schema", "strict", "description")


@dataclass(frozen=True, eq=False)
class ResponseFormat:
    """A form.

    Attributes:
        kind: `json_schema`, `regex`, or `grammar` in llguidance's kind of Lark.
        value: the schema, or the text.
    """

    kind: Literal["json_schema", "regex", "grammar"]
    value: Any

    @classmethod
    def of(cls, format: Any) -> "ResponseFormat | None":
        """A form as callers give it; None for any text.

        Args:
            format: None; `{"type": "text"}`; `{"type": "json_object"}`;
                `{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}`;
                `{"type": "regex", "regex": ...}`; `{"type": "grammar", "grammar": ...}`.

        Raises:
            InputError: `bad_response_format`.
        """
        if format is None:
            return None
        if not isinstance(format, Mapping):
            raise InputError("bad_response_format", f"response_format must be a dict, got {shown(format)}")
        kind = format.get("type")
        if not isinstance(kind, str) or kind not in _KEYS:
            raise InputError(
                "bad_response_format",
                f"the type of response_format must be one of {', '.join(_KEYS)}, got {shown(kind)}",
            )
        key = _KEYS[kind]
        unknown = [name for name in format if name not in ("type", key)]
        if unknown:
            raise InputError("bad_response_format", f"a response_format of type {kind} has no {str(unknown[0])[:40]!r}")
        if kind == "text":
            return None
        if kind == "json_object":
            return cls("json_schema", {"type": "object"})
        value = format.get(key)
        if kind == "json_schema":
            return cls("json_schema", _schema(value))
        if not isinstance(value, str) or not value or len(value) > LONGEST:
            raise InputError("bad_response_format", f"the {key} of response_format must be text, got {shown(value)}")
        return cls("regex" if kind == "regex" else "grammar", value)


def _schema(value: Any) -> Mapping[str, Any]:
    """The schema within OpenAI's envelope."""
    if not isinstance(value, Mapping) or not isinstance(value.get("schema"), Mapping):
        raise InputError(
            "bad_response_format",
            'json_schema of response_format must be a dict such as {"name": ..., "schema": {...}}',
        )
    unknown = [name for name in value if name not in _OF_SCHEMA]
    if unknown:
        raise InputError("bad_response_format", f"json_schema of response_format has no {str(unknown[0])[:40]!r}")
    return value["schema"]
