"""Qwen3, text alone: dense and MoE; and Qwen3-Reranker."""

from collections.abc import Mapping
from typing import Any

from omni.config import ModelConfig, RelevanceForm
from omni.decoder.config import TextConfig
from omni.families.family import Family
from omni.families.tensor_names import sources

# The system message that all of Qwen's rerankers are published with.
JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    'answer can only be "yes" or "no".'
)


def _read_text(raw: Mapping[str, Any]) -> ModelConfig:
    # A dense config says nothing of experts, and has none.
    text = TextConfig.from_dict({"num_experts": 0, **raw} if raw["model_type"] == "qwen3" else raw)
    return ModelConfig(None, None, text, None, 1.0, raw.get("dtype") or raw.get("torch_dtype"))


QWEN3 = Family(
    name="Qwen3",
    model_types=("qwen3", "qwen3_moe"),
    read=_read_text,
    sources=sources,
    prefixes={},
    skipped=(),
    template="omni.jinja",
    relevance=RelevanceForm(
        system=JUDGE,
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        before=("<Instruct>: ", "\n<Query>: ", "\n<Document>: "),
        template="omni.jinja",
        empty_thought=True,
    ),
)
