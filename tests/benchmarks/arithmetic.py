"""Stages without a model, whose reference needs no other library: what the tests of the runner run."""

import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.stages.stage import Call, Cost, Product, Stage, Timed


def _numbers(factor: float, folder: Path) -> Call:
    values = np.load(folder / "numbers.npy")
    return Call(lambda round: Timed(factor * (1 + round % 2), values * np.float32(2)))


def _prepare(folder: Path) -> None:
    np.save(folder / "numbers.npy", np.arange(8, dtype=np.float32))


def _fails(_: Path) -> Call:
    raise ValueError("it cannot be built")


def _waits(_: Path) -> Call:
    return Call(lambda _: time.sleep(0), lambda _: np.asarray([1, 2]), lambda: None)


def stages(quick: bool) -> list[Stage]:
    """One that brings its own time, one whose reference fails, and one with a floor of its own."""
    return [
        Stage(
            "numbers",
            "first",
            "float32",
            {"ours": partial(_numbers, 1.0), "reference": partial(_numbers, 3.0)},
            "numbers",
            _prepare,
            Cost((Product(4, 8, 16, 2, 3),), 64.0),
            items=10,
            rounds=(3, 3),
        ),
        Stage("broken", "first", "float32", {"ours": _waits, "reference": _fails}, programs=False, rounds=(1, 1)),
        Stage("bare", "second", "float32", {"ours": _waits, "reference": _waits}, together=False, rounds=(2, 2)),
    ]
