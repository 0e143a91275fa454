"""Rules of the sandbox: what filters and methods of strings would make of their arguments, told before they do."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2.exceptions import SecurityError

from omni.prompt.sandbox_meter import Meter, TemplateLimit

_PRINTF = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")
_SPACES = " \t\n\r\x0b\x0c"
_PRODUCT = 1 << 31
_MOST_DIGITS = 6
_LONGEST_SEPARATOR = 64

# Their work grows with more than the length of what they are given, or in Python's own pace.
SLOW_FILTERS = frozenset(
    "filesizeformat float int pprint striptags title truncate urlencode urlize wordcount wordwrap xmlattr".split()
)


def check_spec(spec: str) -> int:
    """Return how many characters a format specification pads to.

    Raises:
        TemplateLimit: millions.
    """
    widths = re.findall(r"\d+", spec)
    if any(len(width) > _MOST_DIGITS for width in widths):
        raise TemplateLimit("it pads a text to millions of characters")
    return sum(map(int, widths)) * 4


def check_printf(text: str | bytes, values: Any, current: Meter) -> int:
    """Return how many bytes printf-style formatting makes, at most; a mapping's values may be used many times."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    fields = _PRINTF.findall(shown)
    if any("*" in field for field in fields):
        raise SecurityError("a format takes its width from a value")
    current.show(values)
    repeated = len(fields) * 4 * current.weigh(values) if isinstance(values, Mapping) else 0
    return repeated + sum(check_spec(" ".join(field)) for field in fields) + sys.getsizeof(text)


def _padded(text: str | bytes, width: int = 0, *_: Any) -> int:
    return 4 * max(int(width), 0)


def _expanded(text: str | bytes, tabsize: int = 8) -> int:
    tab: Any = "\t" if isinstance(text, str) else b"\t"
    return 4 * text.count(tab) * max(int(tabsize), 0)


def _replaced(text: Any, old: Any, new: Any, count: int = -1) -> int:
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    width = max(sys.getsizeof(new) // max(len(new), 1), 1) if len(new) else 1
    return sys.getsizeof(text) + times * len(new) * min(width, 4)


def _joined(separator: Any, values: Any = ()) -> int:
    total, number = 0, 0
    for value in values:
        total, number = total + sys.getsizeof(value), number + 1
    return total + number * sys.getsizeof(separator)


def _split(text: Any, separator: Any = None, maxsplit: int = -1) -> int:
    if separator is not None:
        pieces = text.count(separator)
    elif isinstance(text, bytes) or not text.isascii():
        pieces = len(text) // 2
    else:
        pieces = sum(map(text.count, _SPACES))
    if maxsplit >= 0:
        pieces = min(pieces, maxsplit)
    return _scanned(text, separator) + (pieces + 1) * 64


def _split_lines(text: Any, *_: Any) -> int:
    ascii_text = isinstance(text, str) and text.isascii()
    breaks = sum(map(text.count, "\n\r\x0b\x0c\x1c\x1d\x1e")) if ascii_text else len(text)
    return (breaks + 1) * 64


def _scanned(text: Any, part: Any = None, *_: Any) -> int:
    # Backwards, and for sets of characters, Python compares every character with every other.
    if part is not None and len(text) * len(part) > _PRODUCT:
        raise TemplateLimit("it looks for a long text in a long text")
    return 0


def _coded(text: Any, encoding: str = "utf-8", errors: str = "strict") -> int:
    if str(encoding).lower().replace("_", "-") not in ("utf-8", "utf8", "ascii", "latin-1"):
        raise SecurityError("text is encoded as UTF-8 alone")
    return 4 * len(text)


def _refused(*_: Any) -> int:
    raise SecurityError("it is not for templates")


METHOD_RULES: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    **dict.fromkeys(("lstrip", "rstrip", "strip", "rfind", "rindex", "rpartition"), _scanned),
    **dict.fromkeys(("split", "rsplit"), _split),
    **dict.fromkeys(("encode", "decode"), _coded),
    **dict.fromkeys(("maketrans", "translate", "striptags", "unescape"), _refused),
    "expandtabs": _expanded,
    "join": _joined,
    "replace": _replaced,
    "splitlines": _split_lines,
}
"""By name: the bytes that a method of a string makes beyond the string itself."""

Rule = Callable[..., tuple[Any, int]]


def _number(value: Any, most: int = 1 << 20) -> int:
    if not isinstance(value, int) or abs(value) > most:
        raise TemplateLimit(f"a filter is called with another number than one up to {most:,}")
    return value


def _each(current: Meter, value: Any, *_: Any, **__: Any) -> tuple[Any, int]:
    """What is gone through: a lazy value is counted as it is."""
    if isinstance(value, Iterator):
        return current.lazily(value), 0
    if isinstance(value, str | bytes):
        return value, 80 * len(value)
    return value, 8 * len(value) if hasattr(value, "__len__") else 0


