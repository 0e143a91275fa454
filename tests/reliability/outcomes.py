"""What an input is declared to come to, and how what came is judged."""

import dataclasses
import fnmatch
import math
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

HANG_SECONDS = 2.0
HARD_SECONDS = 20
LONGEST_MESSAGE = 500
_ADDRESS = re.compile(r"0x[0-9a-f]{5,}")
_PATH = re.compile(r"/(?:tmp|root|home|usr|var|opt|work|mnt|lib|proc)/[\w./-]+")


@dataclasses.dataclass(frozen=True)
class Value:
    """A value is declared, for which `fits` holds."""

    fits: Callable[[Any], Any] = lambda value: True
    note: str = ""

    def __str__(self) -> str:
        return f"a value {self.note}".strip()


@dataclasses.dataclass(frozen=True)
class Refused:
    """A refusal is declared with one of these codes, which may be patterns such as `image_*`.

    Attributes:
        codes: of the error.
        says: a pattern that its message holds, in any case.
    """

    codes: tuple[str, ...]
    says: str

    def __init__(self, *codes: str, says: str = ""):
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "says", says)

    def __str__(self) -> str:
        return "refused " + "|".join(self.codes) + (f", saying {self.says!r}" if self.says else "")

    def has(self, code: str) -> bool:
        """Whether a code is among them."""
        return any(fnmatch.fnmatchcase(code, pattern) for pattern in self.codes)


@dataclasses.dataclass(frozen=True)
class Either:
    """A value or a refusal is right: what matters is that nothing else comes."""

    value: Value
    refused: Refused

    def __str__(self) -> str:
        return f"{self.value}, or {self.refused}"


Outcome = Value | Refused | Either


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How one input ended.

    Attributes:
        name: of the input.
        how: "as declared", "wrong", "crash", "slow", "hang" (it had to be stopped) or "silent NaN".
        why: one sentence for what is not as declared.
        seconds: it took.
        code: of a refusal.
        declared: whether it ended as declared, however long it took: no clock decides a test.
    """

    name: str
    how: str
    why: str = ""
    seconds: float = 0.0
    code: str = ""
    declared: bool = False

    @property
    def right(self) -> bool:
        return self.how == "as declared"


class Stopped(BaseException):
    """An input took longer than any may."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises `Stopped` in the main thread after so long; native code is stopped by who watches the process."""

    def stop(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(name: str, source: Any, call: Callable[[Any], Any], outcome: Outcome) -> Verdict:
    """Calls what an input is for, and judges what comes."""
    value = error = None
    began = time.perf_counter()
    try:
        with alarm(HARD_SECONDS):
            value = call(source)
    except Stopped:
        return Verdict(name, "hang", f"stopped after {HARD_SECONDS} s", time.perf_counter() - began)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as raised:
        error = raised
    seconds = time.perf_counter() - began
    how, why, code = _end(value, error, outcome, shown=_strings(source))
    declared = how == "as declared"
    if how in ("as declared", "wrong") and seconds > HANG_SECONDS:
        how, why = "slow", f"{seconds:.1f} s {why}"
    return Verdict(name, how, why, seconds, code, declared)


def _end(value: Any, error: BaseException | None, outcome: Outcome, shown: str) -> tuple[str, str, str]:
    from omni import CheckpointError, InputError

    if error is not None and not isinstance(error, InputError | CheckpointError):
        return "crash", f"{type(error).__name__}: {str(error)[:200]}", ""
    if error is not None:
        code = str(getattr(error, "code", "checkpoint"))
        refused = outcome.refused if isinstance(outcome, Either) else outcome
        faults = message_faults(error, shown)
        if isinstance(refused, Value):
            faults.append(f"refused {code}: {str(error)[:160]}; declared {outcome}")
        elif not refused.has(code) or not re.search(refused.says, str(error), re.IGNORECASE):
            faults.append(f"refused {code}: {str(error)[:160]}; declared {outcome}")
        return ("wrong", "; ".join(faults), code) if faults else ("as declared", "", code)
    if not finite(value):
        return "silent NaN", "the value holds NaN or Inf", ""
    if isinstance(outcome, Refused):
        return "wrong", f"accepted as {brief(value)}; declared {outcome}", ""
    fits = outcome.value.fits if isinstance(outcome, Either) else outcome.fits
    try:
        if not fits(value):
            return "wrong", f"{brief(value)} is not as declared: {outcome}", ""
    except Exception as failed:
        return "wrong", f"the property failed of {brief(value)}: {type(failed).__name__}: {failed}"[:300], ""
    return "as declared", "", ""


def message_faults(error: BaseException, shown: str = "") -> list[str]:
    """What is wrong with the message of a refusal: its length, addresses of objects, paths that nobody named."""
    text, faults = str(error), []
    if not isinstance(getattr(error, "code", None), str):
        faults.append(f"{type(error).__name__} without a code: {text[:100]}")
    elif not re.fullmatch(r"[a-z][a-z0-9_]*", error.code):  # type: ignore[attr-defined]
        faults.append(f"the code {error.code!r} is not in snake case")  # type: ignore[attr-defined]
    if len(text) > LONGEST_MESSAGE:
        faults.append(f"a message of {len(text)} characters")
    if not text.strip():
        faults.append("an empty message")
    if _ADDRESS.search(text) and not _ADDRESS.search(shown):
        faults.append("an address of an object: " + text[:160])
    faults += [f"a path that nobody named: {path}" for path in _PATH.findall(text) if path.rstrip(".") not in shown]
    return faults


def finite(value: Any) -> bool:
    """Whether every number in a result is finite."""
    if value is None or isinstance(value, str | bytes | bool | int):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.asarray(value)
        if array.dtype.kind in "iubUSO":
            return True
        return bool(np.isfinite(array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64)).all())
    if dataclasses.is_dataclass(value):
        return all(finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    return True


def brief(value: Any) -> str:
    """A value in a few words."""
    if hasattr(value, "shape"):
        return f"{value.dtype} {list(value.shape)}"
    return repr(value)[:160]


def _strings(source: Any, depth: int = 0) -> str:
    """What an input itself names: a message may repeat that."""
    if isinstance(source, str):
        return source
    if isinstance(source, dict) and depth < 6:
        return " ".join(_strings(inner, depth + 1) for item in source.items() for inner in item)
    if isinstance(source, list | tuple) and depth < 6:
        return " ".join(_strings(inner, depth + 1) for inner in source)
    return str(source) if hasattr(source, "__fspath__") else ""
