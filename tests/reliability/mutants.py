"""A mutation test: small changes of the source, each of which some test must notice.

`python -m tests.reliability.mutants --count 400 --seed 0` draws so many changes of `processors/` and of the modules
that turn messages into token ids and positions. First it notes which tests run which lines; then each change is
imported by a fork that has the libraries already, and tried on the tests that run its line, the quickest first. Results
go to out/mutation, and a second call goes on where the first was stopped. What survives must stand in survivors.json
with the reason why it changes nothing that is promised. Exit code 1 below the bar.
"""

import argparse
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.reliability.mutation_operators import Mutant, mutants, mutated

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out" / "mutation"
SURVIVORS = Path(__file__).with_name("survivors.json")
BAR = 0.85
# The code from messages to token ids and positions.
OMNI = (
    "completeness", "inputs", "layout", "layout_timestamps", "messages", "parts", "plain", "token_reuse", "template",
    "tokenizer",
)  # fmt: skip
# Test files that may notice, by the beginning of a module's path; those that exist.
TESTS = {
    "processors/": ("tests/processors", "tests/reliability/test_corpus.py", "tests/reliability/test_attacks.py"),
    "omni/": (
        "tests/omni/prompt/test_messages.py",
        "tests/omni/prompt/test_hostile_messages.py",
        "tests/omni/prompt/test_completeness.py",
        "tests/omni/prompt/test_template.py",
        "tests/omni/test_hostile_templates.py",
        "tests/omni/prompt/test_layout.py",
        "tests/omni/prompt/test_inputs.py",
        "tests/omni/prompt/test_tokenizer.py",
        "tests/omni/generation/test_text_stream.py",
        "tests/omni/test_chat.py",
        "tests/reliability/test_corpus.py",
    ),
}
_TESTS_A_MUTANT = 60
_LEAST_SECONDS, _TIMES_SLOWER = 30.0, 8.0


def modules() -> list[str]:
    """The modules that are changed."""
    paths = [path for path in (ROOT / "processors").rglob("*.py") if not path.name.startswith("_")]
    for path in (ROOT / "omni").rglob("*.py"):
        if path.stem in OMNI or path.stem.startswith(("message", "template", "layout")):
            paths.append(path)
    return [str(path.relative_to(ROOT)) for path in sorted(paths)]


def drawn(count: int, seed: int, only: str = "") -> list[Mutant]:
    """Mutants by chance, the same for one seed and one source; of the modules whose path begins with `only`."""
    every = [mutant for path in modules() if path.startswith(only) for mutant in mutants(ROOT, path)]
    # By identity, so that a line added elsewhere moves no other draw.
    every.sort(key=lambda one: hashlib.sha256(f"{seed}/{one.identity}".encode()).hexdigest())
    return every[:count]


def test_files(prefix: str) -> list[str]:
    """The test files for modules whose path begins so."""
    return [path for path in TESTS[prefix] if (ROOT / path).exists()]


# --- which tests run which lines --------------------------------------------------------------------------------------
class _Recorder:
    """A plugin of pytest that notes the lines that each test runs, and how long it takes."""

    def __init__(self, coverage: Any):
        self.coverage, self.seconds, self.failed = coverage, {}, set()

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)


