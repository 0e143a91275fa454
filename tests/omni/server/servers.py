"""Servers that tests ask: as processes of their own, and in a thread of this one."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

import omni
from omni.server.app import build_app
from omni.server.service import Service
from omni.server.settings import ServerSettings

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Server:
    """One that listens.

    Attributes:
        url: where.
        log: lines it wrote.
        process: that it runs in; None in a thread.
        service: what is behind it, in a thread.
    """

    url: str
    log: list[dict[str, Any]]
    process: subprocess.Popen[str] | None = None
    service: Service | None = None

    def post(self, path: str, body: Any, key: str | None = None, **more: Any) -> httpx2.Response:
        """Send JSON."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx2.post(self.url + path, json=body, headers=headers, timeout=300, **more)

    def wait(self) -> None:
        """Until it is ready."""
        for _ in range(1200):
            # Of several processes none listens before the first has its model.
            with contextlib.suppress(httpx2.ConnectError):
                if httpx2.get(self.url + "/ready", timeout=60).status_code == 200:
                    return
            time.sleep(0.25)
        raise TimeoutError("the server is not ready")


def command(*options: str) -> list[str]:
    """How `omni serve` is started, with the sources of this tree."""
    return [sys.executable, "-c", "from omni.cli import program; program()", "serve", "--port", "0", *options]


@contextlib.contextmanager
def process(*options: str) -> Iterator[Server]:
    """`omni serve` as a user starts it, on a port that is free."""
    child = subprocess.Popen(command(*options), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log: list[dict[str, Any]] = []
    assert child.stderr is not None
    for line in child.stderr:
        log.append(json.loads(line))
        if match := re.search(r"running on (http://\S+)", log[-1]["event"]):
            break
    else:
        raise AssertionError(log)
    # Python's own tracker of semaphores tells in plain text, on two lines, of those that a killed process left.
    lines = (line for line in child.stderr if "resource_tracker" not in line and line != "  warnings.warn(\n")
    reader = threading.Thread(target=lambda: log.extend(map(json.loads, lines)), daemon=True)
    reader.start()
    server = Server(match[1], log, child)
    try:
        server.wait()
        yield server
    finally:
        child.terminate()
        child.wait(60)
        reader.join(60)
        child.stderr.close()


@contextlib.contextmanager
def thread(load: Callable[[], omni.Model], **settings: Any) -> Iterator[Server]:
    """A server in a thread of this process."""
    app, service = build_app(load, ServerSettings(**{"warm_up": False, "max_batch": 4, **settings}), lambda: None)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, log_level="error"))  # pyright: ignore[reportArgumentType]
    runner = threading.Thread(target=server.run)
    runner.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        running = Server(f"http://127.0.0.1:{port}", [], service=service)
        running.wait()
        yield running
    finally:
        server.should_exit = True
        runner.join(60)
