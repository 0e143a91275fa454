"""JSON from strangers: read within limits that are checked before anything is built.

Depth, digits and the number of values are counted on the text itself, so that no input can exhaust the stack, the
memory or the time of a reader.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np

# Possessive, and up to the end where no quotation mark closes it: no text is gone through twice.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_STRUCTURE = {code: None for code in range(128) if chr(code) not in "[]{},"}


class JSONError(ValueError):
    """A text that is no JSON, or more of it than a reader takes; the message is one short sentence."""


@dataclass(frozen=True)
class JSONLimits:
    """How much JSON a reader takes.

    Attributes:
        bytes: length of the text.
        depth: objects and lists within one another.
        values: members of all objects and lists together.
        digits: of one number.
    """

    bytes: int = 4 << 20
    depth: int = 64
    values: int = 200_000
    digits: int = 400


SMALL = JSONLimits()
"""Settings, messages and records."""


def parse(
    text: str | bytes,
    limits: JSONLimits = SMALL,
    *,
    repeated: Literal["never", "alike", "last"] = "alike",
    finite: bool = True,
) -> Any:
    """Reads one JSON value.

    Args:
        text: UTF-8 when bytes; a byte order mark is passed over.
        limits: how much to take.
        repeated: whether an object may name a key twice: never, with the same value, or so that the last one counts.
        finite: whether NaN, Infinity and numbers that overflow to it are refused.

    Raises:
        JSONError: it is not JSON, or beyond a limit.
    """
    if len(text) > limits.bytes:
        raise JSONError(f"it is longer than {limits.bytes:,} bytes")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise JSONError(f"it is not UTF-8 at byte {error.start}") from None
    _check_structure(text, limits)
    try:
        return json.loads(
            text,
            parse_int=_whole(limits.digits),
            parse_float=_real(limits.digits, finite),
            parse_constant=_refuse_constant if finite else float,
            object_pairs_hook={"never": _once, "alike": _alike, "last": None}[repeated],
        )
    except JSONError:
        raise
    except json.JSONDecodeError as error:
        raise JSONError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except (RecursionError, ValueError) as error:
        raise JSONError("it is nested too deep" if isinstance(error, RecursionError) else str(error)[:100]) from None


def _check_structure(text: str, limits: JSONLimits) -> None:
    """Counts brackets and commas outside strings."""
    bare = _STRING.sub("", text).translate(_NOT_STRUCTURE)
    # What is left beyond ASCII is no JSON, which the parser will say.
    marks = np.frombuffer(bare.encode("ascii", "replace"), np.uint8)
    opening, closing = (np.isin(marks, np.frombuffer(kind, np.uint8)) for kind in (b"[{", b"]}"))
    if len(marks) - int(closing.sum()) > limits.values:
        raise JSONError(f"it holds more than {limits.values:,} values")
    depth = np.cumsum(opening.astype(np.int32) - closing.astype(np.int32))
    if depth.size and int(depth.max()) > limits.depth:
        raise JSONError(f"it is nested deeper than {limits.depth}")


def _whole(digits: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if len(text) > digits:
            raise JSONError(f"a number in it has more than {digits} digits")
        return int(text)

    return read


def _real(digits: int, finite: bool) -> Callable[[str], float]:
    def read(text: str) -> float:
        if len(text) > digits:
            raise JSONError(f"a number in it has more than {digits} digits")
        value = float(text)
        if finite and not math.isfinite(value):
            raise JSONError(f"{text[:40]} in it is beyond every number that can be computed with")
        return value

    return read


def _refuse_constant(name: str) -> NoReturn:
    raise JSONError(f"{name} in it is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for key, value in pairs:
        if key in held:
            raise JSONError(f"it names {key[:60]!r} twice")
        held[key] = value
    return held


def _alike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise JSONError(f"it says {key[:60]!r} twice, and differently")
    return held
