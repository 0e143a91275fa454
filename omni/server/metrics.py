"""What is counted, for Prometheus; the sums of all processes where several serve."""

import asyncio
import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server.

    Args:
        waiting: tells how many requests wait for a row.
        running: tells how many have one.
    """

    _SECONDS_BETWEEN = 1.0

    def __init__(self, waiting: Callable[[], float], running: Callable[[], float]):
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("omni_requests", "Requests answered.", ("endpoint", "status"), registry=registry)
        self.seconds = Histogram(
            "omni_request_seconds", "Seconds a request.", ("endpoint",), buckets=_SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "omni_first_token_seconds", "Seconds until a first piece of text.", buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "omni_tokens", "Tokens read, found in the cache, and written.", ("kind",), registry=registry
        )
        for kind in ("prompt", "cached", "completion"):
            self.tokens.labels(kind)
        # prometheus-client writes counts to files where this is set, before it is imported, and adds them up.
        self._is_shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        mode = "livesum" if self._is_shared else "all"
        wait = Gauge(
            "omni_requests_waiting", "Requests that wait for a row.", multiprocess_mode=mode, registry=registry
        )
        run = Gauge("omni_requests_running", "Requests that have a row.", multiprocess_mode=mode, registry=registry)
        self._now = ((wait, waiting), (run, running))
        for gauge, tell in self._now if not self._is_shared else ():
            gauge.set_function(tell)

    def count(self, prompt: int, cached: int, completion: int) -> None:
        """Add the tokens of one reply."""
        for kind, number in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            self.tokens.labels(kind).inc(number)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        if not self._is_shared:
            return generate_latest(self._registry)
        self.tell()
        every = CollectorRegistry()
        MultiProcessCollector(every)
        return generate_latest(every)

    def tell(self) -> None:
        """Write down for other processes what waits and runs in this one."""
        for gauge, tell in self._now:
            gauge.set(tell())

    async def keep_telling(self) -> None:
        """Do so for as long as others may ask."""
        while self._is_shared:
            self.tell()
            await asyncio.sleep(self._SECONDS_BETWEEN)
