"""A server's process: from its start until what it was asked is answered."""

import signal
from collections.abc import Callable
from typing import Any

import uvicorn

from omni.model import Model
from omni.server.app import build_app
from omni.server.logs import set_up
from omni.server.settings import ServerSettings
from omni.server.workers import Plan, run_workers

# Seconds that replies may take that are being written when the server is told to end.
_DRAIN_SECONDS = 120


class _Server(uvicorn.Server):
    """Says first that it takes no more requests."""

    drain: Callable[[], None] = staticmethod(lambda: None)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.drain()
        super().handle_exit(sig, frame)


def run(load: Callable[[], Model], settings: ServerSettings, port: int, workers: int = 1) -> None:
    """Serve until SIGTERM or Ctrl-C; then replies that are being written are finished first.

    Args:
        load: makes the model.
        settings: of the operator.
        port: that is listened on; any that is free when 0.
        workers: processes that serve; of more than one, `load` is a function of a module, or a partial of one.

    Raises:
        InputError, CheckpointError: the model cannot be loaded.
    """
    set_up()
    options: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _DRAIN_SECONDS,
        "h11_max_incomplete_event_size": 64 << 10,
        "backlog": 1024,
    }
    # The command line ends soon after Ctrl-C, in whatever is going on; a server finishes first.
    signal.set_wakeup_fd(-1)
    if workers > 1:
        run_workers(Plan(load, settings, workers), port, **options)
        return

    def failed() -> None:
        server.should_exit = True

    app, service = build_app(load, settings, failed)
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]
        host=settings.host,
        port=port,
        **options,
    )
    server = _Server(config)
    server.drain = service.drain
    server.run()
    if service.failure is not None:
        raise service.failure
