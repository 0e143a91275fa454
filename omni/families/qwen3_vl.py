"""Qwen3-VL, dense and MoE, VL-Embedding and VL-Reranker: images and videos, their frames stamped with times."""

from collections.abc import Mapping
from typing import Any

from encoders.config import VisionConfig
from omni.config import ModelConfig, RelevanceForm, SpecialTokens
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError
from omni.families.family import Family, Source
from omni.families.qwen3 import JUDGE
from omni.families.tensor_names import EXPERTS, ONE_BY_ONE, VL_MERGERS, text_sources, vision_sources

# What the reference takes for a field that a file leaves out, where other families take something else.
_VISION = {"out_hidden_size": 3584}
_TEXT = {"rope_theta": 500_000.0, "max_position_embeddings": 128_000}
_DENSE = {**_TEXT, "intermediate_size": 22_016, "num_experts": 0}
_MOE = {
    **_TEXT,
    "intermediate_size": 5632,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 1408,
}
TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
# All experts of a layer in one tensor, [experts, in, out] as published; transformers 5 saves [experts, out, in]. Those
# who quantise a model take experts apart.
_FUSED = {
    name: Source(f"{EXPERTS}.{name}", stacked=1, transposed=True, otherwise=ONE_BY_ONE[name])
    for name in ("gate_up_proj", "down_proj")
}


def _read_vl(raw: Mapping[str, Any]) -> ModelConfig:
    missing = [key for key in ("vision_config", "text_config") if not isinstance(raw.get(key), Mapping)]
    if missing:
        message = f"config.json of a Qwen3-VL checkpoint lacks {', '.join(missing)}"
        raise CheckpointError(message, code="bad_config")
    text = dict(raw["text_config"])
    # The reference obeys the outer one; older files have the inner one alone.
    text["tie_word_embeddings"] = raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    sparse = raw["model_type"] == "qwen3_vl_moe"
    if sparse:
        if "num_experts" not in text:
            text["num_experts"] = text.pop("num_local_experts", 60)
        if text.get("norm_topk_prob") is False:
            raise ValueError("norm_topk_prob is False; this family's router always makes the chosen weights sum to 1")
    return ModelConfig(
        vision=VisionConfig.from_dict({**_VISION, **raw["vision_config"]}),
        audio=None,
        text=TextConfig.from_dict({**(_MOE if sparse else _DENSE), **text}),
        tokens=SpecialTokens.from_dict(raw, TOKENS),
        position_id_per_seconds=1.0,
        dtype=raw.get("dtype") or raw.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype"),
    )


def _sources(config: ModelConfig) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if config.vision is not None:
        found |= vision_sources(config.vision, VL_MERGERS)
    if config.text is not None:
        found |= text_sources(config.text, _FUSED)
    return found


QWEN3_VL = Family(
    name="Qwen3-VL",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    read=_read_vl,
    sources=_sources,
    # Published files nest both parts under `model.`; a model saved without its head has no outer prefix.
    prefixes={"model.visual.": "visual.", "model.language_model.": "model.", "language_model.": "model."},
    skipped=(),
    template="vl.jinja",
    layout="timestamps",
    relevance=RelevanceForm(
        system=JUDGE,
        instruction="Given a search query, retrieve relevant candidates that answer the query.",
        # As published: nothing between the instruction and the query.
        before=("<Instruct>: ", "<Query>:", "\n<Document>:"),
        template="vl.jinja",
        nothing="NULL",
    ),
)
