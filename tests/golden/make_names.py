"""Writes names.json: every tensor of the real Qwen3-Omni-30B-A3B thinker, by name pattern and shape.

    python -m tests.golden.make_names

Needs the `reference` extra. The model is built on the meta device from the released configuration; experts are listed
one by one, as the published files hold them. Numbers in names are collapsed: `{0}`, `{1}` stand for the counted axes.
"""

import json
import re
from pathlib import Path

import torch
from transformers import Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration

HERE = Path(__file__).parent


def main() -> None:
    config = Qwen3OmniMoeThinkerConfig(**json.loads((HERE / "omni_30b_config.json").read_text())["thinker_config"])
    with torch.device("meta"):
        model = Qwen3OmniMoeThinkerForConditionalGeneration(config)
    experts = config.text_config.num_experts
    found: dict[str, dict] = {}

    def add(name: str, shape: list[int]) -> None:
        numbers = iter(range(9))
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", lambda m: f"{{{next(numbers)}}}", _keep_mlp(name))
        entry = found.setdefault(pattern.replace("#", ""), {"shape": shape, "count": 0})
        assert entry["shape"] == shape, name
        entry["count"] += 1

    for name, tensor in model.state_dict().items():
        name = "thinker." + name.replace("model.visual.", "visual.").replace("model.audio_tower.", "audio_tower.")
        name = name.replace("model.language_model.", "model.")
        shape = list(tensor.shape)
        if name.endswith("experts.gate_up_proj"):
            for e in range(experts):
                for part in ("gate_proj", "up_proj"):
                    add(name.replace("gate_up_proj", f"{e}.{part}.weight"), [shape[1] // 2, shape[2]])
        elif name.endswith("experts.down_proj"):
            for e in range(experts):
                add(name.replace("down_proj", f"{e}.down_proj.weight"), shape[1:])
        else:
            add(name, shape)
    (HERE / "names.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(sum(entry["count"] for entry in found.values()), "tensors,", len(found), "patterns")


def _keep_mlp(name: str) -> str:
    # The mergers' `mlp.0` and `mlp.2` are two different tensors, not a counted axis.
    return re.sub(r"\.mlp\.(\d)\.(weight|bias)$", r".mlp.#\1#.\2", name)


if __name__ == "__main__":
    main()
