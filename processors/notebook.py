"""What is shown of a result, in notebooks beside its `repr`: never an error, and nothing is imported before."""

from collections.abc import Callable, Mapping
from functools import wraps
from html import escape
from typing import Any, TypeVar

T = TypeVar("T")


def shown(method: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Make a notebook's method give None, which shows the plain `repr`, where it would raise."""

    @wraps(method)
    def guarded(self: Any) -> T | None:
        try:
            return method(self)
        except Exception:
            return None

    return guarded


def shortened(text: str, most: int = 60) -> str:
    """Return the beginning of a text, for a `repr`."""
    return _cut(text, most)


def table(title: str, rows: Mapping[str, object], most: int = 2000) -> str:
    """Return facts as an HTML table of two columns, in the colours of the page that it stands on.

    Args:
        title: stands above.
        rows: name and value; values that are None are left out, and every text is escaped.
        most: letters of a value that are shown.
    """
    cells = (
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(name)}</th>"
        f"<td style='text-align:left;white-space:pre-wrap'>{escape(_cut(str(value), most))}</td></tr>"
        for name, value in rows.items()
        if value is not None
    )
    return f"<table><caption style='text-align:left'><b>{escape(title)}</b></caption>{''.join(cells)}</table>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
