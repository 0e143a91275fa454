"""`make check`: the corpus, fuzzing, bombs, addresses, injection, interrupts, growth and invariance, as one table.

Exit code 1 when a bar is missed; what missed it stands above the table.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.reliability import bombs, fuzz, workers
from tests.reliability.interrupts import MOST_SECONDS
from tests.reliability.outcomes import Verdict

ROOT = Path(__file__).parents[2]
MUTANTS, INJECTIONS, MIXED = 20_000, 6_000, 2_000
MOST_GROWTH = 32 << 20


class Report:
    """Rows of the table: what was measured, and whether it is within its bar."""

    def __init__(self, clock: bool) -> None:
        self.rows: list[tuple[str, str, str, bool]] = []
        self.clock, self.missed = clock, False
        self.began = time.monotonic()

    def add(self, title: str, measured: str, bar: str, holds: bool, *, clocked: bool = False) -> None:
        """Adds a row; where the clock is not to decide, one that it decides says so and no more."""
        self.rows.append((title, measured, bar, holds))
        self.missed |= not holds and (self.clock or not clocked)

    def note(self, text: str) -> None:
        """Prints with the seconds that have passed."""
        workers.say(f"{time.monotonic() - self.began:6.0f} s  {text[:400]}")

    def table(self) -> str:
        """All rows, in Markdown."""
        rows = [("", "measured", "bar", ""), *((a, b, c, "holds" if d else "MISSED") for a, b, c, d in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
        ]
        return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def start(*command: str) -> subprocess.Popen[str]:
    """A part of the check in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def injections() -> dict[str, Any]:
    """Words that look like control tokens, and addresses: what only this process's own model is needed for."""
    from tests.reliability import addresses, injection

    tried, injected = injection.injected(INJECTIONS)
    hosts, connected = addresses.forbidden()
    lists, opened = addresses.playlists()
    return {"injected": [tried, injected], "addresses": [hosts, connected], "playlists": [lists, opened]}


def check_corpus(report: Report) -> list[Verdict]:
    """Every input of the corpus but bombs."""
    from tests.reliability.everything import names

    found = []
    for verdict in workers.run(workers.judged, names(), workers.died):
        found.append(verdict)
        if not verdict.right:
            report.note(f"{verdict.how}: {verdict.name}: {verdict.why}")
    right = sum(verdict.right or (verdict.declared and not report.clock) for verdict in found)
    report.add("corpus: inputs that end as declared", f"{right} of {len(found)}", "all", right == len(found) >= 300)
    return found


def check_fuzzing(report: Report, mutants: int, seed: int) -> fuzz.Tally:
    """Mutants of every kind."""
    whole = fuzz.Tally()
    for tally in fuzz.results(fuzz.tasks(mutants, seed)):
        whole.add(tally)
        for fault in tally.faults:
            report.note(fault)
    ends = ", ".join(f"{count} {how}" for how, count in sorted(whole.ends.items())) or "no fault"
    faults = sum(count for how, count in whole.ends.items() if report.clock or how != "slow")
    holds = whole.tried == mutants and not faults
    report.add(
        "fuzzing: mutants tried, a value or one error of ours", f"{whole.tried}: {ends}", f"{mutants}: no fault", holds
    )
    return whole


def check_bombs(report: Report) -> None:
    """Each bomb's memory and time, in a process that has read media before."""
    from tests.reliability.everything import tables

    found = []
    for blast in workers.run(bombs.blast, list(tables(("bombs",))["bombs"]), bombs.lost, count=1, patience=120):
        found.append(blast)
        if blast.fault:
            report.note(f"{blast.verdict.name}: {blast.fault}")
    wrong = sum(not blast.verdict.declared for blast in found)
    report.add("bombs: refused as declared", f"{len(found) - wrong} of {len(found)}", "all", not wrong)
    most = max(blast.bytes for blast in found)
    report.add("bombs: most memory over what was held", f"{most / 2**20:.1f} MiB", "< 64 MiB", most < bombs.MOST_BYTES)
    slowest = max(blast.seconds for blast in found)
    report.add("bombs: slowest refusal", f"{slowest:.3f} s", "< 0.2 s", slowest < bombs.MOST_SECONDS, clocked=True)


