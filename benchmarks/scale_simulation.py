"""How long a job of millions takes on machines that fail, by how it is cut into shards.

    python -m benchmarks.scale_simulation [--rows 1000000] [--rate 50] [--workers 8] [--hours 24] [--restart 120]

A worker encodes `--rate` rows a second on average, fails every `--hours` hours on average, and takes `--restart`
seconds to begin, and to begin again: a machine, the listing of its shard, the checkpoint. Machines differ in speed by
5 %, and items in cost as media do. What the simulation gives stands beside what arithmetic says of a job in parts.
"""

import argparse
import heapq
import math
from dataclasses import dataclass

import numpy as np

ITEM_SPREAD, MACHINE_SPREAD = 1.0, 0.05
"""Deviations of the cost of an item and of the speed of a machine, as shares of their means."""


@dataclass(frozen=True)
class Setting:
    """A job and its machines.

    Attributes:
        rows: in the job.
        rate: rows a second of one worker.
        workers: how many there are.
        failure: seconds between two failures of a worker, on average.
        restart: seconds until a failed one works again.
    """

    rows: int
    rate: float
    workers: int
    failure: float
    restart: float


@dataclass(frozen=True)
class Outcome:
    """How a job went: seconds until its end, and seconds of workers that were lost to each cause."""

    seconds: float
    again: float
    restarts: float
    idle: float


def expected_seconds(work: float, failure: float, restart: float) -> float:
    """Return how long a piece of work takes on average that begins anew after each failure.

    With failures at random, every `failure` seconds on average: (failure + restart) (exp(work / failure) - 1).
    """
    return (failure + restart) * math.expm1(work / failure)


def encode_shard(rows: int, unit: int, speed: float, setting: Setting, dice: np.random.Generator) -> np.ndarray:
    """Return seconds: in all, done again, and of restarts, for rows that are committed `unit` at a time."""
    spent, again, restarts = 0.0, 0.0, 0.0
    for start in range(0, rows, unit):
        count = min(unit, rows - start)
        # The sum of so many costs.
        work = dice.gamma(count / ITEM_SPREAD**2, ITEM_SPREAD**2 / setting.rate) / speed
        while (until := dice.exponential(setting.failure)) < work:
            spent, again, restarts = spent + until + setting.restart, again + until, restarts + setting.restart
        spent += work
    return np.array([spent, again, restarts])


def simulate(setting: Setting, shards: int, part_rows: int, dice: np.random.Generator) -> Outcome:
    """Let workers take shards in turn, until none is left."""
    sizes = dice.multinomial(setting.rows, np.full(shards, 1 / shards))
    speeds = np.maximum(dice.normal(1, MACHINE_SPREAD, setting.workers), 0.5)
    free = [(0.0, worker) for worker in range(setting.workers)]
    lost = np.zeros(3)
    for size in sizes:
        began, worker = heapq.heappop(free)
        seconds = encode_shard(int(size), part_rows, speeds[worker], setting, dice)
        lost += seconds
        heapq.heappush(free, (began + setting.restart + seconds[0], worker))
        lost[2] += setting.restart
    end = max(free)[0]
    return Outcome(end, lost[1], lost[2], sum(end - one for one, _ in free))


def on_ray(setting: Setting, batch_size: int, ahead: int, dice: np.random.Generator) -> Outcome:
    """Let workers take batches as they come to them; a failure costs those that a worker had at hand."""
    speeds = np.maximum(dice.normal(1, MACHINE_SPREAD, setting.workers), 0.5)
    batches, again, restarts = -(-setting.rows // batch_size), 0.0, 0.0
    batch = batch_size / setting.rate
    # So many batches are so short beside all else that they may be taken for a liquid.
    rates = np.zeros(setting.workers)
    for worker, speed in enumerate(speeds):
        trouble = setting.restart + ahead * batch / speed
        rates[worker] = speed / batch * setting.failure / (setting.failure + trouble)
    seconds = batches / rates.sum() + setting.restart
    failures = dice.poisson(seconds / setting.failure, setting.workers).sum()
    again, restarts = failures * ahead * batch / 2, (failures + setting.workers) * setting.restart
    return Outcome(seconds, again, restarts, setting.workers * batch / 2)


def told(name: str, outcome: Outcome, setting: Setting) -> str:
    """Return a line: hours, and what they lost, in shares of all workers' time."""
    whole = outcome.seconds * setting.workers
    shares = (outcome.again / whole, outcome.restarts / whole, outcome.idle / whole)
    return f"{name:<34} {outcome.seconds / 3600:8.2f} h" + "".join(f"{share:12.2%}" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--restart", type=float, default=120)
    args = parser.parse_args()
    setting = Setting(args.rows, args.rate, args.workers, args.hours * 3600, args.restart)
    least = setting.rows / setting.rate / setting.workers
    print(f"without failures, on machines of one speed: {least / 3600:.2f} h on {setting.workers} workers")
    print(f"{'':<34} {'':>10}{'done again':>12}{'restarts':>12}{'idle':>12}")
    for factor in (1, 4, 16):
        shards = setting.workers * factor
        for part_rows in (4096, 65536):
            outcome = simulate(setting, shards, part_rows, np.random.default_rng(0))
            print(told(f"{shards} shards, parts of {part_rows}", outcome, setting))
    print(told("Ray, batches of 8, 4 at hand", on_ray(setting, 8, 4, np.random.default_rng(0)), setting))
    work = 4096 / setting.rate
    cost = expected_seconds(work, setting.failure, setting.restart) / work - 1
    print(f"arithmetic: a part of 4,096 rows takes {cost:.2%} longer than without failures")


if __name__ == "__main__":
    main()
