"""From the start of a process to its first embedding, and to its first token."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.images import picture
from benchmarks.stages.stage import Call, Stage, Timed

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def _prepare_vl(quick: bool, folder: Path) -> None:
    """Qwen3-VL-2B's shape with the small tokenizer of the tests, and a picture of 768 x 768."""
    from PIL import Image

    from benchmarks.checkpoints import VL, write
    from tests.golden import vl

    vl.write_checkpoint(folder, "vl")
    if not quick:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        sizes = json.loads((GOLDEN / "vl_names.json").read_text("utf-8"))["Qwen3-VL-2B"]["config"]
        for part in ("text_config", "vision_config"):
            config[part] |= sizes[part] | {"dtype": "bfloat16"}
        write(folder, config, "bfloat16", VL)
    side = 64 if quick else 768
    Image.fromarray(picture(side, side, 0)).save(folder / "image.png", compress_level=1)


def prepare_asr(quick: bool, folder: Path) -> None:
    """Qwen3-ASR-0.6B's shape with the small tokenizer of the tests."""
    from benchmarks.checkpoints import ASR, write
    from tests.golden import asr

    asr.write_checkpoint(folder, "hf")
    if not quick:
        token = json.loads((folder / "config.json").read_text("utf-8"))["audio_token_id"]
        write(folder, asr.real_config("0.6B", "hf") | {"audio_token_id": token}, "bfloat16", ASR)


def _side(side: str, kind: str, folder: Path) -> Call:
    def run(_: int) -> Timed:
        start = time.perf_counter()
        command = [sys.executable, "-P", "-m", "benchmarks.first", side, kind, str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            seconds = time.perf_counter() - start
            rest = process.stdout.readline()
        if process.returncode or not rest:
            raise RuntimeError(f"the process that was started ended with {process.returncode}")
        told: dict[str, Any] = json.loads(rest)
        return Timed(seconds, json.loads(first), told["loading"] + told["again"], told["peak"])

    return Call(run, lambda found: np.asarray(found, np.float32))


def stages(quick: bool) -> list[Stage]:
    """Two models, each to its first embedding and to its first token."""
    found = []
    dtype = "float32" if quick else "bfloat16"
    for model, files, prepare, kinds in (
        ("Qwen3-VL-2B", "vl", _prepare_vl, {"image": "first embedding", "reply": "first token"}),
        ("Qwen3-ASR-0.6B", "asr", prepare_asr, {"audio": "first embedding", "transcript": "first token"}),
    ):
        for kind, name in list(kinds.items())[: 1 if quick else 2]:
            found.append(
                Stage(
                    f"start, {model}, {name}, {dtype}",
                    "start",
                    dtype,
                    {side: partial(_side, side, kind) for side in ("ours", "reference")},
                    files,
                    partial(prepare, quick),
                    unit="starts",
                    rounds=(1, 1) if quick else (2, 3),
                    note="the floor is loading and a second run in the same process",
                )
            )
    return found
