"""Worker processes that try inputs: one that dies or hangs is noticed, and another takes its place."""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from tests.quick_compile import QUICK_COMPILE_FLAGS
from tests.reliability.outcomes import HARD_SECONDS, Verdict

# Bytes of addresses: an input that takes more memory than this ends in an error, not in the machine's.
_ADDRESSES = 24 << 30
_CONTEXT = multiprocessing.get_context("spawn")


def quiet_environment() -> None:
    """What JAX reads when it is first imported, and the decoders' notes to nobody."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("NPROC", "2")
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILE_FLAGS)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ["PYTHONWARNINGS"] = "ignore"


def _work(connection: Any, trial: Callable[[Any], Any]) -> None:
    import warnings

    warnings.filterwarnings("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with open(os.devnull, "w") as nobody:
        os.dup2(nobody.fileno(), 2)  # libraries of C write what they think of an input
    connection.send("ready")
    while (task := connection.recv()) is not None:
        connection.send(trial(task))


class _Worker:
    def __init__(self, trial: Callable[[Any], Any]):
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_work, args=(theirs, trial), daemon=False)
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.busy = True  # until it says that it is ready
        self.since = time.monotonic()

    def give(self, task: Any) -> None:
        self.task, self.busy, self.since = task, True, time.monotonic()
        self.connection.send(task)

    def end(self) -> None:
        if not self.busy:
            self.connection.send(None)
            self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


def run(
    trial: Callable[[Any], Any],
    tasks: Sequence[Any],
    lost: Callable[[Any, str], Any],
    count: int = 2,
    patience: float = HARD_SECONDS * 3,
) -> Iterator[Any]:
    """Tries every task in one of `count` processes; results come as they are ready.

    Args:
        trial: a function of a module, called with a task.
        tasks: what can be sent to another process.
        lost: called with a task whose process died or was stopped, and why; what it returns is the result.
        count: processes.
        patience: seconds that one task may take.
    """
    quiet_environment()
    waiting = list(reversed(tasks))
    workers = [_Worker(trial) for _ in range(min(count, len(tasks)))]
    try:
        while workers:
            wait([w.connection for w in workers] + [w.process.sentinel for w in workers], timeout=1)
            for place, worker in enumerate(list(workers)):
                why = ""
                try:
                    if worker.connection.poll():
                        result = worker.connection.recv()
                        if worker.task is not None:
                            yield result
                        worker.busy, worker.task = False, None
                    elif not worker.process.is_alive():
                        why = f"its process ended with {worker.process.exitcode}"
                except (EOFError, OSError):
                    worker.process.join(5)
                    why = f"its process ended with {worker.process.exitcode}"
                if worker.busy and not why and time.monotonic() - worker.since > patience:
                    why = f"no answer within {patience:.0f} s"
                if why:
                    worker.end()
                    if worker.task is None:
                        raise RuntimeError(f"a worker could not begin: {why}")
                    yield lost(worker.task, why)
                    workers[place] = _Worker(trial)
                elif not worker.busy and waiting:
                    worker.give(waiting.pop())
            if not waiting and not any(worker.busy for worker in workers):
                break
    finally:
        for worker in workers:
            worker.end()


def judged(task: tuple[str, str]) -> Verdict:
    """One input of the corpus, in a worker."""
    from tests.reliability.corpus.table import warm
    from tests.reliability.everything import tables

    kind, name = task
    warm()
    return tables((kind,))[kind].judge(name)


def died(task: tuple[str, str], why: str) -> Verdict:
    """The verdict on an input that took its process with it."""
    return Verdict(task[1], "hang" if "no answer" in why else "crash", why)


def say(text: str) -> None:
    """Prints at once."""
    print(text, flush=True)
    sys.stdout.flush()
