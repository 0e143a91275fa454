"""Programs that are interrupted at work, as a terminal interrupts them.

`python -m tests.reliability.interrupts` prints how long each took to end.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.reliability import media

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 1.0
_PATIENCE, _PRESSES, _TRIES = 20, 5, 3

WORK = {
    "encode": (
        "import omni; model = omni.load('demo'); model.encode('{folder}/0.png'); print('begun', flush=True)\n"
        "while True: model.encode(['{folder}/%d.png' % n for n in range(64)], batch_size=4)"
    ),
    "generate": (
        "import omni; model = omni.load('demo'); ask = [{{'role': 'user', 'content': 'Hi'}}]\n"
        "model.generate(ask, max_new_tokens=2, temperature=0); print('begun', flush=True)\n"
        "while True: model.generate(ask * 1, max_new_tokens=400, temperature=1.0, seed=0)"
    ),
    "load": "import omni; omni.load('demo'); print('begun', flush=True)\nwhile True: omni.load('demo')",
    "videos": (
        "from processors import VideoProcessor; read = VideoProcessor(); read('{folder}/a.mp4')\n"
        "print('begun', flush=True)\n"
        "while True: read('{folder}/a.mp4')"
    ),
}


class End(NamedTuple):
    """How a program ended.

    Attributes:
        status: its exit code.
        seconds: from the interrupt to its end.
        errors: what it wrote to stderr.
        left: processes that came of it and live.
    """

    status: int
    seconds: float
    errors: str
    left: list[int]


def make_media(folder: Path) -> None:
    """Writes what the programs of `WORK` read."""
    for number in range(64):
        media.picture(700, 700, seed=number % 4).save(folder / f"{number}.png")
    (folder / "a.mp4").write_bytes(media.clip(60, side=256))


def interrupt(command: list[str], scratch: Path) -> End:
    """Starts a program, and interrupts it half a second after it says that it has begun."""
    environment = {**os.environ, "TMPDIR": str(scratch), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout and process.stderr
    try:
        for line in process.stdout:
            if "begun" in line:
                break
        time.sleep(0.5)
        presses = 0
        while presses < _PRESSES:
            presses += 1
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=_PATIENCE)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            raise TimeoutError(f"lives after {_PRESSES} interrupts")
        seconds = time.monotonic() - began
        # An interrupt that comes while Python collects garbage is raised in JAX's callback, where Python drops it and
        # says so. It is the only one that may have no effect; as at a terminal, one presses again.
        assert presses - 1 <= errors.count("Exception ignored in: <function _xla_gc_callback"), errors[-1500:]
        return End(process.returncode, seconds, errors, children(process.pid))
    finally:
        for one in children(process.pid):
            os.kill(one, signal.SIGKILL)
        process.stdout.close()
        process.stderr.close()


def children(process: int) -> list[int]:
    """Processes that came of one, and live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == process and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def main() -> int:
    """Interrupts each kind of work, and prints the least seconds of three as JSON: what is slow is slow each time."""
    # A shell ignores Ctrl-C for what it runs in the background, and so would the programs that are interrupted.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
        make_media(Path(folder))
        for name, code in WORK.items():
            command = [sys.executable, "-c", code.format(folder=folder)]
            seconds[name] = min(interrupt(command, Path(scratch)).seconds for _ in range(_TRIES))
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