def record_tests(files: list[str]) -> dict[str, dict[str, Any]]:
    """Runs test files once: of each, `{"lines": {path: {line: [test]}}, "seconds": {test: number}, "failed"}`."""
    import coverage
    import pytest

    measured = coverage.Coverage(data_file=None, include=[str(ROOT / path) for path in modules()], config_file=False)
    recorder = _Recorder(measured)
    measured.start()
    code = pytest.main(
        ["-q", "-m", "", "-W", "ignore", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        plugins=[recorder],
    )
    measured.stop()
    if code not in (0, 1):
        raise SystemExit(f"tests cannot be run: {code}")
    noted: dict[str, dict[str, Any]] = {file: {"lines": {}, "seconds": {}, "failed": []} for file in files}
    for test, seconds in recorder.seconds.items():
        noted[_file_of(test)]["seconds"][test] = seconds
    for test in sorted(recorder.failed):
        noted[_file_of(test)]["failed"].append(test)
    data = measured.get_data()
    for path in data.measured_files():
        name = str(Path(path).relative_to(ROOT))
        for line, tests in data.contexts_by_lineno(path).items():
            for test in tests:
                if test and test not in recorder.failed:
                    noted[_file_of(test)]["lines"].setdefault(name, {}).setdefault(str(line), []).append(test)
    return noted


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def tests_by_line(paths: set[str]) -> dict[str, Any]:
    """Which tests run each line of these modules' packages, and their seconds; kept for each test file."""
    found: dict[str, Any] = {"lines": {}, "seconds": {}}
    for prefix in TESTS:
        if not any(path.startswith(prefix) for path in paths):
            continue
        for noted in _noted(prefix).values():
            for path, lines in noted["lines"].items():
                for line, tests in lines.items():
                    found["lines"].setdefault(path, {}).setdefault(line, []).extend(tests)
            found["seconds"] |= noted["seconds"]
    return found


def _noted(prefix: str) -> dict[str, dict[str, Any]]:
    """What `record_tests` notes of the tests of one package; files are run that are new, or run changed sources."""
    files = [path for name in test_files(prefix) for path in _python_files(ROOT / name)]
    tests = [str(path.relative_to(ROOT)) for path in files if path.name.startswith("test_")]
    shared = [str(path.relative_to(ROOT)) for path in files if not path.name.startswith("test_")]
    kept = OUT / f"tests-{prefix.strip('/')}.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    found = {
        file: found[file] for file in tests if file in found and found[file]["states"] == _states(found[file]["states"])
    }
    if todo := [file for file in tests if file not in found]:
        print(f"which lines of {prefix} the tests of {len(todo)} files run", flush=True)
        fresh = OUT / "fresh.json"
        fresh.unlink(missing_ok=True)
        process = os.fork()
        if not process:
            _quiet()
            try:
                fresh.write_text(json.dumps(record_tests(todo)))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(0)
        os.waitpid(process, 0)
        if not fresh.exists():
            raise SystemExit(f"the tests of {prefix} cannot be run: see {OUT / 'log.txt'}")
        for file, noted in json.loads(fresh.read_text()).items():
            found[file] = {"states": _states([file, *shared, *noted["lines"]]), **noted}
        kept.write_text(json.dumps(found))
    for test in (test for noted in found.values() for test in noted["failed"]):
        print(f"left out, for it does not pass without any change: {test}", flush=True)
    return found


def _states(paths: Iterable[str]) -> dict[str, str]:
    """What tells whether a file has changed."""
    return {path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in paths if (ROOT / path).exists()}


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def chosen_tests(mutant: Mutant, noted: dict[str, Any]) -> list[str]:
    """The tests that run a mutant's lines, the quickest first; where none does, those that run its module."""
    lines = noted["lines"].get(mutant.path, {})
    found = {test for line in range(mutant.line, mutant.last_line + 1) for test in lines.get(str(line), ())}
    if not found:
        found = {test for tests in lines.values() for test in tests}
    return _spread(sorted(found, key=lambda test: (noted["seconds"].get(test, 1.0), test)))


def _spread(tests: list[str]) -> list[str]:
    """So many tests, of each function the first few, so that one with a hundred parameters does not hide others."""
    taken: dict[str, int] = {}
    first, rest = [], []
    for test in tests:
        function = test.partition("[")[0]
        taken[function] = taken.get(function, 0) + 1
        (first if taken[function] <= (60 if "test_corpus" in function else 6) else rest).append(test)
    return (first + rest)[: max(_TESTS_A_MUTANT, len(first))]


# --- one mutant -------------------------------------------------------------------------------------------------------
class Replaced:
    """Makes the import system read another source for one module."""

    def __init__(self, path: Path, source: bytes):
        self._path, self._source = str(path), source

    def install(self) -> None:
        """Stays for the life of the process."""
        loader = importlib.machinery.SourceFileLoader
        read, stats = loader.get_data, loader.path_stats

        def get_data(this: Any, path: Any) -> bytes:
            return self._source if str(path) == self._path else read(this, path)

        def path_stats(this: Any, path: Any) -> Any:
            if str(path) == self._path:
                raise OSError("no compiled file may stand in for it")
            return stats(this, path)

        loader.get_data, loader.path_stats = get_data, path_stats  # type: ignore[method-assign]


