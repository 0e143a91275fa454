"""Several processes behind one port, each with the model of its own.

uvicorn's supervisor holds the socket, starts the processes, starts one anew that died, and hands on SIGTERM, after
which each finishes the replies that it is writing. A process takes connections once its model is loaded. What they
share lies in a directory that only their user can read: what to load, which of them has which device, and their
counts, which prometheus-client adds up.
"""

import asyncio
import fcntl
import json
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import uvicorn

from omni.errors import CheckpointError, InputError
from omni.model import Model
from omni.server.app import build_app
from omni.server.gate import App
from omni.server.logs import log, set_up
from omni.server.service import Service
from omni.server.settings import ServerSettings

# Where processes learn of the directory that they share; the second is prometheus-client's own name.
_SHARED, _COUNTS = "OMNI_SERVER_SHARED", "PROMETHEUS_MULTIPROC_DIR"
_DEVICES = "CUDA_VISIBLE_DEVICES"
_PLAN, _FAILURE = "plan.pickle", "failure.json"
# A process that compiles answers late whether it lives.
_ALIVE_SECONDS = 120
_LOOK_SECONDS = 0.1
# Files that hold a process's place; open for as long as it lives.
_held: list[IO[str]] = []


@dataclass(frozen=True)
class Plan:
    """What every process does.

    Attributes:
        load: makes the model; a function of a module, or a `functools.partial` of one.
        settings: of the operator.
        workers: how many there are.
    """

    load: Callable[[], Model]
    settings: ServerSettings
    workers: int


def run_workers(plan: Plan, port: int, **options: Any) -> None:
    """Serve with so many processes until SIGTERM or Ctrl-C.

    Args:
        plan: what each does.
        port: that is listened on; any that is free when 0.
        options: of `uvicorn.run`.

    Raises:
        InputError, CheckpointError: a process cannot load the model.
    """
    devices_of(plan.workers)
    with tempfile.TemporaryDirectory(prefix="omni-serve-") as folder:
        shared = Path(folder)
        (shared / "counts").mkdir()
        (shared / _PLAN).write_bytes(pickle.dumps(plan))
        os.environ[_SHARED], os.environ[_COUNTS] = str(shared), str(shared / "counts")
        try:
            uvicorn.run(
                "omni.server.workers:application",
                factory=True,
                workers=plan.workers,
                host=plan.settings.host,
                port=port,
                timeout_worker_healthcheck=_ALIVE_SECONDS,
                **options,
            )
        finally:
            for name in (_SHARED, _COUNTS):
                del os.environ[name]
        if (shared / _FAILURE).is_file():
            failure = json.loads((shared / _FAILURE).read_text("utf-8"))
            if failure["kind"] == "CheckpointError":
                raise CheckpointError(failure["message"], code=failure["code"])
            raise InputError(failure["code"], failure["message"])


def application() -> App:
    """The application of one process; uvicorn calls it in each."""
    set_up()
    shared = Path(os.environ[_SHARED])
    plan: Plan = pickle.loads((shared / _PLAN).read_bytes())
    number = _number(shared, plan.workers)
    devices = devices_of(plan.workers)
    if devices:
        os.environ[_DEVICES] = devices[number]  # before JAX looks for any
    _forget_the_dead(shared / "counts")
    ending: list[int] = []

    async def started(service: Service) -> None:
        _hand_on_signals(service, ending)
        while service.status in ("loading", "compiling") and service.failure is None and not ending:
            await asyncio.sleep(_LOOK_SECONDS)
        if service.failure is not None:
            _write_failure(shared, service.failure)
            os.kill(os.getppid(), signal.SIGTERM)  # it would fail again, however often it is started
            raise service.failure
        log("worker", number=number, process=os.getpid())

    app, _ = build_app(plan.load, plan.settings, lambda: None, started)
    return app


def devices_of(workers: int) -> list[str]:
    """The GPU of each process; none where there are no NVIDIA GPUs.

    Raises:
        InputError: `too_many_workers`, there are fewer GPUs.
    """
    if _DEVICES in os.environ:
        visible = [one for one in os.environ[_DEVICES].split(",") if one.strip() not in ("", "-1")]
    else:
        visible = [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu") or not visible:
        return []
    if len(visible) < workers:
        raise InputError("too_many_workers", f"{workers} workers are asked for, and there are {len(visible)} GPUs")
    return visible[:workers]


def _number(shared: Path, workers: int) -> int:
    """A number that no living process has; the system gives it back when the process ends, however it ends."""
    while True:
        for number in range(workers):
            file = (shared / f"worker-{number}").open("w", encoding="ascii")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            _held.append(file)
            return number
        time.sleep(_LOOK_SECONDS)  # one that is replaced has not wholly ended


def _forget_the_dead(counts: Path) -> None:
    """Takes what processes that ended were doing out of the counts; what they have done stays."""
    from prometheus_client.multiprocess import mark_process_dead

    for process in {int(path.stem.rpartition("_")[2]) for path in counts.glob("gauge_live*.db")}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, str(counts))


def _hand_on_signals(service: Service, ending: list[int]) -> None:
    """Tells the service first that it takes no more requests."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def handle(number: int, frame: Any, before: Any = before) -> None:
            ending.append(number)
            service.drain()
            if callable(before):
                before(number, frame)

        signal.signal(number, handle)


def _write_failure(shared: Path, error: BaseException) -> None:
    code = getattr(error, "code", "internal_error")
    refused = isinstance(error, InputError | CheckpointError)
    message = str(error) if refused else f"a worker could not start: {type(error).__name__}"
    kind = "CheckpointError" if isinstance(error, CheckpointError) else "InputError"
    text = json.dumps({"kind": kind, "code": code, "message": message})
    (shared / _FAILURE).write_text(text, "utf-8")
