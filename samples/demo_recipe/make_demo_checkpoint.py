"""Writes the checkpoint that train_demo.py begins with: every part of Qwen3-Omni's thinker, small, untrained.

    python -m samples.demo_recipe.make_demo_checkpoint DATA DIRECTORY

DATA is what make_demo_data.py made: the tokenizer learns its words. The files are laid out as a hub holds a thinker
alone. Until `omni_demo.trained` in config.json is true, the library warns that answers mean nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.golden import make_tokenizer, tiny

# 3.8 million parameters. 256 positions are a grid of 16 x 16 patches.
VISION = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "depth": 5,
    "out_hidden_size": 128,
    "num_position_embeddings": 256,
    "deepstack_visual_indexes": [1, 3],
    "image_size": 256,
}
AUDIO = {
    "d_model": 128,
    "encoder_ffn_dim": 384,
    "encoder_layers": 4,
    "num_hidden_layers": 4,
    "downsample_hidden_size": 32,
    "output_dim": 128,
}
TEXT = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 8192,
    "output_router_logits": True,
    "router_aux_loss_coef": 0.01,
}
# What it knows is seen at this size as well, and quickly; the released models go up to 12,845,056 pixels.
LIMITS = {"min_pixels": 96 * 96, "max_pixels": 128 * 128}


def texts(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").splitlines():
        for message in json.loads(line)["messages"]:
            content = message["content"]
            yield message["role"]
            yield content if isinstance(content, str) else content[-1]["text"]


def merge_json(path: Path, changes: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes, indent=2, ensure_ascii=False) + "\n")


def main(data: Path, directory: Path) -> None:
    for table, sizes in ((tiny.VISION, VISION), (tiny.AUDIO, AUDIO), (tiny.TEXT, TEXT)):
        table.update(sizes)
    with tempfile.TemporaryDirectory() as folder:
        tiny.TOKENIZER = Path(folder) / "tokenizer.json"
        words = [*make_tokenizer.TEXT.split("\n\n"), *texts(data / "train.jsonl")]
        make_tokenizer.trained(words).save(str(tiny.TOKENIZER), pretty=False)
        tiny.write_checkpoint(directory, prefix="", shards=1, dtype="bfloat16")
    for name in ("vocab.json", "merges.txt"):
        (directory / name).unlink()  # tokenizer.json holds both
    merge_json(directory / "config.json", {"omni_demo": {"trained": False}})
    merge_json(directory / "preprocessor_config.json", LIMITS)
    # Clips have limits of their own, and those of a file of stills do not bind them.
    video = {"video_processor_type": "Qwen2VLVideoProcessor", "patch_size": 16, "temporal_patch_size": 2}
    video |= {"merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **LIMITS}
    (directory / "video_preprocessor_config.json").write_text(json.dumps(video, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    main(options.data, options.directory)
