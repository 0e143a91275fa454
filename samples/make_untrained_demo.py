"""Writes the checkpoint behind `omni.load("demo")`: every part of Qwen3-Omni's thinker, small, with random weights.

    python samples/make_untrained_demo.py [DIRECTORY]

The files are laid out as a hub holds a thinker alone, so trained weights of the same sizes can take the place of
model.safetensors: set `omni_demo.trained` in config.json to true then, and the library no longer warns.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))

import tiny  # noqa: E402

# 2.7 million parameters. 1024 positions are a grid of 32 x 32 patches, which is the largest still below.
VISION = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "depth": 5,
    "out_hidden_size": 128,
    "num_position_embeddings": 1024,
    "deepstack_visual_indexes": [1, 3],
    "image_size": 512,
}
AUDIO = {
    "d_model": 96,
    "encoder_ffn_dim": 256,
    "encoder_layers": 4,
    "num_hidden_layers": 4,
    "downsample_hidden_size": 32,
    "output_dim": 128,
}
TEXT = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 384, "max_position_embeddings": 8192}
# Small enough to answer at once on a CPU; the released models go up to 12,845,056 pixels.
LIMITS = {"min_pixels": 64 * 64, "max_pixels": 512 * 512}


def merge_json(path: Path, changes: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes, indent=2, ensure_ascii=False) + "\n")


def main(directory: Path) -> None:
    for table, sizes in ((tiny.VISION, VISION), (tiny.AUDIO, AUDIO), (tiny.TEXT, TEXT)):
        table.update(sizes)
    tiny.write_checkpoint(directory, prefix="", shards=1, dtype="bfloat16")
    for name in ("vocab.json", "merges.txt"):
        (directory / name).unlink()  # tokenizer.json holds both
    merge_json(directory / "config.json", {"omni_demo": {"trained": False}})
    merge_json(directory / "preprocessor_config.json", LIMITS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "omni" / "assets" / "demo")
