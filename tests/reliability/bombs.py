"""How much memory and time the refusal of each bomb takes."""

import gc
import os
import tempfile
import time
from dataclasses import dataclass

from tests.reliability import memory
from tests.reliability.everything import tables
from tests.reliability.outcomes import Verdict, judge

MOST_BYTES = 64 << 20
MOST_SECONDS = 0.2


@dataclass(frozen=True)
class Blast:
    """One bomb's verdict, and what it took.

    Attributes:
        verdict: whether it was refused as declared.
        bytes: most memory over what was held before, children included.
        seconds: until it was refused.
    """

    verdict: Verdict
    bytes: int
    seconds: float

    @property
    def fault(self) -> str:
        """What is over a bar; nothing where all is well."""
        if not self.verdict.right:
            return f"{self.verdict.how}: {self.verdict.why}"
        if self.bytes >= MOST_BYTES:
            return f"{self.bytes >> 20} MiB over what was held"
        return f"refused after {self.seconds:.2f} s" if self.seconds >= MOST_SECONDS else ""


def blast(name: str) -> Blast:
    """Tries one bomb twice: whatever is imported or started for the first of its kind is no matter of the bomb."""
    table, here = tables(("bombs",))["bombs"], os.getcwd()
    entry = table[name]
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        os.chdir(folder)
        try:
            source = entry.build()
            for _ in range(2):
                gc.collect()
                memory.forget_peak()
                base, began = memory.held(), time.perf_counter()
                verdict = judge(name, source, entry.call, entry.outcome)
                seconds = time.perf_counter() - began
                most = memory.peak() - base
        finally:
            os.chdir(here)
    return Blast(verdict, most, seconds)


def lost(name: str, why: str) -> Blast:
    """Of a bomb that took its process with it."""
    return Blast(Verdict(name, "crash", why), 0, 0.0)
