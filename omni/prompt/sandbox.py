"""A sandbox for chat templates: whatever one does, its time, its steps and the memory that it takes are bounded.

A template is a program from a checkpoint. Jinja's sandbox keeps it from what lies outside; here every loop, macro and
operation is counted, and every value is measured before it is made. Nothing is folded while a template is compiled.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter, safe_range

from omni.prompt.sandbox_compiler import BoundedGenerator
from omni.prompt.sandbox_meter import (
    CONTAINERS,
    DEPTH,
    PLAIN,
    Meter,
    TemplateLimit,
    meter,
    metered,
)
from omni.prompt.sandbox_rules import FILTER_RULES, METHOD_RULES, SLOW_FILTERS, check_printf, check_spec

__all__ = ["BoundedEnvironment", "Meter", "TemplateLimit", "metered"]

# Whole numbers of 61 bits and more can be made to share a hash, and a dict of such is slow.
_NUMBER_BITS = 60
_SLOW_CHARACTERS = 100_000


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
        if owner is not None and isinstance(owner, (*PLAIN, *CONTAINERS, type)):
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
