"""Qwen3-Next, text alone: linear layers and every fourth a full one, all with experts and a shared expert."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.families.family import Family
from omni.families.tensor_names import sources

# What the reference's `Qwen3NextConfig` takes for fields that a config.json leaves out.
DEFAULTS: Mapping[str, Any] = {
    "head_dim": 256,
    "intermediate_size": 5632,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "full_attention_interval": 4,
    "attn_output_gate": True,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000,
}


def _read_next(raw: Mapping[str, Any]) -> ModelConfig:
    text = TextConfig.from_dict({**DEFAULTS, **{name: value for name, value in raw.items() if value is not None}})
    text = replace(text, linear_projections="interleaved", zero_centered_norms=True)
    return ModelConfig(None, None, text, None, 1.0, raw.get("dtype") or raw.get("torch_dtype"))


QWEN3_NEXT = Family(
    name="Qwen3-Next",
    model_types=("qwen3_next",),
    read=_read_next,
    sources=sources,
    prefixes={},
    # Heads that guess several tokens ahead.
    skipped=("mtp.",),
    template="omni.jinja",
)