def _quiet() -> None:
    log = os.open(OUT / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _try(mutant: Mutant, tests: list[str]) -> int:
    """In a fork: imports the project with the change and runs the tests; returns pytest's exit code."""
    import pytest

    os.setsid()
    _quiet()
    sys.dont_write_bytecode = True
    Replaced(ROOT / mutant.path, mutated(ROOT, mutant)).install()
    folder = OUT / f"tmp-{os.getpid()}"
    options = [
        "-x",
        "-q",
        "-m",
        "",
        "-W",
        "ignore",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--basetemp={folder}",
        "--no-header",
        "--tb=line",
    ]
    return int(pytest.main([*options, *tests]))


def warm() -> None:
    """Imports what the tests need and the project does not change, once for all forks."""
    import PIL.Image
    import pytest  # noqa: F401

    PIL.Image.preinit()  # first, so that formats are tried in Pillow's own order
    PIL.Image.init()
    names = (
        "numpy",
        "scipy.signal",
        "av",
        "soundfile",
        "soxr",
        "hypothesis",
        "beartype.claw",
        "jaxtyping",
        "jax.numpy",
        "flax.nnx",
        "tokenizers",
        "jinja2.sandbox",
        "safetensors.numpy",
        "ml_dtypes",
        "librosa",
        "tqdm",
        "optax",
    )
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert not {"processors", "omni", "encoders"} & set(sys.modules), "the project must be imported by the forks"


class _Running:
    def __init__(self, mutant: Mutant, tests: list[str], seconds: float):
        self.mutant, self.tests, self.began = mutant, tests, time.monotonic()
        self.limit = max(_LEAST_SECONDS, _TIMES_SLOWER * seconds)
        self.process = os.fork()
        if not self.process:
            code = 70
            try:
                code = _try(mutant, tests)
            finally:
                os._exit(code)
        self.descriptor = os.pidfd_open(self.process)

    def outcome(self) -> str | None:
        """How it ended, or None while it runs."""
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if ended:
            os.close(self.descriptor)
            code = os.waitstatus_to_exitcode(status)
            return "survived" if code == 0 else "no tests" if code == 5 else "killed"
        if time.monotonic() - self.began > self.limit:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            os.close(self.descriptor)
            return "killed by time"
        return None


def run(todo: Iterable[Mutant], noted: dict[str, Any], results: Path, jobs: int, total: int) -> None:
    """Tries mutants, so many at a time, and writes a line for each that is through."""
    waiting, running, done = list(reversed(list(todo))), [], total - len(list(todo))
    with results.open("a", encoding="utf-8") as log:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                tests = chosen_tests(mutant, noted)
                running.append(_Running(mutant, tests, sum(noted["seconds"].get(test, 1.0) for test in tests)))
            select.select([one.descriptor for one in running], [], [], 0.5)
            for one in list(running):
                outcome = one.outcome()
                if outcome is None:
                    continue
                running.remove(one)
                done += 1
                seconds = round(time.monotonic() - one.began, 2)
                line = {**asdict(one.mutant), "outcome": outcome, "seconds": seconds, "tests": len(one.tests)}
                log.write(json.dumps(line) + "\n")
                log.flush()
                if not outcome.startswith("killed"):
                    print(
                        f"{done}/{total} {outcome}: {one.mutant.path}:{one.mutant.line} {one.mutant.change}", flush=True
                    )
                for left in OUT.glob(f"tmp-{one.process}"):
                    _remove(left)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def read(results: Path) -> dict[str, dict[str, Any]]:
    """The lines of a file of results, by the mutants' identities; half a line at its end is passed over."""
    found = {}
    if results.exists():
        for line in results.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                one = json.loads(line)
                found[one["identity"]] = one
    return found


def report(chosen: list[Mutant], found: dict[str, dict[str, Any]]) -> int:
    """Prints the share that was killed and every survivor with its reason."""
    reasons = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    through = [found[one.identity] for one in chosen if one.identity in found]
    killed = sum(one["outcome"].startswith("killed") for one in through)
    seconds = sum(one["seconds"] for one in through)
    alive = [one for one in chosen if one.identity in found and not found[one.identity]["outcome"].startswith("killed")]
    excused = 0
    for one in sorted(alive, key=lambda mutant: (mutant.path, mutant.line)):
        reason = reasons.get(one.identity, {}).get("reason", "")
        excused += bool(reason)
        print(f"{one.identity} {one.path}:{one.line} {one.change}\n    {reason or 'NO REASON YET'}")
    share = killed / max(len(through), 1)
    print(
        f"{len(through)} of {len(chosen)} mutants tried, {killed} killed, {share:.1%} (the bar is {BAR:.0%}); "
        f"{len(alive)} survivors, {excused} with a reason; {seconds / max(len(through), 1):.1f} s a mutant"
    )
    return int(share < BAR or len(through) < len(chosen))


def main() -> int:
    """Draws, tries and reports."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--count", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="modules whose path begins so")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--again", action="store_true", help="try survivors without a reason again: tests were added")
    options.add_argument("--report", action="store_true", help="print what is known and try nothing")
    given = options.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    results = OUT / f"results-{given.seed}.jsonl"
    chosen, found = drawn(given.count, given.seed, given.only), read(results)
    if given.report:
        return report(chosen, found)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    warm()
    noted = tests_by_line({one.path for one in chosen})
    reasons = json.loads(SURVIVORS.read_text(encoding="utf-8"))

    def is_due(identity: str) -> bool:
        if identity not in found:
            return True
        return given.again and not found[identity]["outcome"].startswith("killed") and identity not in reasons

    todo = [one for one in chosen if is_due(one.identity)]
    run(todo, noted, results, given.jobs, given.count)
    return report(chosen, read(results))


if __name__ == "__main__":
    raise SystemExit(main())
