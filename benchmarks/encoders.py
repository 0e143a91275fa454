"""The full-size encoders beside the reference: a 768 x 768 picture and 30 s of sound on the CPU.

    python -m benchmarks.encoders [--reference-python PYTHON] [--dtype float32] [--repeats 3]

Random weights of the released Qwen3-Omni-30B-A3B sizes are written once as a checkpoint; both sides read them, each in
a process of its own with two threads. Prints medians, the time of the first call in a first and in a second process
(compilation, and the compiled programs found on disk), peak memory, and how far the embeddings are apart. The reference
(torch, transformers) may live in another interpreter; without one, only ours is run.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONFIG = Path(__file__).parents[1] / "tests" / "golden" / "omni_30b_config.json"
NAMES = CONFIG.with_name("names.json")
SIDE, SECONDS = 768, 30


def write_weights(directory: Path) -> None:
    """A checkpoint directory that holds the towers alone, in float32."""
    rng = np.random.Generator(np.random.PCG64(0))
    header: dict[str, Any] = {}
    at = 0
    for pattern, entry in json.loads(NAMES.read_text()).items():
        if ".visual." in pattern or ".audio_tower." in pattern:
            for i in range(entry["count"]):
                size = 4 * int(np.prod(entry["shape"]))
                header[pattern.format(i)] = {"dtype": "F32", "shape": entry["shape"], "data_offsets": [at, at + size]}
                at += size
    text = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, entry in header.items():
            shape = entry["shape"]
            norm = "norm" in name or "ln_" in name
            scale = 0.2 if norm else (3 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
            values = (rng.random(int(np.prod(shape)), np.float32) - 0.5) * np.float32(2 * scale)
            file.write((values + (1 if norm and name.endswith("weight") else 0)).astype(np.float32).tobytes())
    (directory / "config.json").write_text(CONFIG.read_text())
    (directory / "preprocessor_config.json").write_text("{}")


def media() -> tuple[np.ndarray, np.ndarray]:
    """Patches as pixel_values and a mel, the same for both sides."""
    rng = np.random.RandomState(0)
    patches = (SIDE // 16) ** 2
    levels = rng.randint(0, 256, (patches, 3, 1, 256)).repeat(2, axis=2).reshape(patches, -1)
    return (levels / 127.5 - 1).astype(np.float32), rng.normal(0, 0.5, (128, 100 * SECONDS)).astype(np.float32)


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Seconds of the first call, median of the others, and the result."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:]), result


def run_ours(directory: Path, dtype: str, repeats: int) -> dict[str, Any]:
    import omni

    model = omni.load(directory, parts=("vision", "audio"), dtype=dtype)
    pixels, mel = media()
    grid = np.asarray([[1, SIDE // 16, SIDE // 16]], np.int32)
    vision, hearing = model.media.vision, model.media.hearing
    assert vision is not None and hearing is not None
    return {
        "vision": timed(lambda: vision.encode(pixels, grid)[0].tokens, repeats),
        "audio": timed(lambda: hearing.encode([mel])[0], repeats),
    }


def run_reference(directory: Path, dtype: str, repeats: int) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen3OmniMoeThinkerConfig
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as reference

    torch.set_num_threads(2)
    config = Qwen3OmniMoeThinkerConfig(**json.loads((directory / "config.json").read_text())["thinker_config"])
    weights = load_file(directory / "model.safetensors")

    def tower(kind: Any, settings: Any, prefix: str) -> Any:
        built = kind._from_config(settings, attn_implementation="sdpa", dtype=getattr(torch, dtype))
        built.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
        return built.eval()

    visual = tower(reference.Qwen3OmniMoeVisionEncoder, config.vision_config, "thinker.visual.")
    hearing = tower(reference.Qwen3OmniMoeAudioEncoder, config.audio_config, "thinker.audio_tower.")
    del weights
    pixels, mel = (torch.from_numpy(a).to(getattr(torch, dtype)) for a in media())
    grid, length = torch.tensor([[1, SIDE // 16, SIDE // 16]]), torch.tensor([mel.shape[1]])
    with torch.inference_mode():
        seen = timed(lambda: visual(pixels, grid_thw=grid).pooler_output.float().numpy(), repeats)
        heard = timed(lambda: hearing(mel, feature_lens=length).last_hidden_state.float().numpy(), repeats)
    return {"vision": seen, "audio": heard}


def child(args: argparse.Namespace) -> None:
    run = run_ours if args.run == "ours" else run_reference
    found = run(args.directory, args.dtype, args.repeats)
    np.savez(args.out, **{name: result for name, (_, _, result) in found.items()})
    times = {name: (first, median) for name, (first, median, _) in found.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**times, "peak_gib": peak}))


def start(python: str, which: str, directory: Path, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    out = directory / f"{which}.npz"
    # -P: without it, this very file would be imported in place of the package `encoders`.
    command = [python, "-P", __file__, "--run", which, "--directory", str(directory), "--out", str(out)]
    command += ["--dtype", args.dtype, "--repeats", str(args.repeats)]
    env = os.environ | {"NPROC": "2", "OMP_NUM_THREADS": "2", "JAX_COMPILATION_CACHE_DIR": str(directory / "compiled")}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]), dict(np.load(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", default=sys.executable)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        child(args)
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_weights(directory)
        first, ours = start(sys.executable, "ours", directory, args)
        second, _ = start(sys.executable, "ours", directory, args)
        probe = [args.reference_python, "-c", "import torch, transformers"]
        have_reference = subprocess.run(probe, capture_output=True).returncode == 0
        theirs_times, theirs = (
            start(args.reference_python, "reference", directory, args) if have_reference else ({}, {})
        )
    print(f"{args.dtype}, 2 threads; seconds")
    print("tower    ours   reference   ratio   first call   in a second process   relative L2")
    for tower in ("vision", "audio"):
        mine, compiling, again = (
            second[tower][1],
            first[tower][0] - first[tower][1],
            second[tower][0] - second[tower][1],
        )
        line = f"{tower:7} {mine:5.2f}"
        if have_reference:
            line += f"   {theirs_times[tower][1]:9.2f}   {theirs_times[tower][1] / mine:5.2f}"
        else:
            line += "   not here        "
        line += f"   {compiling:+9.2f}   {again:+19.2f}"
        if have_reference:
            error = np.linalg.norm(ours[tower] - theirs[tower]) / np.linalg.norm(theirs[tower])
            line += f"   {error:11.1e}"
        print(line)
    print(f"peak memory, both towers: {second['peak_gib']:.1f} GiB", end="")
    print(f", reference {theirs_times['peak_gib']:.1f} GiB" if have_reference else "; no reference in this interpreter")


if __name__ == "__main__":
    main()
