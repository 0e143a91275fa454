"""Small random checkpoints of the families that only read text, named and configured as published. NumPy only."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.tiny import draw, write_safetensors

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
_QWEN3_MOE = _COMMON | _MOE | {"model_type": "qwen3_moe", "norm_topk_prob": True, "tie_word_embeddings": False}
_HYBRID = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "intermediate_size": 96,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "tie_word_embeddings": False,
}
_HYBRID_MOE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 40,
}
_NEXT = (
    _HYBRID
    | _HYBRID_MOE
    | {
        "model_type": "qwen3_next",
        "rope_theta": 10000000,
        "rope_scaling": None,
        "partial_rotary_factor": 0.25,
        "full_attention_interval": 4,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
)
_QWEN3_5 = _HYBRID | {
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000000,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
    "partial_rotary_factor": 0.25,
    "layer_types": [*["linear_attention"] * 3, "full_attention"] * 2,
    "attn_output_gate": True,
    "output_gate_type": "swish",
    "mamba_ssm_dtype": "float32",
    "mtp_num_hidden_layers": 1,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": _COMMON | {"model_type": "qwen3", "tie_word_embeddings": False},
    "qwen3_tied": _COMMON | {"model_type": "qwen3", "tie_word_embeddings": True},
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_moe_unnormalised": _QWEN3_MOE | {"norm_topk_prob": False, "tie_word_embeddings": True},
    "qwen3_moe_first_dense": _QWEN3_MOE | {"mlp_only_layers": [0], "num_hidden_layers": 4},
    "qwen3_moe_every_second": _QWEN3_MOE | {"decoder_sparse_step": 2, "num_hidden_layers": 4},
    "qwen3_next": _NEXT,
    # No cycle: six stacks of one or two layers, some dense, and biases.
    "qwen3_next_uneven": _NEXT
    | {
        "num_hidden_layers": 7,
        "layer_types": [f"{kind}_attention" for kind in "full linear linear full linear linear linear".split()],
        "linear_num_key_heads": 4,
        "mlp_only_layers": [1, 3],
        "attention_bias": True,
        "norm_topk_prob": False,
    },
    "qwen3_5_text": _QWEN3_5 | {"model_type": "qwen3_5_text", "tie_word_embeddings": True},
    "qwen3_5_moe_text": _QWEN3_5 | _HYBRID_MOE | {"model_type": "qwen3_5_moe_text"},
}
HYBRID = [name for name in CONFIGS if name.startswith(("qwen3_next", "qwen3_5"))]
GRADIENTS = ("qwen3_next", "qwen3_5_text")
LENGTHS = (1, 63, 64, 65, 200, 1025)


def token_ids(length: int) -> np.ndarray:
    """A prompt of that length; each is the beginning of the next."""
    return np.random.RandomState(0).randint(0, VOCABULARY, LENGTHS[-1])[:length]


def tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The checkpoint's tensors, float32."""
    width, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    # Of these the norms scale by 1 + weight, and attention has an output gate.
    hybrid = "linear_num_value_heads" in config
    # As published: the decoder of a multimodal model, its experts in one tensor a layer.
    inner = config["model_type"] == "qwen3_5_moe_text"
    model = "model.language_model" if inner else "model"

    def tensor(name: str, shape: tuple[int, ...], mean: float, deviation: float) -> tuple[str, np.ndarray]:
        return name, draw(name, shape, mean, deviation)

    def linear(name: str, out: int, into: int, gain: float = 1.0) -> tuple[str, np.ndarray]:
        return tensor(f"{name}.weight", (out, into), 0.0, gain / math.sqrt(into))

    def norm(name: str, size: int, mean: float = 1.0) -> tuple[str, np.ndarray]:
        return tensor(f"{name}.weight", (size,), mean - hybrid, 0.25)

    def mlp(name: str, hidden: int) -> Iterator[tuple[str, np.ndarray]]:
        yield linear(f"{name}.gate_proj", hidden, width, 1.5)
        yield linear(f"{name}.up_proj", hidden, width)
        yield linear(f"{name}.down_proj", width, hidden, 1.5)

    def attention(name: str) -> Iterator[tuple[str, np.ndarray]]:
        projections = (
            ("q_proj", heads * head * (1 + hybrid), width, 1.0),
            ("k_proj", kv_heads * head, width, 1.0),
            ("v_proj", kv_heads * head, width, 1.0),
            ("o_proj", width, heads * head, 1.5),
        )
        for projection, out, into, gain in projections:
            yield linear(f"{name}.{projection}", out, into, gain)
            if config.get("attention_bias"):
                yield tensor(f"{name}.{projection}.bias", (out,), 0.0, 0.5)
        yield norm(f"{name}.q_norm", head, 1.5)
        yield norm(f"{name}.k_norm", head, 1.5)

    def linear_attention(name: str) -> Iterator[tuple[str, np.ndarray]]:
        K, N = config["linear_num_key_heads"], config["linear_num_value_heads"]
        keys, values = K * config["linear_key_head_dim"], N * config["linear_value_head_dim"]
        if config["model_type"] == "qwen3_next":
            inputs = {"qkvz": 2 * keys + 2 * values, "ba": 2 * N}
        else:
            inputs = {"qkv": 2 * keys + values, "z": values, "b": N, "a": N}
        for projection, out in inputs.items():
            yield linear(f"{name}.in_proj_{projection}", out, width)
        yield tensor(f"{name}.conv1d.weight", (2 * keys + values, 1, config["linear_conv_kernel_dim"]), 0.0, 2.0)
        # Heads that remember: of one that forgets all, the output is qᵀk v made unit length, whatever small qᵀk is.
        yield tensor(f"{name}.A_log", (N,), -2.0, 1.0)
        yield tensor(f"{name}.dt_bias", (N,), 0.0, 1.0)
        yield tensor(f"{name}.norm.weight", (config["linear_value_head_dim"],), 1.0, 0.25)
        yield linear(f"{name}.out_proj", width, values)

    def experts(name: str) -> Iterator[tuple[str, np.ndarray]]:
        count, hidden = config["num_experts"], config["moe_intermediate_size"]
        yield linear(f"{name}.gate", count, width, 2.0)
        if inner:
            yield tensor(f"{name}.experts.gate_up_proj", (count, 2 * hidden, width), 0.0, 1.2 / math.sqrt(width))
            yield tensor(f"{name}.experts.down_proj", (count, width, hidden), 0.0, 1.5 / math.sqrt(hidden))
        else:
            for e in range(count):
                yield from mlp(f"{name}.experts.{e}", hidden)
        if hybrid:
            yield from mlp(f"{name}.shared_expert", config["shared_expert_intermediate_size"])
            yield linear(f"{name}.shared_expert_gate", 1, width, 2.0)

    scale = 0.3 if config["tie_word_embeddings"] else 1.0
    yield tensor(f"{model}.embed_tokens.weight", (config["vocab_size"], width), 0.0, scale)
    interval = config.get("full_attention_interval", 1)
    for i in range(config["num_hidden_layers"]):
        layer = f"{model}.layers.{i}"
        yield norm(f"{layer}.input_layernorm", width)
        yield norm(f"{layer}.post_attention_layernorm", width)
        types = config.get("layer_types")
        if types[i] == "full_attention" if types else (i + 1) % interval == 0:
            yield from attention(f"{layer}.self_attn")
        else:
            yield from linear_attention(f"{layer}.linear_attn")
        on_step = "num_experts" in config and (i + 1) % config.get("decoder_sparse_step", 1) == 0
        if on_step and i not in config.get("mlp_only_layers", ()):
            yield from experts(f"{layer}.mlp")
        else:
            yield from mlp(f"{layer}.mlp", config["intermediate_size"])
    yield norm(f"{model}.norm", width)
    if not config["tie_word_embeddings"]:
        yield linear("lm_head", config["vocab_size"], width, 3.0)


def write_checkpoint(directory: Path, name: str) -> Path:
    """Writes config.json and model.safetensors: a directory without a tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    architecture = {
        "qwen3": "Qwen3ForCausalLM",
        "qwen3_moe": "Qwen3MoeForCausalLM",
        "qwen3_next": "Qwen3NextForCausalLM",
        "qwen3_5_text": "Qwen3_5ForCausalLM",
        "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    }[CONFIGS[name]["model_type"]]
    config = CONFIGS[name] | {"architectures": [architecture], "torch_dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    write_safetensors(directory / "model.safetensors", dict(tensors(config)))
    return directory
