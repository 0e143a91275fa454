"""Adapters of PEFT for the small checkpoints: what they adapt, and directories of them as PEFT writes them. NumPy only.

Names, shapes and settings are PEFT's own, kept in data/adapters.json; values are drawn by name.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import text_families, tiny, vl
from tests.golden.tiny import HERE, draw, write_safetensors

_TEXT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_OMNI = [
    *("q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "fc1", "fc2", "proj1", "proj2", "conv_out"),
    *("qkv", "proj", "linear_fc1", "linear_fc2", "mlp.0", "mlp.2"),
]
_EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@dataclass(frozen=True)
class Case:
    """A checkpoint, and the arguments of a `LoraConfig` for each of its adapters."""

    checkpoint: str
    adapters: tuple[dict[str, Any], ...]


CASES: dict[str, Case] = {
    # Everything that changes a scale, and a module brought whole.
    "patterns": Case(
        "qwen3",
        (
            {
                "target_modules": _TEXT,
                "r": 4,
                "lora_alpha": 6,
                "use_rslora": True,
                "rank_pattern": {"layers.1.self_attn.q_proj": 2, r".*\.[02]\.mlp.up_proj": 3},
                "alpha_pattern": {"self_attn.v_proj": 9, r"layers.\d.mlp.up_proj": 2.5},
                "modules_to_save": ["lm_head"],
            },
        ),
    ),
    "several": Case(
        "qwen3",
        (
            {"target_modules": ["embed_tokens", "v_proj"], "r": 3, "lora_alpha": 8},
            {"target_modules": r".*layers\.[01]\.mlp\.(up|down)_proj", "r": 2, "lora_alpha": 3},
            {"target_modules": "all-linear", "r": 1, "lora_alpha": 1, "exclude_modules": ["k_proj"]},
        ),
    ),
    "experts": Case(
        "qwen3_moe",
        ({"target_modules": ["q_proj"], "target_parameters": [*_EXPERTS, "mlp.gate.weight"], "r": 2, "lora_alpha": 5},),
    ),
    "one_of_the_experts": Case(
        "qwen3_moe", ({"target_modules": [], "target_parameters": ["experts.down_proj"], "r": 3, "lora_alpha": 5},)
    ),
    "next": Case(
        "qwen3_next", ({"target_modules": ["in_proj_qkvz", "in_proj_ba", "out_proj", "shared_expert_gate"], "r": 2},)
    ),
    "qwen3_5": Case("qwen3_5_text", ({"target_modules": "all-linear", "r": 2, "lora_alpha": 7},)),
    "omni": Case("omni", ({"target_modules": _OMNI, "target_parameters": _EXPERTS, "r": 2, "lora_alpha": 5},)),
    "vl": Case(
        "vl",
        (
            {
                "target_modules": r"model\.language_model\..*\.(q_proj|down_proj)|.*visual\..*(qkv|pos_embed|\.proj)",
                "modules_to_save": ["merger"],
                "r": 3,
                "lora_alpha": 4,
            },
        ),
    ),
    "vl_moe": Case("vl_moe", ({"target_modules": ["o_proj"], "target_parameters": _EXPERTS, "r": 2, "lora_alpha": 5},)),
}


def write_checkpoint(directory: Path, name: str) -> Path:
    """Writes the checkpoint of a case."""
    if name == "omni":
        return tiny.write_checkpoint(directory, prefix="", shards=1)
    if name in vl.NAMES:
        return vl.write_checkpoint(directory, name)
    return text_families.write_checkpoint(directory, name)


def values(case: str, number: int, shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of an adapter, float32: large enough that every one of them shows."""
    found = {}
    for name, shape in shapes.items():
        deviation = 1 / math.sqrt(shape[-1]) if ".lora_A." in name or "lora" not in name else 0.3
        mean = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
        found[name] = draw(f"{case}/{number}/{name}", tuple(shape), mean, deviation)
    return found


def recorded() -> dict[str, Any]:
    """What PEFT wrote: case -> for each adapter its settings, and the shapes of its tensors by name."""
    return json.loads((HERE / "data" / "adapters.json").read_text("utf-8"))


def write_adapters(directory: Path, case: str) -> list[Path]:
    """Writes the adapters of a case, each into a directory of its own."""
    found = []
    for i, adapter in enumerate(recorded()[case]):
        place = directory / str(i)
        place.mkdir(parents=True, exist_ok=True)
        (place / "adapter_config.json").write_text(json.dumps(adapter["config"], indent=2), "utf-8")
        write_safetensors(place / "adapter_model.safetensors", values(case, i, adapter["tensors"]))
        found.append(place)
    return found


def sketch(name: str, tensor: np.ndarray) -> np.ndarray:
    """Four numbers that tell of a tensor: sums of its values under signs that are drawn by its name."""
    signs = np.random.RandomState(zlib.crc32(name.encode())).randint(0, 2, (4, tensor.size)) * 2 - 1
    return signs @ tensor.reshape(-1).astype(np.float64) / math.sqrt(tensor.size)
