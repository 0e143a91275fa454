"""The runner's end of a worker."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class SideError(Exception):
    """A side could not do what it was asked for."""


class Side:
    """A process that runs one side of stages.

    Args:
        python: its interpreter.
        module: of the stages.
        name: of the side.
        quick: small sizes.
        environment: variables beside the caller's.
        limit: seconds that one request may take; a process that takes longer is ended.
        log: file that gets what libraries print.
    """

    def __init__(
        self,
        python: str,
        module: str,
        name: str,
        *,
        quick: bool,
        environment: dict[str, str],
        limit: float = 900.0,
        log: Path | None = None,
    ):
        self.name, self._limit, self._rest = name, limit, b""
        command = [python, "-P", "-m", "benchmarks.worker", module, name, *(["--quick"] if quick else [])]
        with (log or Path(os.devnull)).open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            SideError: it failed, the process ended, or it took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
            self._process.stdin.flush()
            reply = json.loads(self._line())
        except BrokenPipeError:
            raise SideError(f"the process of {self.name} ended with {self._process.wait()}") from None
        if "error" in reply:
            raise SideError(reply["error"])
        return reply

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], self._limit)
            if not ready:
                self._process.kill()
                raise SideError(f"{self.name} took longer than {self._limit:.0f} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise SideError(f"the process of {self.name} ended with {self._process.wait()}")
            self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def close(self) -> None:
        """End the process; its memory is free when this returns."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(60)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def has_reference(python: str) -> bool:
    """Whether an interpreter has torch and transformers."""
    if python == sys.executable:
        from importlib.util import find_spec

        return all(find_spec(name) for name in ("torch", "transformers"))
    probe = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('torch', 'transformers'))))"
    try:
        return not subprocess.run([python, "-c", probe], capture_output=True, timeout=60).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
