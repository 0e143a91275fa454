"""Loading a checkpoint: seconds, bytes a second and peak memory, beside transformers in the same run.

    python -m benchmarks.loading [--reference PYTHON] [--layers 28] [--folder DIR] [--quantize int8]

Writes a dense decoder in bfloat16, of 4 GB unless told otherwise, into a folder that is removed at the end, and loads
it in processes of their own, in turn and twice each: once with the file outside the system's cache, and once within it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import checkpoints

ROOT = Path(__file__).parents[1]
_CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "attention_bias": False,
    "tie_word_embeddings": True,
}
_MEASURE = """
import json, sys, time
from pathlib import Path

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

def measure(load):
    before, start = memory("VmRSS"), time.perf_counter()
    held = load()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": memory("VmHWM") - before, "after": memory("VmRSS") - before}))
"""
_OURS = """
import jax, omni
jax.device_put(0)
# What a load imports and traces is no part of what it takes for a tensor.
omni.load("demo", parts="text")

def load():
    model = omni.load(sys.argv[1], quantize=sys.argv[2] or None)
    return model, jax.block_until_ready(jax.tree.leaves(model.engine._weights.read()[1]))

measure(load)
"""
_THEIRS = """
import torch, transformers
from transformers import AutoModelForCausalLM
from transformers.models.qwen3 import modeling_qwen3

def load():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
    # Its weights are the mapped file's pages, of which none is read before it is used.
    return model, [parameter.detach().reshape(-1)[::1024].sum().item() for parameter in model.parameters()]

measure(load)
"""


def load(python: str, code: str, directory: Path, quantize: str, cached: bool) -> dict[str, float]:
    """What a process of its own measures."""
    with (directory / "model.safetensors").open("rb") as file:
        os.fsync(file.fileno())
        if cached:
            while file.read(1 << 26):
                pass
        else:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [python, "-c", _MEASURE + code, str(directory), quantize]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--reference", help="a Python with torch and transformers; without one ours is loaded alone")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written; the system's own when not given")
    parser.add_argument("--quantize", default="", choices=["", "int8"], help="of ours")
    options = parser.parse_args()
    sides = [("ours", sys.executable, _OURS)]
    if options.reference:
        sides.append(("transformers", options.reference, _THEIRS))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        directory = Path(name)
        checkpoints.write(directory, {**_CONFIG, "num_hidden_layers": options.layers}, "bfloat16")
        size = (directory / "model.safetensors").stat().st_size
        print(f"{size / 1e9:.2f} GB of bfloat16\n")
        print("| Side | File | Seconds | GB/s | Peak, x the file | Afterwards |\n|---|---|---|---|---|---|")
        for cached in (False, True):
            for side, python, code in sides:
                found = load(python, code, directory, options.quantize if side == "ours" else "", cached)
                where = "in the cache" if cached else "on disk"
                figures = f"{found['seconds']:.1f} | {size / 1e9 / found['seconds']:.2f}"
                print(f"| {side} | {where} | {figures} | {found['peak'] / size:.2f} | {found['after'] / size:.2f} |")


if __name__ == "__main__":
    main()
