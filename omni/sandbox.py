"""A sandbox for chat templates: whatever one does, its time, its steps and the memory that it takes are bounded.

A template is a program from a checkpoint. Jinja's sandbox keeps it from what lies outside; here every loop, macro and
operation is counted, and every value is measured before it is made. Nothing is folded while a template is compiled.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter, safe_range

from omni.sandbox_compiler import BoundedGenerator
from omni.sandbox_rules import FILTER_RULES, METHOD_RULES, SLOW_FILTERS, TemplateLimit, check_printf, check_spec

__all__ = ["BoundedEnvironment", "Meter", "TemplateLimit", "metered"]

STEPS = 2_000_000
"""Loop bodies, calls and operations that one rendering may take."""
DEPTH = 100
"""Macros, blocks and recursive loops within one another."""
MEMORY = 40 << 20
"""Bytes that a template may make of a short conversation; of a long one, in proportion."""
# Whole numbers of 61 bits and more can be made to share a hash, and a dict of such is slow.
_NUMBER_BITS = 60
_SLOW_CHARACTERS = 100_000
_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_CONTAINERS = (list, tuple, dict, set, frozenset, *_VIEWS)


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
        if not isinstance(value, _CONTAINERS):
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
            elif isinstance(inner, _CONTAINERS):
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
            if isinstance(inner, _CONTAINERS):
                self.step()
                stack.extend(chain.from_iterable(dict.items(inner)) if isinstance(inner, dict) else inner)
            elif not isinstance(inner, (*_PLAIN, Undefined, range)):
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
    before, _CURRENT.meter = _CURRENT.meter, new
    try:
        yield new
    finally:
        _CURRENT.meter = before


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with limits of steps, time and memory; templates run within `metered`."""

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, **options: Any):
        super().__init__(optimized=False, finalize=self.shown_one, **options)
        del self.globals["lipsum"]
        self.globals["range"] = _range

    def bound(self) -> None:
        """Wraps the filters and tests, when all are there."""
        self.filters = {name: _bounded(name, filter) for name, filter in self.filters.items()}
        self.tests = {name: _counted(name, test) for name, test in self.tests.items()}

    @staticmethod
    def tick(written: int) -> None:
        """A body is entered, or two values are compared."""
        current = meter()
        current.step()
        if written:
            current.spend(written)

    @staticmethod
    def take(value: Any) -> Any:
        """A value has been made."""
        return meter().take(value)

    @staticmethod
    def shown_one(value: Any) -> Any:
        """A value becomes text."""
        return meter().show(value)

    @staticmethod
    def shown(values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Several values become one text."""
        current = meter()
        current.step()
        for value in values:
            current.show(value)
        return values

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        current = meter()
        current.step()
        weight = 0
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if numbers:
            if isinstance(left, int) and isinstance(right, int):
                bits = left.bit_length()
                made = {"**": bits * abs(right), "*": bits + right.bit_length() - 1}.get(operator, bits)
                if made > _NUMBER_BITS:
                    raise TemplateLimit(f"it makes a number of more than {_NUMBER_BITS} bits")
        elif operator == "*":
            times, value = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and isinstance(value, str | bytes | list | tuple):
                current.spend(sys.getsizeof(value) * max(times, 0))
                weight = current.weigh(value) * times
        elif operator == "+":
            if isinstance(left, str | bytes | list | tuple):
                current.spend(sys.getsizeof(left) + sys.getsizeof(right))
                weight = current.weigh(left) + current.weigh(right)
        elif operator == "%" and isinstance(left, str | bytes):
            current.spend(check_printf(left, right, current))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, list | tuple):
            current.note(result, weight)
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        current = meter()
        current.step()
        owner = getattr(__obj, "__self__", None)
        if owner is not None and isinstance(owner, (*_PLAIN, *_CONTAINERS, type)):
            args = _check_method(current, owner, getattr(__obj, "__name__", ""), args, kwargs)
        if current.depth >= DEPTH:
            raise TemplateLimit(f"its macros call one another more than {DEPTH} deep")
        current.depth += 1
        try:
            return current.take(super().call(__context, __obj, *args, **kwargs))
        finally:
            current.depth -= 1

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        template, several = value.__self__, value.__name__ == "format"

        def bounded(*args: Any, **kwargs: Any) -> str:
            values, named = (args, kwargs) if several else ((), args[0])
            return meter().take(type(template)(_Formatter(self).vformat(template, values, named)))

        return bounded


class _Formatter(SandboxedFormatter):
    """As Jinja's, with fields of bounded width."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        current = meter()
        current.step()
        current.show(value)
        current.spend(check_spec(format_spec))
        return super().format_field(value, format_spec)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return super().convert_field(meter().show(value), conversion)


def _check_method(current: Meter, owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Bounds a call of a builtin's method; returns its arguments, lazy ones made whole."""
    args = tuple(_whole(current, arg) for arg in args)
    # Jinja's own, of loops and blocks, begin with an underscore.
    kwargs = {key: value for key, value in kwargs.items() if not key.startswith("_")}
    size = len(owner) if isinstance(owner, str | bytes) else 0
    for number in chain(args, kwargs.values()):
        if isinstance(number, int) and abs(number) > max(size, 1 << 20):
            raise TemplateLimit(f"{name} is called with a number of more than {1 << 20:,}")
    if isinstance(owner, str | bytes):
        rule = METHOD_RULES.get(name)
        if rule is not None:
            current.spend(rule(owner, *args, **kwargs))
        current.spend(size)
    return args


def _whole(current: Meter, value: Any) -> Any:
    """A lazy value as a list, counted; others as they are."""
    if isinstance(value, Iterator | range):
        return current.take(list(current.lazily(value)))
    return value


def _bounded(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose time and result are bounded."""
    first = 1 if getattr(filter, "jinja_pass_arg", None) is not None else 0
    rule = FILTER_RULES.get(name)

    def bounded(*args: Any, **kwargs: Any) -> Any:
        current = meter()
        current.step()
        value, rest = args[first], args[first + 1 :]
        if name in SLOW_FILTERS and current.weigh(value) > _SLOW_CHARACTERS:
            raise TemplateLimit(f"the filter {name} is given more than {_SLOW_CHARACTERS:,} characters")
        if rule is not None:
            value, cost = rule(current, value, *rest, **kwargs)
            current.spend(cost)
        return current.take(filter(*args[:first], value, *rest, **kwargs))

    bounded.__dict__.update(getattr(filter, "__dict__", {}))
    return bounded


def _counted(name: str, test: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        meter().step()
        if name == "divisibleby" and not all(isinstance(arg, int | float) for arg in args):
            raise TypeError("divisibleby takes numbers")
        return test(*args, **kwargs)

    counted.__dict__.update(getattr(test, "__dict__", {}))
    return counted


def _range(*args: int) -> range:
    if any(abs(number).bit_length() > _NUMBER_BITS for number in args):
        raise TemplateLimit(f"its range has bounds of more than {_NUMBER_BITS} bits")
    return safe_range(*args)
