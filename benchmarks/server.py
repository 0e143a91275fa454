"""Clients of one server: requests and tokens a second, and how long first and following pieces of text take.

`python -m benchmarks.server [--clients 1 8 32 64] [--requests 64] [--url URL --key KEY]` starts `omni serve` on this
machine's loopback address, unless one is named, and sends streamed chats of many lengths, so many at a time. It prints
a Markdown table, and how much the server's memory grew between the first run and the last.
"""

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

PROMPTS = ("Hello", "What do you know?", "Name every shape that you know, and tell me of their colours.")
NEW_TOKENS = 64


@dataclass
class Measured:
    """What one client's requests took, in seconds."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: int = 0


@contextlib.contextmanager
def serving(model: str, max_batch: int) -> Iterator[tuple[str, int]]:
    """A server of this machine: its address, and its process's id."""
    code = "from omni.cli import program; program()"
    options = [model, "--port", "0", "--max-batch", str(max_batch), "--max-queue", "256", "--warm-up"]
    server = subprocess.Popen([sys.executable, "-c", code, "serve", *options], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if match := re.search(r"running on (http://[^\s\"]+)", line):
                break
        else:
            raise RuntimeError("the server did not start")
        while json.loads(server.stderr.readline())["event"] != "ready":
            pass
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        yield match[1], server.pid
        drain.kill()
        drain.wait()
    finally:
        server.terminate()
        server.wait(60)


async def ask(client: httpx2.AsyncClient, index: int, measured: Measured) -> None:
    """One streamed chat."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"{PROMPTS[index % len(PROMPTS)]} {index}"}],
        "max_tokens": NEW_TOKENS,
        "temperature": 1.0,
        "seed": index,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = last = time.perf_counter()
    is_first = True
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise httpx2.HTTPError(chunk["error"]["message"])
                if chunk.get("usage"):
                    measured.tokens += chunk["usage"]["completion_tokens"]
                elif chunk["choices"][0]["delta"].get("content"):
                    now = time.perf_counter()
                    (measured.first if is_first else measured.between).append(now - (began if is_first else last))
                    last, is_first = now, False
    except httpx2.HTTPError:
        measured.errors += 1


async def load(url: str, key: str | None, clients: int, requests: int) -> tuple[Measured, float]:
    """So many requests by so many clients; what they took, and the seconds of all together."""
    measured, numbers = Measured(), iter(range(requests))
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def one(client: httpx2.AsyncClient) -> None:
        for index in numbers:
            await ask(client, index, measured)

    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=600) as client:
        began = time.perf_counter()
        await asyncio.gather(*(one(client) for _ in range(clients)))
        return measured, time.perf_counter() - began


def memory(process: int) -> int:
    """Bytes that a process holds; 0 where the system does not tell."""
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


def milliseconds(seconds: list[float]) -> str:
    """The 50th, 95th and 99th of a hundred."""
    if not seconds:
        return "-"
    return " / ".join(f"{1000 * np.percentile(seconds, part):.0f}" for part in (50, 95, 99))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--requests", type=int, default=64, help="of each number of clients")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--key")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url, process = options.url, 0
        if url is None:
            url, process = stack.enter_context(serving(options.model, options.max_batch))
        asyncio.run(load(url, options.key, 4, 8))
        before = memory(process)
        print("| clients | requests/s | tokens/s | first piece ms, p50 / p95 / p99 | between pieces ms | errors |")
        print("|---|---|---|---|---|---|")
        for clients in options.clients:
            found, seconds = asyncio.run(load(url, options.key, clients, options.requests))
            rates = f"{options.requests / seconds:.1f} | {found.tokens / seconds:.0f}"
            waits = f"{milliseconds(found.first)} | {milliseconds(found.between)}"
            print(f"| {clients} | {rates} | {waits} | {found.errors} |", flush=True)
        if before:
            print(
                f"\nThe server's memory grew by {(memory(process) - before) / 1e6:.0f} MB, from {before / 1e6:.0f} MB."
            )


if __name__ == "__main__":
    main()
