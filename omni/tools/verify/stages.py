"""The stages between media and answers, in order, and how far each may be off.

What a case gives is a flat mapping: `vision/0` is the stage `vision` of the first medium, `positions` the one array of
its stage. Names are those of the table that `omni verify` prints.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from omni.errors import InputError, shown

Arrays = Mapping[str, np.ndarray]

STAGES = (
    "waveform",
    "pixels",
    "mel",
    "clock",
    "vision",
    "audio",
    "deepstack",
    "prompt",
    "prompt_ids",
    "token_ids",
    "positions",
    "embedded",
    "hidden",
    "logits",
    "greedy",
)
# Kept for the stages after them or for choosing rows; not compared themselves.
AUXILIARY = frozenset(
    {"prompt/marked", "prompt/mark", "hidden/rows", "logits/rows", "greedy/margins", "greedy/deviations"}
)
# From the most exact to the least.
ARITHMETIC = ("float32", "tfloat32", "bfloat16")
# Stages without a line here have to be the very same: they are integers, or sums that IEEE 754 fixes.
# Columns are those of `ARITHMETIC`, and one for two sides that round alike, in whatever arithmetic.
_ALLOWED: dict[str, tuple[float, float, float, float]] = {
    "waveform": (1e-5, 1e-5, 1e-5, 1e-5),
    "mel": (2e-5, 2e-5, 2e-5, 2e-5),
    "clock": (1e-6, 1e-6, 1e-6, 1e-6),
    "vision": (5e-6, 3e-3, 5e-2, 2e-3),
    "audio": (5e-6, 3e-3, 5e-2, 2e-3),
    "deepstack": (5e-6, 3e-3, 5e-2, 2e-3),
    "embedded": (5e-6, 3e-3, 5e-2, 2e-3),
    "hidden": (5e-6, 1e-2, 0.15, 5e-3),
    "logits": (1e-5, 1e-2, 0.15, 5e-3),
}
# Judged by the middle row where products are rounded: a token that comes to another expert by it is off altogether.
_BY_ROWS = frozenset({"hidden", "logits"})
# Of the float32 column: rounding adds up over layers, and so many layers are as good as one.
_FREE_LAYERS = 5
_GROWING = frozenset({"vision", "audio", "deepstack", "embedded", "hidden", "logits"})


def stage_of(name: str) -> str:
    """The stage that an array belongs to."""
    return name.partition("/")[0]


def arithmetic(dtype: str, platform: str) -> str:
    """What products are computed in: on an accelerator float32 ones are rounded ahead, unless JAX is told otherwise."""
    if dtype == "float32":
        return {"cpu": "float32", "tpu": "bfloat16"}.get(platform, "tfloat32")
    return "bfloat16"


@dataclass(frozen=True)
class Tolerances:
    """How far each stage may be off, as relative L2 error.

    Attributes:
        stages: of each stage; 0 where there is no entry.
        by_rows: stages whose error is that of the middle row of an array.
    """

    stages: Mapping[str, float]
    by_rows: frozenset[str] = frozenset()

    @classmethod
    def between(cls, one: str, other: str, depth: int = _FREE_LAYERS, *, alike: bool = False) -> "Tolerances":
        """Those for results of two arithmetics, by the less exact one.

        Args:
            one: name in `ARITHMETIC`.
            other: name in `ARITHMETIC`.
            depth: layers of the deepest part.
            alike: whether both round in the same places: the same programs on the same kind of device.
        """
        column = max(ARITHMETIC.index(one), ARITHMETIC.index(other))
        column = 3 if column and alike else column
        growth = max(1.0, depth / _FREE_LAYERS) if column == 0 else 1.0
        allowed = {s: row[column] * (growth if s in _GROWING else 1) for s, row in _ALLOWED.items()}
        return cls(allowed, _BY_ROWS if column else frozenset())

    def replaced(self, options: Iterable[str]) -> "Tolerances":
        """With what a user allows: `1e-3` for every stage that need not be exact, `logits=1e-3` for one.

        Raises:
            InputError: `bad_tolerance`, it is no number of 0 or more, or names no stage.
        """
        allowed = dict(self.stages)
        for option in options:
            stage, separator, number = option.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = -1.0
            if not 0 <= value < np.inf:
                raise InputError("bad_tolerance", f"a tolerance is a number of 0 or more, got {shown(number)}")
            if separator and stage not in STAGES:
                raise InputError("bad_tolerance", f"no stage is called {shown(stage)}; stages: {', '.join(STAGES)}")
            allowed |= {stage: value} if separator else dict.fromkeys(_ALLOWED, value)
        return Tolerances(allowed, self.by_rows)

    def of(self, name: str) -> float:
        """That of an array."""
        return self.stages.get(stage_of(name), 0.0)
