"""Every stage beside the reference, with what this machine can do: a table, and JSON.

    python -m benchmarks.run [--reference-python PYTHON] [--only "vision|mel"] [--quick]

Each side of a stage has a process of its own, and they take turns call by call on the same inputs. Before, ours runs
once in a process with no compiled programs, and once in one that finds those on disk. Every stage is written to
benchmarks/results/ as it ends: a run that was cut short goes on in the next, and one that was complete begins anew.
With `--only`, stages whose group or name begins so are run again.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.floor import best, floor_seconds, summed_up
from benchmarks.side import ROOT, Side, SideError, has_reference
from benchmarks.stages import stages as all_stages
from benchmarks.stages.stage import Product, Stage

RESULTS = Path(__file__).parent / "results"


@dataclass
class Run:
    """One run of some stages.

    Attributes:
        module: that has them.
        quick: small sizes; all stages of a side then share a process.
        reference_python: interpreter of the reference; None without one.
        folder: for files of stages, compiled programs and results to compare.
        ceilings: what each library reaches on this machine.
    """

    module: str
    quick: bool
    reference_python: str | None
    folder: Path
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    _rates: dict[tuple[str, Product], float] = field(default_factory=dict)
    _shared: dict[str, Side] = field(default_factory=dict)

    def start(self, side: str, programs: str = "shared") -> Side:
        """A process for a side.

        Args:
            side: its name.
            programs: which folder of compiled programs it has.
        """
        cores = str(machine.cores())
        python = sys.executable if side == "ours" else self.reference_python
        assert python is not None
        environment = {
            "OMP_NUM_THREADS": cores,
            "NPROC": cores,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Two sides share a device: neither may take all of its memory.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "programs" / programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        }
        if self.quick:
            # Most of the time of small sizes goes to compiling, of which nothing is told.
            kept = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
            kept["JAX_COMPILATION_CACHE_DIR"] = environment["JAX_COMPILATION_CACHE_DIR"]
            environment |= {name: os.environ.get(name, value) for name, value in kept.items()}
        return Side(
            python, self.module, side, quick=self.quick, environment=environment, log=self.folder / f"{side}.log"
        )

    @contextlib.contextmanager
    def process(self, side: str, programs: str) -> Iterator[Side]:
        """A process for one stage; where sizes are small, the one that all stages share."""
        if not self.quick:
            with self.start(side, programs) as process:
                yield process
            return
        yield self._kept(side)

    def _kept(self, side: str) -> Side:
        """The process of a side that stays from stage to stage; a new one where that has ended."""
        process = self._shared.get(side)
        if process is None or not process.alive:
            process = self._shared[side] = self.start(side)
        return process

    def close(self) -> None:
        """End all processes."""
        while self._shared:
            self._shared.popitem()[1].close()

    def measure_machine(self) -> dict[str, Any]:
        """What the processor and the libraries are, and what they reach."""
        versions = {}
        for side in ("ours", "reference")[: 2 if self.reference_python else 1]:
            with self.process(side, "shared") as process:
                self.ceilings[side] = process.ask("ceilings")
                versions[side] = process.ask("versions")
        return {"versions": versions, "ceilings": self.ceilings, "best": best(self.ceilings)}

    # --- one stage ----------------------------------------------------------------------------------------------------

    def run(self, stage: Stage) -> dict[str, Any]:
        """Everything that is to be told of a stage."""
        names = [name for name in stage.sides if name == "ours" or self.reference_python]
        sides: dict[str, dict[str, Any]] = {name: {} for name in names}
        files = self.folder / (stage.files or "none")
        floors: list[float] = []
        floor = None
        if not stage.together and not self.quick:
            self.close()  # their memory is wanted
        try:
            self._prepare(stage, files)
            programs = machine.slug(stage.name)
            if stage.programs and not self.quick:
                self._cold(stage, files, programs, sides["ours"])
            for together in [names] if stage.together else [[name] for name in names]:
                self._turns(stage, files, programs, {name: sides[name] for name in together}, floors)
            rate = partial(self._rate, stage)
            floor = median(floors) if floors else floor_seconds(stage, best(self.ceilings), rate)
        except SideError as error:
            sides["ours"].setdefault("error", str(error))
        found = summed_up(stage, sides, floor, best(self.ceilings)) | {"date": machine.now(), "commit": commit()}
        return found | {"difference": self._differences(names)}

    def _prepare(self, stage: Stage, files: Path) -> None:
        done = files.with_suffix(".done")
        if stage.prepare is not None and not done.exists():
            # In a process of its own: what it held is free afterwards.
            with self.process("ours", "shared") as process:
                process.ask("prepare", stage=stage.name, folder=str(files))
            done.touch()

    def _cold(self, stage: Stage, files: Path, programs: str, ours: dict[str, Any]) -> None:
        """The first call where no program was compiled before."""
        with self.start("ours", programs) as process:
            process.ask("build", stage=stage.name, folder=str(files))
            ours["cold"] = process.ask("call", round=0)["seconds"]

    def _turns(
        self, stage: Stage, files: Path, programs: str, sides: dict[str, dict[str, Any]], floors: list[float]
    ) -> None:
        with contextlib.ExitStack() as stack:
            processes: dict[str, Side] = {}
            for name, found in sides.items():
                with self._noting(found, processes, name):
                    process = stack.enter_context(self.process(name, programs))
                    processes[name] = process
                    built = process.ask("build", stage=stage.name, folder=str(files))
                    first = process.ask("call", round=0, save=str(self._saved(name)))
                    found |= {"build": built["seconds"], "first": first["seconds"], "bare": built["bare"], "times": []}
            least, most = stage.rounds
            spent = 0.0
            for round in range(1, most + 1):
                if not processes or (round > least and spent > stage.seconds):
                    break
                for name in list(processes) if round % 2 else list(processes)[::-1]:
                    with self._noting(sides[name], processes, name):
                        reply = processes[name].ask("call", round=round)
                        sides[name]["times"].append(reply["seconds"])
                        spent += reply["seconds"]
                        if name == "ours" and reply.get("floor"):
                            floors.append(reply["floor"])
                        if sides[name]["bare"]:
                            floors.append(processes[name].ask("bare")["seconds"])
            for name, process in list(processes.items()):
                with self._noting(sides[name], processes, name):
                    sides[name] |= process.ask("memory")
                sides[name].pop("bare", None)

    @staticmethod
    @contextlib.contextmanager
    def _noting(found: dict[str, Any], processes: dict[str, Side], name: str) -> Iterator[None]:
        """Note what goes wrong with a side, and go on without it."""
        try:
            yield
        except SideError as error:
            found["error"] = str(error)
            processes.pop(name, None)

    def _rate(self, stage: Stage, product: Product) -> float:
        """Of the best library for a shape; each shape is measured once."""
        shape = Product(*product.shape)
        key = stage.dtype, shape
        if key not in self._rates:
            asked = {"dtype": stage.dtype, "m": shape.m, "k": shape.k, "n": shape.n, "batch": shape.batch}
            rates = []
            for side in self.ceilings:
                rates.append(self._kept(side).ask("rate", **asked)["flops"])
            self._rates[key] = max(rates)
        return self._rates[key]

    def _saved(self, side: str) -> Path:
        return self.folder / f"{side}.npy"

    def _differences(self, names: Sequence[str]) -> dict[str, float | None]:
        """How far each side's first result is from ours: relative L2 of numbers, the share of unlike ones of tokens."""
        arrays = {name: np.load(path) for name in names if (path := self._saved(name)).exists()}
        for name in arrays:
            self._saved(name).unlink()
        found: dict[str, float | None] = {}
        for name, theirs in arrays.items():
            if name == "ours" or "ours" not in arrays:
                continue
            ours = arrays["ours"]
            if not ours.size:
                continue
            if ours.shape != theirs.shape:
                found[name] = None
            elif np.issubdtype(ours.dtype, np.integer):
                found[name] = float((ours != theirs).mean())
            else:
                far = np.linalg.norm((ours - theirs).ravel().astype(np.float64))
                found[name] = float(far / max(np.linalg.norm(theirs.ravel().astype(np.float64)), 1e-30))
        return found


