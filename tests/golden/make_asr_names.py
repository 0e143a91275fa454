"""Writes asr_names.json: every tensor of the real Qwen3-ASR models, by name pattern and shape, in both namings.

    python -m tests.golden.make_asr_names

Needs the `reference` extra. The models are built on the meta device; the first release's names are those that its
conversion to transformers' form starts from, with the output head that its files hold beside the tied embedding.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration

from tests.golden.asr import RENAMED, real_config

HERE = Path(__file__).parent


def main() -> None:
    found: dict[str, dict[str, Any]] = {}
    for size in ("0.6B", "1.7B"):
        with torch.device("meta"):
            model = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**real_config(size, "hf")))
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        found[f"{size} thinker"] = collapse({first_name(name): shape for name, shape in shapes.items()})
        # Saved tied: the output head is not written.
        del shapes["lm_head.weight"]
        found[f"{size} hf"] = collapse(shapes)
        print(size, len(shapes), "tensors,", len(found[f"{size} hf"]), "patterns")
    models = []
    for model, patterns in found.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(patterns.items()))
        models.append(f" {json.dumps(model)}: {{\n{lines}\n }}")
    (HERE / "asr_names.json").write_text("{\n" + ",\n".join(models) + "\n}\n")


def first_name(name: str) -> str:
    for old, new in RENAMED.items():
        if name.startswith(new):
            return "thinker." + old + name.removeprefix(new)
    return "thinker." + name


def collapse(shapes: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    patterns: dict[str, dict[str, Any]] = {}
    for name, shape in shapes.items():
        entry = patterns.setdefault(re.sub(r"\.\d+\.", ".{0}.", name), {"shape": shape, "count": 0})
        assert entry["shape"] == shape, name
        entry["count"] += 1
    return patterns


if __name__ == "__main__":
    main()
