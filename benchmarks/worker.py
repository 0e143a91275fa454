"""The process of one side: builds stages and runs them call by call, told what to do line by line.

    python -m benchmarks.worker MODULE SIDE [--quick]

MODULE has a function `stages(quick)`. A line of JSON comes in on standard input and one goes out, on what was standard
output; whatever libraries print goes to standard error.
"""

import gc
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.stages.stage import Call, Product, Stage, Timed


class Worker:
    """What one process knows how to do; each public method is a request.

    Args:
        stages: all that may be asked for.
        side: which side of each this is.
        quick: no time for exact figures.
    """

    def __init__(self, stages: list[Stage], side: str, quick: bool = False):
        self._stages, self._side, self._quick = {stage.name: stage for stage in stages}, side, quick
        self._call: Call | None = None
        self._child_peak = 0

    def prepare(self, stage: str, folder: str) -> dict[str, Any]:
        """Write the files of a stage."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write = self._stages[stage].prepare
        if write is not None:
            write(Path(folder))
        return {}

    def build(self, stage: str, folder: str) -> dict[str, Any]:
        """Make ready to run; whatever was built before is dropped."""
        self._call, self._child_peak = None, 0
        gc.collect()
        _forget_peak()
        start = time.perf_counter()
        self._call = self._stages[stage].sides[self._side](Path(folder))
        return {"seconds": time.perf_counter() - start, "bare": self._call.bare is not None}

    def call(self, round: int, save: str | None = None) -> dict[str, Any]:
        """Run once; `save` is where the result goes, as an array."""
        assert self._call is not None
        start = time.perf_counter()
        found = self._call.run(round)
        if hasattr(found, "block_until_ready"):
            found = found.block_until_ready()
        reply: dict[str, Any] = {"seconds": time.perf_counter() - start}
        if isinstance(found, Timed):
            self._child_peak = max(self._child_peak, found.peak_bytes or 0)
            reply, found = {"seconds": found.seconds, "floor": found.floor}, found.value
        if save is not None:
            np.save(save, self._call.array(found))
        return reply

    def bare(self) -> dict[str, Any]:
        """Run the part of the work that cannot be left out."""
        assert self._call is not None and self._call.bare is not None
        start = time.perf_counter()
        self._call.bare()
        return {"seconds": time.perf_counter() - start}

    def rate(self, dtype: str, m: int, k: int, n: int, batch: int) -> dict[str, Any]:
        """Floating point operations a second of a product, by this side's library."""
        seconds = 0.0 if self._quick else machine.TRY_SECONDS
        return {"flops": machine.rate(self._side, dtype, Product(m, k, n, batch), seconds)}

    def ceilings(self) -> dict[str, Any]:
        """What this machine can do, by this side's library."""
        return machine.ceilings(self._side, self._quick)

    def versions(self) -> dict[str, Any]:
        """Versions of the libraries that matter."""
        return machine.versions(self._side)

    def device(self) -> dict[str, Any]:
        """What ours computes on."""
        import jax

        return {"platform": jax.default_backend(), "name": jax.devices()[0].device_kind}

    def memory(self) -> dict[str, Any]:
        """Most bytes that the process held since the last `build`, or the process that did the work for it."""
        return {"peak": self._child_peak or machine.peak(), "device": machine.device_peak(self._side)}


def _forget_peak() -> None:
    """Linux counts the peak of resident memory anew from here; elsewhere it is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main() -> None:
    """Answer until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, side, *rest = sys.argv[1:]
    quick = "--quick" in rest
    worker = Worker(importlib.import_module(module).stages(quick), side, quick)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
