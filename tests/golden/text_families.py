"""Small random checkpoints of the families that only read text, named and configured as published. NumPy only."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tiny import draw, write_safetensors

VOCABULARY = 512
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "attention_bias": False,
    "intermediate_size": 160,
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 3,
}
_MOE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": _COMMON | {"model_type": "qwen3", "tie_word_embeddings": False},
    "qwen3_tied": _COMMON | {"model_type": "qwen3", "tie_word_embeddings": True},
    "qwen3_moe": _COMMON | _MOE | {"model_type": "qwen3_moe", "norm_topk_prob": True, "tie_word_embeddings": False},
    "qwen3_moe_unnormalised": _COMMON
    | _MOE
    | {"model_type": "qwen3_moe", "norm_topk_prob": False, "tie_word_embeddings": True},
}
LENGTHS = (1, 63, 64, 65, 200, 1025)


def token_ids(length: int) -> np.ndarray:
    """A prompt of that length; each is the beginning of the next."""
    return np.random.RandomState(0).randint(0, VOCABULARY, LENGTHS[-1])[:length]


def tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The checkpoint's tensors, float32."""
    width, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]

    def linear(name: str, out: int, into: int, gain: float = 1.0) -> tuple[str, np.ndarray]:
        return f"{name}.weight", draw(f"{name}.weight", (out, into), 0.0, gain / math.sqrt(into))

    def norm(name: str, size: int, mean: float = 1.0) -> tuple[str, np.ndarray]:
        return f"{name}.weight", draw(f"{name}.weight", (size,), mean, 0.25)

    def mlp(name: str, hidden: int) -> Iterator[tuple[str, np.ndarray]]:
        yield linear(f"{name}.gate_proj", hidden, width, 1.5)
        yield linear(f"{name}.up_proj", hidden, width)
        yield linear(f"{name}.down_proj", width, hidden, 1.5)

    scale = 0.3 if config["tie_word_embeddings"] else 1.0
    yield "model.embed_tokens.weight", draw("model.embed_tokens.weight", (config["vocab_size"], width), 0.0, scale)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        yield norm(f"{layer}.input_layernorm", width)
        yield norm(f"{layer}.post_attention_layernorm", width)
        for name, out in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{layer}.self_attn.{name}", out * head, width)
        yield linear(f"{layer}.self_attn.o_proj", width, heads * head, 1.5)
        yield norm(f"{layer}.self_attn.q_norm", head, 1.5)
        yield norm(f"{layer}.self_attn.k_norm", head, 1.5)
        if "num_experts" in config:
            yield linear(f"{layer}.mlp.gate", config["num_experts"], width, 2.0)
            for e in range(config["num_experts"]):
                yield from mlp(f"{layer}.mlp.experts.{e}", config["moe_intermediate_size"])
        else:
            yield from mlp(f"{layer}.mlp", config["intermediate_size"])
    yield norm("model.norm", width)
    if not config["tie_word_embeddings"]:
        yield linear("lm_head", config["vocab_size"], width, 3.0)


def write_checkpoint(directory: Path, name: str) -> Path:
    """Writes config.json and model.safetensors: a directory without a tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    architecture = {"qwen3": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM"}[CONFIGS[name]["model_type"]]
    config = CONFIGS[name] | {"architectures": [architecture], "torch_dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    write_safetensors(directory / "model.safetensors", dict(tensors(config)))
    return directory