def _turned(current: Meter, value: Any, *_: Any) -> tuple[Any, int]:
    return (value, sys.getsizeof(value)) if isinstance(value, str | bytes) else _each(current, value)


def _sorted(current: Meter, value: Any, *_: Any, **__: Any) -> tuple[Any, int]:
    """What is compared with one another, and so made whole first."""
    if isinstance(value, Iterator):
        value = current.take(list(current.lazily(value)))
    return value, _each(current, value)[1] + 2 * current.weigh(value)


def _batched(current: Meter, value: Any, number: Any = 0, *_: Any, **__: Any) -> tuple[Any, int]:
    value, cost = _each(current, value)
    return value, cost + 8 * abs(_number(number))


def _summed(current: Meter, value: Any, attribute: Any = None, start: Any = 0) -> tuple[Any, int]:
    if not isinstance(start, int | float):
        raise SecurityError("sum adds numbers")
    return _each(current, value)


def _text(current: Meter, value: Any, *_: Any, **__: Any) -> tuple[Any, int]:
    return current.show(value), 0


def _escaped(current: Meter, value: Any, *_: Any) -> tuple[Any, int]:
    text = str(current.show(value))
    return value, sys.getsizeof(text) + 5 * sum(map(text.count, "&<>\"'"))


def _centred(current: Meter, value: Any, width: Any = 80) -> tuple[Any, int]:
    return current.show(value), 4 * abs(_number(width))


def _indented(current: Meter, value: Any, width: Any = 4, *_: Any, **__: Any) -> tuple[Any, int]:
    step = len(width) if isinstance(width, str) else abs(_number(width))
    return value, (len(value) + (str(value).count("\n") + 1) * step) * 4


def _rounded(current: Meter, value: Any, precision: Any = 0, method: Any = "common") -> tuple[Any, int]:
    _number(precision, 100)
    return value, 0


def _formatted(current: Meter, value: Any, *args: Any, **kwargs: Any) -> tuple[Any, int]:
    return value, check_printf(str(current.show(value)), kwargs or args, current)


def _exchanged(current: Meter, value: Any, old: Any, new: Any, count: Any = None) -> tuple[Any, int]:
    texts = [str(current.show(one)) for one in (value, old, new)]
    return value, _replaced(texts[0], texts[1], texts[2], -1 if count is None else count)


def _trimmed(current: Meter, value: Any, chars: Any = None) -> tuple[Any, int]:
    return current.show(value), _scanned(value, chars)


def _chained(current: Meter, value: Any, d: Any = "", attribute: Any = None) -> tuple[Any, int]:
    values, cost = _each(current, value)
    if attribute is None:
        values = list(values)
        cost += sum(sys.getsizeof(one) if isinstance(current.show(one), str) else 0 for one in values)
        return values, cost + len(values) * sys.getsizeof(str(current.show(d)))
    values = current.take(list(values))
    # What its attributes hold is part of a value.
    return values, cost + 4 * current.weigh(values) + len(values) * sys.getsizeof(str(current.show(d)))


def _dumped(
    current: Meter, value: Any, ensure_ascii: Any = False, indent: Any = None, separators: Any = None, **_: Any
) -> tuple[Any, int]:
    steps = [indent] if isinstance(indent, str) else []
    steps += list(separators) if isinstance(separators, Iterable) else []
    if any(len(str(step)) > _LONGEST_SEPARATOR for step in steps):
        raise TemplateLimit("its separators are long")
    if isinstance(indent, int):
        _number(indent, _LONGEST_SEPARATOR)
    weight = current.weigh(value)
    return value, weight * (6 if ensure_ascii else 2) * (1 if indent is None else 4)


FILTER_RULES: dict[str, Rule] = {
    **dict.fromkeys(("list", "map", "reject", "rejectattr", "select", "selectattr"), _each),
    **dict.fromkeys(("last", "reverse"), _turned),
    **dict.fromkeys(("dictsort", "groupby", "max", "min", "sort", "unique"), _sorted),
    **dict.fromkeys(("batch", "slice"), _batched),
    **dict.fromkeys(("capitalize", "lower", "pprint", "string", "title", "upper", "xmlattr"), _text),
    **dict.fromkeys(("striptags", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "safe"), _text),
    **dict.fromkeys(("e", "escape", "forceescape"), _escaped),
    "center": _centred,
    "format": _formatted,
    "indent": _indented,
    "join": _chained,
    "replace": _exchanged,
    "round": _rounded,
    "sum": _summed,
    "tojson": _dumped,
    "trim": _trimmed,
}
"""By name: the value that a filter is given, counted or made whole, and the bytes that it makes of it."""
