"""Logs: one JSON object a line, without what people wrote."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("omni.server")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(entry, ensure_ascii=True, default=str)


def set_up() -> None:
    """Write to stderr, one JSON object a line; uvicorn's own messages and warnings too."""
    logging.captureWarnings(True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name in ("omni.server", "py.warnings", "uvicorn", "uvicorn.error"):
        one = logging.getLogger(name)
        one.handlers, one.propagate = ([handler] if name != "uvicorn.error" else []), name == "uvicorn.error"
        one.setLevel(logging.INFO)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line."""
    logger.log(level, event, extra={"fields": fields})


def log_failure(error: BaseException, **fields: Any) -> None:
    """Write where something failed that was not foreseen; not its message, which may quote what someone wrote."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    log("failure", logging.ERROR, error=type(error).__name__, where=where, **fields)
