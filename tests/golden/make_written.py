"""Writes written/: checkpoints by `Model.save`, training states in mid-run, an embedding; and their numbers.

    python -m tests.golden.make_written

What is there was written by the release that test_written.py names, and later ones must load it: to run this again is
to give that up. The models are those of tiny.py and vl.py, smaller yet.
"""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

import omni
from tests.golden import tiny, vl, written
from tests.golden.written import EMBEDDING, EXPECTED, RUNS, STEPS, WRITTEN

WIDTH, PATCH = 8, 8
ROLES = ("system", "user", "assistant")
VISION = {
    "depth": 2,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": PATCH,
    "out_hidden_size": WIDTH,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}
AUDIO = {
    "num_hidden_layers": 2,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "d_model": WIDTH,
    "output_dim": WIDTH,
    "downsample_hidden_size": 4,
}
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
EXPERTS = {"moe_intermediate_size": 8, "num_experts": 4}
HYBRID = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
    "mtp_num_hidden_layers": 0,
}
IN_FLOAT32 = ("A_log", "linear_attn.norm.weight")


def write_tokenizer(path: Path) -> int:
    """The golden tokenizer, of its merges those of the roles alone; returns how many tokens it has, rounded up."""
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    joined = {"".join(pair): pair for pair in spec["model"]["merges"]}
    kept = {token: pair for token, pair in joined.items() if any(token in role for role in ROLES)}
    base = [token for token in spec["model"]["vocab"] if token not in joined or token in kept]
    spec["model"] |= {"vocab": {token: i for i, token in enumerate(base)}, "merges": list(kept.values())}
    for i, token in enumerate(spec["added_tokens"], start=len(base)):
        token["id"] = i
    path.write_text(json.dumps(spec, ensure_ascii=False), "utf-8")
    return -(-(len(base) + len(spec["added_tokens"])) // 32) * 32


def set_patch_size(directory: Path) -> None:
    for path in directory.glob("*preprocessor_config.json"):
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"patch_size": PATCH}, indent=2) + "\n")


def write_omni(directory: Path) -> None:
    tiny.write_checkpoint(directory, dtype="bfloat16", tokenizer_json=False)
    set_patch_size(directory)


def write_hybrid(directory: Path) -> None:
    vl.write_checkpoint(directory, "qwen3_5")
    set_patch_size(directory)
    values = {
        name: value if name.endswith(IN_FLOAT32) else value.astype(ml_dtypes.bfloat16)
        for name, value in vl.tensors("qwen3_5").items()
    }
    save_file(values, directory / "model.safetensors", {"format": "pt"})


def save_checkpoints(folder: Path) -> None:
    vocabulary = write_tokenizer(folder / "tokenizer.json")
    rope = {**tiny.TEXT["rope_scaling"], "mrope_section": [2, 1, 1]}
    text = TEXT | {"vocab_size": vocabulary}
    sizes: dict[str, Any] = {
        "VISION": tiny.VISION | VISION | {"spatial_patch_size": PATCH},
        "AUDIO": tiny.AUDIO | AUDIO,
        "TEXT": tiny.TEXT | text | EXPERTS | {"rope_scaling": rope},
        "VOCABULARY": vocabulary,
        "TOKENIZER": folder / "tokenizer.json",
    }
    small = {
        "VISION": vl.VISION | VISION | {"deepstack_visual_indexes": []},
        "TEXT": {"qwen3_5": vl.TEXT["qwen3_5"] | text | HYBRID},
        "TOKENIZER": folder / "tokenizer.json",
    }
    with patch.multiple(tiny, **sizes), patch.multiple(vl, **small):
        write_omni(folder / "omni")
        write_hybrid(folder / "hybrid")
    omni.load(folder / "omni").save(WRITTEN / "omni", max_shard_size="20KB")
    omni.load(folder / "hybrid").save(WRITTEN / "hybrid")


def main() -> None:
    shutil.rmtree(WRITTEN, ignore_errors=True)
    numbers: dict[str, Any] = {"about": np.array(f"omni {version('omni-jax')}, jax {version('jax')}")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoints(folder)
        for checkpoint in written.CHECKPOINTS:
            numbers[f"{checkpoint}/logits"] = written.logits(written.load(checkpoint), checkpoint)
        written.load("omni").encode(written.video()).save(EMBEDDING)
        for run in RUNS:
            _, steps = written.train(run, WRITTEN / run)
            # Metrics come a step late, and so the state of the step before the last is on disk when those of it come.
            losses = [next(steps).loss for _ in range(STEPS - 1)]
            steps.close()
            numbers |= {f"{run}/{key}": value for key, value in written.resume(run, folder / run).items()}
            print(f"{run}: losses {losses}, then {numbers[f'{run}/loss']}")
    np.savez_compressed(EXPECTED, **numbers)
    files = [path for path in WRITTEN.rglob("*") if path.is_file()]
    print(len(files), "files,", f"{sum(path.stat().st_size for path in files):,} bytes")


if __name__ == "__main__":
    main()
