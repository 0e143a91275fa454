"""Writes text_names.json: every tensor of the real hybrid decoders of text_configs.json, by name pattern and shape.

    python -m tests.golden.make_text_names

Needs the `reference` extra. The models are built on the meta device. Qwen3-Next's files hold experts one by one;
Qwen3.5's hold them in one tensor a layer.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

HERE = Path(__file__).parent


def on_disk(name: str, shape: list[int], model_type: str) -> Iterator[tuple[str, list[int]]]:
    if model_type != "qwen3_next":
        yield name, shape
    elif name.endswith("experts.gate_up_proj"):
        for e in range(shape[0]):
            for part in ("gate_proj", "up_proj"):
                yield name.replace("gate_up_proj", f"{e}.{part}.weight"), [shape[1] // 2, shape[2]]
    elif name.endswith("experts.down_proj"):
        for e in range(shape[0]):
            yield name.replace("down_proj", f"{e}.down_proj.weight"), shape[1:]
    else:
        yield name, shape


def main() -> None:
    found: dict[str, dict[str, dict]] = {}
    for published, raw in json.loads((HERE / "text_configs.json").read_text()).items():
        with torch.device("meta"):
            kind = AutoModelForImageTextToText if "vision_config" in raw else AutoModelForCausalLM
            model = kind.from_config(AutoConfig.for_model(**raw))
        names = found[published] = {}
        for name, tensor in model.state_dict().items():
            for held, shape in on_disk(name, list(tensor.shape), raw["model_type"]):
                numbers = iter(range(9))
                pattern = re.sub(r"(?<=\.)\d+(?=\.)", lambda _, n=numbers: f"{{{next(n)}}}", held)
                entry = names.setdefault(pattern, {"shape": shape, "count": 0})
                assert entry["shape"] == shape, held
                entry["count"] += 1
        print(published, sum(entry["count"] for entry in names.values()), "tensors,", len(names), "patterns")
    (HERE / "text_names.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
