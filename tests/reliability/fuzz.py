"""Fuzzing: every mutant of an input gives a finite value or one error of ours, soon and in little memory.

`python -m tests.reliability.fuzz --minutes 60 --seed 7` goes on for an hour; what it finds is kept in out/fuzz, one
file a mutant, and belongs into the corpus.
"""

import argparse
import itertools
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability import memory, workers
from tests.reliability.mutants_of_media import KINDS, SHARES, mutant
from tests.reliability.outcomes import Either, Refused, Value, Verdict, judge

KEPT = Path(__file__).parents[2] / "out" / "fuzz"
MOST_BYTES = 320 << 20
_CHUNK = 50
_MISSED = Either(Value(), Refused("*"))


@dataclass
class Tally:
    """What became of many mutants.

    Attributes:
        tried: how many.
        refused: of these, how many were refused.
        faults: a line for each that ended otherwise than declared.
        seconds: of the workers, all together.
    """

    tried: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.tried += other.tried
        self.refused += other.refused
        self.faults += other.faults
        self.seconds += other.seconds
        for how, count in other.ends.items():
            self.ends[how] = self.ends.get(how, 0) + count


def call(kind: str, source: Any) -> Any:
    """What a mutant of a kind is handed to: the public calls that take such an input."""
    from processors import (
        Access,
        AudioProcessor,
        ImageProcessor,
        Limits,
        VideoProcessor,
        load_audio,
        load_image,
        load_video,
        sniff,
    )

    if kind == "message":
        from omni.prompt.messages import parse

        found = parse(source)
        from tests.reliability.corpus.table import demo

        return (len(found.media), demo().prepare(source))
    if kind == "template":
        from omni.prompt.template import ChatTemplate

        return ChatTemplate(source).render([{"role": "user", "content": "Hello."}], {"<|im_end|>": 1}).plain
    if kind == "safetensors":
        from omni import Embedding
        from omni.checkpoint.safetensors import open_file

        path = Path("mutant.safetensors")
        path.write_bytes(source)
        found = [tensor.array for tensor in open_file(path).values()]
        _allowed(lambda: Embedding.load(path))
        return [array.shape for array in found]
    if kind == "data_uri":
        return load_image(source, access=Access(Limits(fetch_seconds=0.5, silence_seconds=0.5)))
    _allowed(lambda: sniff(source))
    if kind == "image":
        return ImageProcessor()(source).pixels if len(source) % 2 else load_image(source)
    if kind == "audio":
        return AudioProcessor()(source).mel if len(source) % 2 else load_audio(source)
    return VideoProcessor()(source, num_frames=None).pixels if len(source) % 2 else load_video(source)


def _allowed(tried: Any) -> None:
    """Calls what may refuse."""
    from omni import CheckpointError, InputError

    try:
        tried()
    except (InputError, CheckpointError):
        pass


def try_one(kind: str, number: int, seed: int) -> Verdict:
    """Tries one mutant."""
    source = mutant(kind, number, seed)
    name = f"{kind} {number} of seed {seed}"
    memory.forget_peak()
    base = memory.held()
    verdict = judge(name, source, lambda given: call(kind, given), _MISSED)
    if verdict.how == "slow":
        verdict = judge(name, source, lambda given: call(kind, given), _MISSED)
    taken = memory.peak() - base
    if verdict.right and taken > MOST_BYTES:
        verdict = Verdict(name, "memory", f"{taken >> 20} MiB", verdict.seconds, verdict.code)
    return verdict


def chunk(task: tuple[str, int, int, int]) -> Tally:
    """Tries mutants one after another; which one is noted before, should it take the process with it."""
    kind, first, count, seed = task
    here, found, began = os.getcwd(), Tally(), time.perf_counter()
    KEPT.mkdir(parents=True, exist_ok=True)
    note = KEPT / f".{kind}-{first}-{seed}"
    work = KEPT / f".work-{os.getpid()}"
    work.mkdir(exist_ok=True)
    os.chdir(work)
    try:
        for number in range(first, first + count):
            note.write_text(str(number))
            verdict = try_one(kind, number, seed)
            found.tried += 1
            found.refused += bool(verdict.code)
            if not verdict.right:
                found.ends[verdict.how] = found.ends.get(verdict.how, 0) + 1
                found.faults.append(keep(kind, number, seed, verdict))
    finally:
        os.chdir(here)
    note.unlink(missing_ok=True)
    found.seconds = time.perf_counter() - began
    return found


def keep(kind: str, number: int, seed: int, verdict: Verdict) -> str:
    """Writes a mutant beside the others that were found; returns a line about it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    source = mutant(kind, number, seed)
    path = KEPT / f"{kind}-{seed}-{number}"
    try:
        path.write_bytes(source if isinstance(source, bytes) else pickle.dumps(source))
    except (RecursionError, pickle.PicklingError, TypeError):
        path.write_text(f"{kind} {number} of seed {seed}")
    return f"{verdict.how} {verdict.name}: {verdict.why}"


def lost(task: tuple[str, int, int, int], why: str) -> Tally:
    """The tally of a chunk that took its process with it: one fault, and the rest untried."""
    kind, first, _, seed = task
    note = KEPT / f".{kind}-{first}-{seed}"
    number = int(note.read_text()) if note.exists() else first
    how = "hang" if "no answer" in why else "crash"
    note.unlink(missing_ok=True)
    line = keep(kind, number, seed, Verdict(f"{kind} {number} of seed {seed}", how, why))
    return Tally(tried=number - first + 1, faults=[line], ends={how: 1})


def tasks(count: int, seed: int, kinds: tuple[str, ...] = KINDS) -> list[tuple[str, int, int, int]]:
    """Chunks of so many mutants of the kinds, in the shares of each."""
    whole = sum(SHARES[kind] for kind in kinds)
    found = []
    for kind in kinds:
        wanted = round(count * SHARES[kind] / whole)
        found += [(kind, first, min(_CHUNK, wanted - first), seed) for first in range(0, wanted, _CHUNK)]
    # Slow kinds first, so that no process is left alone with one at the end.
    return sorted(found, key=lambda task: ("message", "video", "template").count(task[0]), reverse=True)


def results(work: list[tuple[str, int, int, int]]) -> Iterator[Tally]:
    """The tallies of chunks, as they are ready."""
    patience = _CHUNK * 3.0 + 60
    return workers.run(chunk, work, lost, patience=patience)


def main() -> int:
    """Fuzzes for a time; exit code 1 if anything is found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    options.add_argument("--mutants", type=int, default=0, help="so many, whatever time they take")
    chosen = options.parse_args()
    end, whole = time.monotonic() + 60 * chosen.minutes, Tally()
    for round_ in itertools.count():
        work = tasks(chosen.mutants or 20_000, chosen.seed + round_, tuple(chosen.kinds))
        for tally in results(work):
            whole.add(tally)
            for fault in tally.faults:
                workers.say(fault[:300])
            if not chosen.mutants and time.monotonic() > end:
                break
        if chosen.mutants or time.monotonic() > end:
            break
    rate = whole.tried / max(whole.seconds, 1e-9)
    workers.say(
        f"{whole.tried} mutants, {whole.refused} refused, {len(whole.faults)} faults {whole.ends}, "
        f"{rate:.0f} a second and process"
    )
    return bool(whole.faults)


if __name__ == "__main__":
    raise SystemExit(main())
