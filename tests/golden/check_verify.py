"""Compares the small checkpoints with transformers by `omni verify`, in float32 and in bfloat16.

    python -m tests.golden.check_verify

Needs the `reference` extra; torchvision may be absent. It leaves with 1 where a checkpoint differs in float32.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.golden import asr, text_families, tiny, vl


def checkpoints(folder: Path) -> Iterator[tuple[str, Path]]:
    yield "omni", tiny.write_checkpoint(folder / "omni")
    for name in vl.NAMES:
        yield name, vl.write_checkpoint(folder / name, name)
    yield "asr", asr.write_checkpoint(folder / "asr", "hf")
    for name in text_families.CONFIGS:
        yield f"text {name}", text_families.write_checkpoint(folder / f"text_{name}", name)


def main() -> None:
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for name, directory in checkpoints(Path(folder)):
            for dtype in ("float32", "bfloat16"):
                command = [sys.executable, "-c", "from omni.cli import main; main()", "verify", str(directory)]
                command += ["--against", "transformers", "--dtype", dtype]
                done = subprocess.run(command, capture_output=True, text=True)
                print(f"{name}, {dtype}: {(done.stdout or done.stderr).strip().splitlines()[-1]}", flush=True)
                if done.returncode and dtype == "float32":
                    bad.append(name)
    sys.exit(f"differ: {', '.join(bad)}" if bad else 0)


if __name__ == "__main__":
    main()
