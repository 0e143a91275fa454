"""Writes vl_names.json: the sizes of every published Qwen3-VL, and its tensors by name pattern, count and shape.

    python -m tests.golden.make_vl_names

Needs the `reference` extra. Models are built on the meta device. The published MoE files hold a layer's experts in one
tensor [experts, in, out], while the reference keeps, and saves, [experts, out, in].
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

HERE = Path(__file__).parent
SMALL = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
LARGE = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
# Width, hidden width of a dense layer, layers, heads, key-value heads; hidden width of an expert; tied; vision.
MODELS: dict[str, tuple[int, int, int, int, int, int | None, bool, dict[str, Any]]] = {
    "Qwen3-VL-2B": (2048, 6144, 28, 16, 8, None, True, SMALL),
    "Qwen3-VL-4B": (2560, 9728, 36, 32, 8, None, True, SMALL),
    "Qwen3-VL-8B": (4096, 12288, 36, 32, 8, None, False, LARGE),
    "Qwen3-VL-32B": (5120, 25600, 64, 64, 8, None, False, LARGE),
    "Qwen3-VL-30B-A3B": (2048, 6144, 48, 32, 4, 768, False, LARGE),
    "Qwen3-VL-235B-A22B": (4096, 12288, 94, 64, 4, 1536, False, LARGE),
}


def config(name: str) -> dict[str, Any]:
    """What of config.json decides names and shapes."""
    width, hidden, layers, heads, kv_heads, expert, tied, vision = MODELS[name]
    text = {
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_theta": 5000000,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "tie_word_embeddings": tied,
    }
    if expert is not None:
        text |= {"moe_intermediate_size": expert, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True}
    return {
        "model_type": "qwen3_vl" if expert is None else "qwen3_vl_moe",
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": tied,
        "text_config": text,
        "vision_config": {**vision, "num_heads": 16, "out_hidden_size": width},
    }


def tensors(raw: dict[str, Any]) -> dict[str, list[Any]]:
    """Pattern -> count and shape."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**raw))
    found: dict[str, list[Any]] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and raw["tie_word_embeddings"]:
            continue
        shape = list(tensor.transpose(1, 2).shape if ".mlp.experts." in name else tensor.shape)
        entry = found.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "{0}", name), [0, shape])
        assert entry[1] == shape, name
        entry[0] += 1
    return found


def main() -> None:
    lines = []
    for name in MODELS:
        raw = config(name)
        found = tensors(raw)
        rows = ",\n".join(f" {json.dumps(pattern)}: {json.dumps(entry)}" for pattern, entry in sorted(found.items()))
        lines.append(f'{json.dumps(name)}: {{"config": {json.dumps(raw)},\n"tensors": {{\n{rows}\n}}}}')
        print(name, sum(count for count, _ in found.values()), "tensors,", len(found), "patterns")
    (HERE / "vl_names.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
