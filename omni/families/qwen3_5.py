"""Qwen3.5, dense and MoE: Qwen3-VL's tower and layout before Qwen3-Next's layers; or the text decoder alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from encoders.config import VisionConfig
from omni.config import ModelConfig, SpecialTokens
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError
from omni.families.family import Family, Source
from omni.families.qwen3_vl import TOKENS
from omni.families.tensor_names import VL_MERGERS, text_sources, vision_sources

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
# The tower is Qwen3-VL's, and gives nothing to the decoder's first layers.
_VISION: Mapping[str, Any] = {"out_hidden_size": 3584, "deepstack_visual_indexes": ()}


def _read_text(raw: Mapping[str, Any], sparse: bool) -> TextConfig:
    if not raw.get("norm_topk_prob", True):
        raise ValueError("norm_topk_prob=False is not supported: the router of Qwen3.5 always normalises")
    defaults = {**_DEFAULTS, **(_MOE if sparse else _DENSE)}
    text = TextConfig.from_dict({**defaults, **{name: value for name, value in raw.items() if value is not None}})
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    section = text.mrope_section if rope.get("mrope_section") else _SECTION
    return replace(text, mrope_section=section, zero_centered_norms=True)


def _read(raw: Mapping[str, Any]) -> ModelConfig:
    alone = raw["model_type"].endswith("_text")
    missing = [key for key in ("vision_config", "text_config") if not isinstance(raw.get(key), Mapping)]
    if missing and not alone:
        message = f"config.json of a Qwen3.5 checkpoint lacks {', '.join(missing)}"
        raise CheckpointError(message, code="bad_config")
    inner = raw if alone else raw["text_config"]
    # The reference obeys the outer field; older files, and a decoder alone, have the inner one.
    tied = raw.get("tie_word_embeddings", inner.get("tie_word_embeddings", False))
    dtypes = (part.get(name) for part in (raw, inner) for name in ("dtype", "torch_dtype"))
    return ModelConfig(
        vision=None if alone else VisionConfig.from_dict({**_VISION, **raw["vision_config"]}),
        audio=None,
        text=_read_text({**inner, "tie_word_embeddings": tied}, "moe" in raw["model_type"]),
        tokens=None if alone else SpecialTokens.from_dict(raw, TOKENS),
        position_id_per_seconds=1.0,
        dtype=next(filter(None, dtypes), None),
    )


def _sources(config: ModelConfig) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if config.vision is not None:
        found |= vision_sources(config.vision, VL_MERGERS)
    if config.text is not None:
        found |= text_sources(config.text)
    return found


QWEN3_5 = Family(
    name="Qwen3.5",
    model_types=("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"),
    read=_read,
    sources=_sources,
    prefixes={"model.visual.": "visual.", "model.language_model.": "model.", "language_model.": "model."},
    # Heads that guess several tokens ahead.
    skipped=("mtp.",),
    template="vl.jinja",
    layout="timestamps",
)