def commit() -> str | None:
    """The commit of this checkout, with a mark where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or None


def chosen(stages: Sequence[Stage], only: str) -> list[Stage]:
    """Stages whose group or name begins with one of the beginnings between bars."""
    begin = tuple(only.split("|"))
    return [stage for stage in stages if stage.name.startswith(begin) or stage.group.startswith(begin)]


def line(name: str, found: dict[str, Any]) -> str:
    """A stage as a line of text."""
    sides = found["sides"]
    text = f"{name:52}"
    for side, of in sides.items():
        text += f" {side} {of['median']:.4f} s" if "median" in of else f" {side} failed: {of.get('error', 'not run')}"
    text += "".join(f"  {ratio:.2f} x {side}" for side, ratio in found.get("ratio", {}).items())
    if "share_of_floor" in found:
        text += f"  {found['share_of_floor']:.2f} of the floor"
    if "share_of_machine" in found:
        text += f"  {found['share_of_machine']:.2f} of the machine"
    return text


def record_of(path: Path, quick: bool) -> dict[str, Any]:
    """What was measured before and is to be gone on with."""
    if path.exists():
        record = json.loads(path.read_text("utf-8"))
        if record.get("quick") == quick:
            return record
    return {"quick": quick, "complete": False, "stages": {}}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace the file all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    os.replace(beside, path)


def run_all(
    run: Run,
    stages: Sequence[Stage],
    path: Path,
    only: str | None,
    about: dict[str, Any],
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """Run what is still to be run, and write each stage as it ends.

    Args:
        run: how.
        stages: all there are.
        path: of the results.
        only: see `chosen`; None for what is missing.
        about: what is told of the machine beside what is measured.
        seconds: no stage begins after so many.
    """
    start = time.monotonic()
    record = record_of(path, run.quick)
    if only is not None:
        wanted = chosen(stages, only)
    else:
        if record["complete"]:
            record = {**record, "complete": False, "stages": {}}
        wanted = [stage for stage in stages if stage.name not in record["stages"]]
    record |= {**about, "date": machine.now(), "machine": run.measure_machine()}
    for i, stage in enumerate(wanted):
        if time.monotonic() - start > seconds:
            print(f"{len(wanted) - i} stages are left for the next run")
            break
        found = run.run(stage)
        # In the order of the table, whatever was run first.
        known = {**record["stages"], stage.name: found}
        record["stages"] = {one.name: known[one.name] for one in stages if one.name in known}
        record["complete"] = all(one.name in known for one in stages)
        write_record(path, record)
        print(line(stage.name, found), flush=True)
        _drop_files(run.folder, stage, wanted[i + 1 :])
    write_record(path, record)
    return record


def _drop_files(folder: Path, stage: Stage, later: Sequence[Stage]) -> None:
    """Free the disk of what no later stage reads."""
    if stage.files and all(other.files != stage.files for other in later):
        for path in (folder / stage.files).glob("*"):
            path.unlink()
        (folder / stage.files).with_suffix(".done").unlink(missing_ok=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Options that all runs have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with torch and transformers")
    parser.add_argument("--only", help="beginnings of groups or names, with | between")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything works, not how fast")
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument("--list", action="store_true", help="print the names of the stages")
    return parser


def print_stages(stages: Sequence[Stage]) -> None:
    """Their names, a line each."""
    print("\n".join(stage.name for stage in stages))


def main() -> None:
    """Run, and print a line a stage."""
    options = arguments(__doc__).parse_args()
    stages = all_stages(options.quick)
    if options.list:
        print_stages(stages)
        return
    about = {"processor": machine.processor()}
    file = machine.slug(about["processor"]) + ("-quick" if options.quick else "")
    python = options.reference_python if has_reference(options.reference_python) else None
    if python is None:
        print(f"no torch and transformers in {options.reference_python}: ours alone")
    with tempfile.TemporaryDirectory() as folder:
        run = Run("benchmarks.stages", options.quick, python, Path(folder))
        try:
            run_all(run, stages, options.out or RESULTS / f"{file}.json", options.only, about)
        finally:
            run.close()


if __name__ == "__main__":
    main()
