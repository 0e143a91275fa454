"""Qwen3.5, dense and MoE: Qwen3-Next's layers with separate projections and three-axis positions; the text decoder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.families.family import Family
from omni.families.sources import sources

# What the reference's text configs take for fields that a config.json leaves out.
_DEFAULTS: Mapping[str, Any] = {
    "head_dim": 256,
    "full_attention_interval": 4,
    "attn_output_gate": True,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000,
}
_DENSE: Mapping[str, Any] = {"num_experts": 0, "intermediate_size": 12288}
_MOE: Mapping[str, Any] = {
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}
_SECTION = (11, 11, 10)


def read_text(raw: Mapping[str, Any]) -> TextConfig:
    """The text config of either kind, whole or within a multimodal one."""
    if not raw.get("norm_topk_prob", True):
        raise ValueError("norm_topk_prob=False is not supported: the router of Qwen3.5 always normalises")
    defaults = {**_DEFAULTS, **(_MOE if "moe" in raw["model_type"] else _DENSE)}
    text = TextConfig.from_dict({**defaults, **{name: value for name, value in raw.items() if value is not None}})
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    section = text.mrope_section if rope.get("mrope_section") else _SECTION
    return replace(text, mrope_section=section, zero_centered_norms=True)


def _read(raw: Mapping[str, Any]) -> ModelConfig:
    inner = raw.get("text_config") or raw
    text = read_text({"tie_word_embeddings": raw.get("tie_word_embeddings", False), **inner})
    dtypes = (part.get(name) for part in (raw, inner) for name in ("dtype", "torch_dtype"))
    return ModelConfig(None, None, text, None, 1.0, next(filter(None, dtypes), None))


QWEN3_5 = Family(
    name="Qwen3.5",
    model_types=("qwen3_5_text", "qwen3_5_moe_text"),
    read=_read,
    sources=sources,
    prefixes={"model.language_model.": "model."},
    # Heads that guess several tokens ahead, and the tower that a decoder alone leaves out.
    skipped=("mtp.", "model.visual."),
    template="omni.jinja",
)
