"""What one rendering of a template has taken: time, steps, memory and output, counted against what it may take."""

import gc
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

STEPS = 2_000_000
"""Loop bodies, calls and operations that one rendering may take."""
DEPTH = 100
"""Macros, blocks and recursive loops within one another."""
MEMORY = 40 << 20
"""Bytes that a template may make of a short conversation; of a long one, in proportion."""
PLAIN = (str, bytes, int, float, complex, bool, type(None))
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
CONTAINERS = (list, tuple, dict, set, frozenset, *_VIEWS)


class TemplateLimit(Exception):
    """A template that takes more than it may."""


class Meter:
    """What one rendering has taken.

    Args:
        seconds: time that it may take.
        characters: most characters of its output.
        more: bytes that it may make beyond `MEMORY`.
    """

    def __init__(self, seconds: float, characters: int, more: int = 0):
        self.seconds, self.characters, self.memory = seconds, characters, MEMORY + more
        self.depth = 0
        self._left, self._steps, self._written = self.memory, STEPS, 0
        self._end, self._worked = time.monotonic() + seconds, time.thread_time() + seconds / 2
        self._paused: tuple[float, float] | None = None
        # By identity: what a container is worth, and the container, so that no other takes its identity.
        self._weights: dict[int, tuple[Any, int]] = {}

    def step(self, count: int = 1) -> None:
        """Counts steps, and looks at the clock."""
        self._steps -= count
        if self._steps < 0:
            raise TemplateLimit(f"it takes more than {STEPS:,} steps")
        # A thread that others keep waiting is given the time that it was not running.
        if time.monotonic() > self._end and time.thread_time() > self._worked:
            raise TemplateLimit(f"it takes more than {self.seconds:g} s")

    def pause(self) -> None:
        """What passes from now on is not the template's."""
        self._paused = time.monotonic(), time.thread_time()

    def resume(self) -> None:
        """It is again."""
        if self._paused is not None:
            passed, worked = self._paused
            self._end, self._worked = self._end + time.monotonic() - passed, self._worked + time.thread_time() - worked
            self._paused = None

    def spend(self, size: int) -> None:
        """Counts bytes that are made, before they are."""
        self._left -= size
        if self._left < 0:
            raise TemplateLimit(f"it makes more than {self.memory >> 20} MiB of text and lists")

    def write(self, text: str) -> None:
        """Counts characters of the output."""
        self._written += len(text)
        if self._written > self.characters:
            raise TemplateLimit(f"it writes more than {self.characters:,} characters")

    def weigh(self, value: Any) -> int:
        """What a value is worth as text, at least: a container that holds another twice counts it twice."""
        if isinstance(value, str | bytes):
            return len(value) + 16
        if not isinstance(value, CONTAINERS):
            return max(value.bit_length() // 3, 16) if isinstance(value, int) else 32
        known = self._weights.get(id(value))
        if known is not None and known[0] is value:
            return known[1]
        # What the template made is known when it is made, so only the conversation itself is ever walked whole.
        total, stack = 0, [value]
        while stack:
            inner = stack.pop()
            known = self._weights.get(id(inner))
            if known is not None and known[0] is inner:
                total += known[1]
            elif isinstance(inner, CONTAINERS):
                self.step()
                total += 64
                stack.extend(chain.from_iterable(dict.items(inner)) if isinstance(inner, dict) else inner)
            else:
                total += self.weigh(inner)
            if total > self.memory:
                break
        if not isinstance(value, _VIEWS):
            self.note(value, total)
        return total

    def note(self, value: Any, weight: int) -> None:
        """Remembers what a container is worth."""
        if weight > self.memory:
            raise TemplateLimit(f"it makes a value of more than {self.memory >> 20} MiB")
        self._weights[id(value)] = value, weight

    def take(self, value: Any) -> Any:
        """Counts a value that has been made; a lazy one is counted as it is used."""
        if isinstance(value, str | bytes):
            self.spend(sys.getsizeof(value))
        elif isinstance(value, list | tuple | dict | set):
            self.spend(sys.getsizeof(value))
            self.weigh(value)
        elif isinstance(value, Iterator):
            self.spend(1000)
            return self.lazily(value)
        return value

    def lazily(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same values, counted as they are used."""
        for value in values:
            self.step()
            self.spend(64)
            yield value

    def show(self, value: Any) -> Any:
        """Counts a value that is about to become text.

        Raises:
            SecurityError: its text would be an address in memory.
        """
        if type(value) is str:
            self.spend(sys.getsizeof(value))
            return value
        self.step()
        self.spend(4 * self.weigh(value))
        stack = [value]
        while stack:
            inner = stack.pop()
            if isinstance(inner, CONTAINERS):
                self.step()
                stack.extend(chain.from_iterable(dict.items(inner)) if isinstance(inner, dict) else inner)
            elif not isinstance(inner, (*PLAIN, Undefined, range)):
                raise SecurityError(f"a {type(inner).__name__} has no text")
        return value


class _Current(threading.local):
    meter: Meter | None = None


_CURRENT = _Current()


def meter() -> Meter:
    """The meter of the rendering that this thread is in.

    Raises:
        TemplateLimit: there is none: nothing of a template runs while it is compiled.
    """
    current = _CURRENT.meter
    if current is None:
        raise TemplateLimit("it runs outside a rendering")
    return current


@contextmanager
def metered(new: Meter) -> Iterator[Meter]:
    """Counts what templates do within, in this thread."""

    def collecting(phase: str, _: dict[str, int]) -> None:
        # Garbage is the whole process's: beside a large model, to go through it takes a quarter of a second.
        if _CURRENT.meter is new:
            new.pause() if phase == "start" else new.resume()

    before, _CURRENT.meter = _CURRENT.meter, new
    gc.callbacks.append(collecting)
    try:
        yield new
    finally:
        gc.callbacks.remove(collecting)
        _CURRENT.meter = before