def main() -> int:
    """Runs all parts and prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mutants", type=int, default=MUTANTS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--no-clock", action="store_true", help="print times, and let none decide the exit code")
    options.add_argument("--injections", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    workers.quiet_environment()
    if chosen.injections:
        print(json.dumps(injections()))
        return 0
    report = Report(clock=not chosen.no_clock)
    verdicts = check_corpus(report)
    report.note("the corpus is through")
    tally = check_fuzzing(report, chosen.mutants, chosen.seed)
    report.note(f"fuzzing is through, {tally.tried / max(tally.seconds, 1e-9):.0f} mutants a second and process")
    ends = Counter(verdict.how for verdict in verdicts) + Counter(tally.ends)
    report.add("crashes", str(ends["crash"]), "0", not ends["crash"])
    report.add("hangs", str(ends["hang"]), "0", not ends["hang"])
    report.add("over 2 s", str(ends["slow"]), "0", not ends["slow"], clocked=True)
    report.add("silent NaN", str(ends["silent NaN"]), "0", not ends["silent NaN"])
    check_bombs(report)
    report.note("bombs are through")
    growth = start("-m", "tests.reliability.growth", "--requests", str(MIXED))
    others = start("-m", "tests.reliability.check", "--injections")
    _injections(report, others)
    properties = "tests/reliability/test_invariance.py"
    invariance = start("-m", "pytest", "-q", "-x", "-m", "", properties, "-p", "no:cacheprovider")
    _growth(report, growth)
    output = invariance.communicate()[0]
    last = (output.strip().splitlines() or ["nothing"])[-1]
    if invariance.returncode:
        report.note(output[-3_000:])
    report.add("invariance: properties", last.strip("= ")[:60], "all hold", invariance.returncode == 0)
    _interrupts(report, start("-m", "tests.reliability.interrupts"))
    workers.say(f"\n{report.table()}\n\n{time.monotonic() - report.began:.0f} s")
    return report.missed


def _interrupts(report: Report, process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    try:
        seconds = json.loads(output[output.rindex("{") :])
    except ValueError:
        report.note(output[-2_000:])
        report.add("Ctrl-C", "no answer", "an answer", False)
        return
    slowest = max(seconds, key=seconds.get)
    measured = f"{seconds[slowest]:.2f} s ({slowest})"
    report.add("Ctrl-C: slowest end of work", measured, "< 1 s", seconds[slowest] < MOST_SECONDS, clocked=True)


def _growth(report: Report, process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    try:
        found = json.loads(output[output.rindex("{") :])
    except ValueError:
        report.note(output[-2_000:])
        found = {"requests": 0, "growth": 1 << 62}
    measured = f"{found['growth'] / 2**20:+.1f} MiB over {found['requests']}"
    report.add("growth after the first 500 mixed requests", measured, "< 32 MiB", found["growth"] < MOST_GROWTH)


def _injections(report: Report, process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    try:
        found = json.loads(output[output.rindex('{"injected"') :])
    except ValueError:
        report.note(output[-2_000:])
        report.add("injection and addresses", "no answer", "an answer", False)
        return
    for key, title, least in (
        ("injected", "user text that became a control token", INJECTIONS),
        ("addresses", "forbidden addresses connected to", 40),
        ("playlists", "playlists that opened a socket", 10),
    ):
        tried, faults = found[key]
        for fault in faults[:10]:
            report.note(f"{title}: {fault}")
        report.add(title, f"{len(faults)} of {tried}", "0", not faults and tried >= least)


if __name__ == "__main__":
    raise SystemExit(main())
