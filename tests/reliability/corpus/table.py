"""A table of inputs by name: how each is built, what is called with it, and its declared outcome."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.reliability.outcomes import Either, Outcome, Refused, Value, Verdict, judge

__all__ = ["Either", "Entry", "Refused", "Table", "Value", "demo", "folder", "user"]


@dataclass(frozen=True)
class Entry:
    """One input.

    Attributes:
        build: makes it, in an empty folder of its own that is the working directory.
        call: a public call.
        outcome: what must come of it.
    """

    build: Callable[[], Any]
    call: Callable[[Any], Any]
    outcome: Outcome


class Table(dict[str, Entry]):
    """Named inputs of one kind.

    Args:
        kind: goes before every name.
    """

    def __init__(self, kind: str):
        self.kind = kind

    def add(self, name: str, build: Any, call: Callable[[Any], Any], outcome: Outcome) -> None:
        """Adds an input; `build` is what makes it, or the input itself where it is no function."""
        name = f"{self.kind}: {name}"
        assert name not in self, name
        self[name] = Entry(build if callable(build) and not isinstance(build, type) else lambda: build, call, outcome)

    def judge(self, name: str) -> Verdict:
        """Tries one input in a folder of its own. What is slow is tried again: programs compile."""
        verdict = self._judge(name)
        return self._judge(name) if verdict.how == "slow" else verdict

    def _judge(self, name: str) -> Verdict:
        entry, here = self[name], os.getcwd()
        with tempfile.TemporaryDirectory(prefix="case-") as folder:
            os.chdir(folder)
            try:
                return judge(name, entry.build(), entry.call, entry.outcome)
            finally:
                os.chdir(here)


@cache
def demo() -> Any:
    """The model that comes with the package, in float32."""
    import omni

    return omni.load("demo", dtype="float32")


@cache
def warm() -> None:
    """Compiles what most inputs go through, so that none of them is charged with it."""
    import numpy as np

    import omni

    model = demo()
    model.encode(np.zeros((48, 64, 3), np.uint8))
    model.encode(omni.Audio(np.zeros(16_000, np.float32), 16_000))
    model.encode(np.zeros((4, 64, 64, 3), np.uint8))
    model.generate([{"role": "user", "content": "hi"}], max_new_tokens=1, temperature=0)


def folder(name: str = "checkpoint") -> Path:
    """A new folder in the working directory; its relative path, so that messages name what was given."""
    path, number = Path(name), 0
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    path.mkdir(parents=True)
    return path


def user(*parts: Any) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": list(parts) if len(parts) != 1 or not isinstance(parts[0], str) else parts[0]}]
