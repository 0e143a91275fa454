"""A server under faults: killed, left by its clients, sent bodies byte by byte, and told to end.

`python -m benchmarks.server_faults [--model demo] [--kills 10] [--clients 8] [--workers 1]` starts `omni serve` on this
machine's loopback address and prints a Markdown table. It ends with 1 where an answer was lost, or was not that of an
undisturbed server.

kills     clients that ask again until they are answered, while the server is killed and started anew, so many times
gone      streams whose clients leave after the first piece
slow      bodies that come one byte a second, beside clients that send theirs at once
end       SIGTERM while replies are streamed: each of them comes whole
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from omni.checkpoint.directory import find_directory

_READY_SECONDS, _ANSWER_SECONDS = 600, 600
_PAUSE = 0.05
_QUESTIONS = ("Hello", "What do you know?", "Name every shape that you know.", "Count to ten.")


@dataclass
class Row:
    """What came of one fault.

    Attributes:
        fault: what was done, in a few words.
        outcome: what came of it.
        is_good: whether that is what should.
    """

    fault: str
    outcome: str
    is_good: bool


@dataclass
class Server:
    """`omni serve` on one port, for as many processes as it takes."""

    model: str
    workers: int
    port: int = 0
    child: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        began = time.perf_counter()
        code = "from omni.cli import program; program()"
        options = [self.model, "--port", str(self.port), "--workers", str(self.workers), "--max-queue", "256"]
        command = [sys.executable, "-c", code, "serve", *options]
        # In a group of its own: what kills it kills its workers too, as a machine that goes down does.
        self.child = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while not self._is_ready():
            if self.child.poll() is not None or time.perf_counter() - began > _READY_SECONDS:
                raise RuntimeError("the server did not start")
            time.sleep(_PAUSE)
        self.starts.append(time.perf_counter() - began)

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(self.url + "/ready", timeout=5).status_code == 200
        return False

    def kill(self) -> None:
        """End it without a word."""
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def count(self, name: str) -> float:
        """A number of `/metrics`."""
        text = httpx2.get(self.url + "/metrics", timeout=60).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def question(index: int, **more: Any) -> dict[str, Any]:
    """The body of a chat whose answer is always the same."""
    text = f"{_QUESTIONS[index % len(_QUESTIONS)]} {index % 16}"
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 24, "temperature": 0, **more}


def endless(server: Server, index: int) -> dict[str, Any]:
    """The body of a chat that is streamed for as long as it may be: no token ends it."""
    settings = json.loads((find_directory(server.model) / "generation_config.json").read_text("utf-8"))
    ends = settings["eos_token_id"]
    bias = {str(token): -100.0 for token in (ends if isinstance(ends, list) else [ends])}
    return question(index, stream=True, logit_bias=bias)


async def answer(client: httpx2.AsyncClient, index: int) -> tuple[str, int]:
    """The answer to a question, asked until it comes, and how often it was asked in vain."""
    for tries in range(100_000):
        try:
            reply = await client.post("/v1/chat/completions", json=question(index))
            if reply.status_code == 200:
                return reply.json()["choices"][0]["message"]["content"], tries
            if reply.status_code not in (429, 503):
                raise RuntimeError(f"status {reply.status_code}: {reply.text[:200]}")
        except httpx2.TransportError:
            pass
        await asyncio.sleep(_PAUSE)
    raise RuntimeError("no answer")


async def kills(server: Server, times: int, clients: int, between: int) -> Row:
    """Kill and start the server so many times, after so many answers each, while clients ask."""
    wanted: dict[int, str] = {}
    wrong = tries = answers = 0
    ending = False

    async def one(client: httpx2.AsyncClient, index: int) -> None:
        nonlocal wrong, tries, answers
        while not ending:
            text, vain = await answer(client, index)
            wrong += text != wanted[index % 16]
            tries, answers, index = tries + vain, answers + 1, index + clients

    async with httpx2.AsyncClient(base_url=server.url, timeout=_ANSWER_SECONDS) as client:
        for index in range(16):
            wanted[index] = (await answer(client, index))[0]
        tasks = [asyncio.ensure_future(one(client, index)) for index in range(clients)]
        server.starts.clear()
        for _ in range(times):
            await _until(lambda goal=answers + between: answers >= goal or any(task.done() for task in tasks))
            server.kill()
            await asyncio.to_thread(server.start)
        goal = answers + between
        await _until(lambda: answers >= goal or any(task.done() for task in tasks))
        ending = True
        await asyncio.gather(*tasks)
    seconds = f"ready again after {min(server.starts):.1f} to {max(server.starts):.1f} s"
    outcome = f"{answers} answers, {wrong} of them wrong, {tries} asked again; {seconds}"
    return Row(f"{times} kills, {clients} clients", outcome, not wrong and answers >= times * between)


async def gone(server: Server, clients: int) -> Row:
    """Leave so many streams after their first piece."""

    async def one(client: httpx2.AsyncClient, index: int) -> None:
        body = endless(server, index) | {"max_tokens": 1000}
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    return

    async with httpx2.AsyncClient(base_url=server.url, timeout=_ANSWER_SECONDS) as client:
        await asyncio.gather(*(one(client, index) for index in range(clients)))
        began = time.perf_counter()
        busy = ("omni_requests_running", "omni_requests_waiting")
        while sum(server.count(name) for name in busy) and time.perf_counter() - began < 60:
            await asyncio.sleep(_PAUSE)
        left, seconds = sum(server.count(name) for name in busy), time.perf_counter() - began
        await answer(client, 0)
    outcome = f"{left:.0f} requests left after {seconds:.1f} s; the next is answered"
    return Row(f"{clients} clients leave in the middle", outcome, not left)


async def slow(server: Server, clients: int) -> Row:
    """Send so many bodies a byte a second, while others are answered."""
    statuses: list[int] = []
    waits: list[float] = []

    async def trickle() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write((head + "Content-Length: 10000\r\n\r\n").encode())
        first = asyncio.ensure_future(reader.readline())
        with contextlib.suppress(ConnectionError):
            while not first.done():
                writer.write(b" ")
                await writer.drain()
                await asyncio.wait([first], timeout=1)
        line = await first
        statuses.append(int(line.split()[1]) if line else 0)
        writer.close()

    async with httpx2.AsyncClient(base_url=server.url, timeout=_ANSWER_SECONDS) as client:
        began = time.perf_counter()
        trickles = asyncio.gather(*(trickle() for _ in range(clients)))
        index = 0
        while not trickles.done():
            asked = time.perf_counter()
            await answer(client, index)
            waits.append(time.perf_counter() - asked)
            index += 1
            await asyncio.sleep(_PAUSE)
        await trickles
        seconds = time.perf_counter() - began
    waits.sort()
    refused = f"{statuses.count(408)} refused with 408 after {seconds:.0f} s"
    outcome = f"{refused}; {len(waits)} others answered meanwhile, the slowest after {waits[-1]:.2f} s"
    return Row(f"{clients} bodies of a byte a second", outcome, statuses.count(408) == clients)


async def end(server: Server, clients: int) -> Row:
    """Tell the server to end while so many replies are streamed."""
    begun, whole, cut = 0, 0, 0

    async def one(client: httpx2.AsyncClient, index: int) -> None:
        nonlocal begun, whole, cut
        body = endless(server, index) | {"max_tokens": 400}
        reason, is_first = None, True
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        begun, is_first = begun + is_first, False
                        chunk = json.loads(line[6:])
                        reason = next((one["finish_reason"] for one in chunk.get("choices", [])), None) or reason
        except httpx2.TransportError:
            reason = None
        whole, cut = whole + (reason is not None), cut + (reason is None)

    assert server.child is not None
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=server.url, timeout=_ANSWER_SECONDS, limits=limits) as client:
        tasks = [asyncio.ensure_future(one(client, index)) for index in range(clients)]
        await _until(lambda: begun == clients or all(task.done() for task in tasks))
        running = sum(not task.done() for task in tasks)
        server.child.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        await asyncio.gather(*tasks)
        code = await asyncio.to_thread(server.child.wait, _READY_SECONDS)
    outcome = f"{whole} replies whole, {cut} cut short; exit code {code} after {time.perf_counter() - began:.1f} s"
    return Row(
        f"SIGTERM while {running} replies are streamed",
        outcome,
        not cut and code in (0, -signal.SIGTERM) and running > 0,
    )


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(_PAUSE)


def run(model: str, times: int, clients: int, between: int, workers: int) -> list[Row]:
    """All faults, one after the other, printed as they come."""
    server, rows = Server(model, workers), []

    def show(row: Row) -> None:
        rows.append(row)
        print(f"| {row.fault} | {row.outcome} | {'yes' if row.is_good else 'NO'} |", flush=True)

    print("| Fault | What came of it | As it should |\n|---|---|---|", flush=True)
    server.start()
    try:
        show(asyncio.run(kills(server, times, clients, between)))
        show(asyncio.run(gone(server, clients)))
        show(asyncio.run(slow(server, clients)))
        show(asyncio.run(end(server, clients)))
    finally:
        server.kill()
    return rows


def main() -> None:
    """Run all faults; end with 1 where one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--between", type=int, default=20, help="answers between two kills")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    rows = run(options.model, options.kills, options.clients, options.between, options.workers)
    raise SystemExit(not all(row.is_good for row in rows))


if __name__ == "__main__":
    main()
