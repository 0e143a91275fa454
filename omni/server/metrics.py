"""What is counted, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server.

    Args:
        waiting: tells how many requests wait for a row.
        running: tells how many have one.
    """

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
        Gauge("omni_requests_waiting", "Requests that wait for a row.", registry=registry).set_function(waiting)
        Gauge("omni_requests_running", "Requests that have a row.", registry=registry).set_function(running)

    def count(self, prompt: int, cached: int, completion: int) -> None:
        """Add the tokens of one reply."""
        for kind, number in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            self.tokens.labels(kind).inc(number)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
