"""Small random Qwen3-VL checkpoints, dense and MoE, written as the hub holds the real ones; and their conversations.

NumPy only. Media are those of media.py, by name.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.text_families import CONFIGS
from tests.golden.text_families import tensors as text_tensors
from tests.golden.tiny import (
    HERE,
    TOKENIZER,
    VOCABULARY,
    Plan,
    _linear,
    _norm,
    _tokenizer_config,
    draw,
    token_ids,
    vision,
    write_safetensors,
)

TEMPLATE = HERE.parents[1] / "omni" / "assets" / "templates" / "vl.jinja"
VISION = {
    "model_type": "qwen3_vl",
    "depth": 4,
    "hidden_size": 96,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 160,
    "num_heads": 4,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [1, 2],
    "initializer_range": 0.02,
}
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 262144,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "use_cache": True,
    "rope_theta": 5000000,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "float32",
}
_MOE = {
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 48,
    "num_experts_per_tok": 2,
    "num_experts": 8,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
}
TEXT: dict[str, dict[str, Any]] = {
    "vl": {**_TEXT, "model_type": "qwen3_vl_text", "tie_word_embeddings": True},
    "vl_moe": {**_TEXT, **_MOE, "model_type": "qwen3_vl_moe_text"},
}
# Qwen3.5: the same tower without deepstack, before a decoder with linear layers.
for _name, _inner in (("qwen3_5", "qwen3_5_text"), ("qwen3_5_moe", "qwen3_5_moe_text")):
    TEXT[_name] = {**CONFIGS[_inner], "vocab_size": VOCABULARY, "dtype": "float32"}
NAMES = tuple(TEXT)


def _user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def _say(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _image(name: str) -> dict[str, Any]:
    return {"type": "image", "image": name}


def _video(name: str) -> dict[str, Any]:
    return {"type": "video", "video": name}


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "text": [_say("system", "You are terse."), _say("user", "Count from 1 to 10, and then explain 3136 * 12845056.")],
    "image": [_user(_image("small"), "Describe the image.")],
    "images": [_user(_image("odd"), "This one,", _image("tiny"), _image("half"), " those two, ", _image("tall"), "?")],
    "wide": [_user("Which is wider? ", _image("wide"))],
    "video": [_user(_video("seven"), "What moves?")],
    "video_rate": [_user("Watch: ", _video("crooked"), "What moves?")],
    "videos": [_user(_video("four"), "or", _video("crooked"), " or ", _video("seven"), "?")],
    "together": [_user(_image("odd"), "first, ", _video("seven"), "then", _image("small"), _video("four"), "Compare.")],
    "turns": [
        _say("system", "You are terse."),
        _user(_image("half"), "What do you see?"),
        _say("assistant", "A disc."),
        _user(_video("crooked"), _image("small"), "What moves?"),
        _say("assistant", "A bar."),
        _say("user", "Which way?"),
    ],
}

INSTRUCTION = "Represent the user's input."


def _asked(instruction: str, *content: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": [{"type": "text", "text": instruction}]}, _user(*content)]


# What Qwen3-VL-Embedding is given: the instruction as the system message, media before text.
EMBEDDED: dict[str, list[dict[str, Any]]] = {
    "embed_text": _asked(INSTRUCTION, "A harbour at five in the morning."),
    "embed_image": _asked(INSTRUCTION, _image("small")),
    "embed_video": _asked(INSTRUCTION, _video("seven")),
    "embed_both": _asked("Find the place.", _image("half"), "By the sea."),
}


def _vision(sizes: dict[str, Any]) -> Iterator[Plan]:
    return vision(sizes, "model.visual", "deepstack_merger_list", ("norm", "linear_fc1", "linear_fc2"))


def _text(config: dict[str, Any]) -> Iterator[Plan]:
    width, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    tied = config.get("tie_word_embeddings", False)
    yield "model.language_model.embed_tokens.weight", (VOCABULARY, width), 0.0, 0.5 if tied else 1.0
    for i in range(config["num_hidden_layers"]):
        layer = f"model.language_model.layers.{i}"
        yield from _norm(f"{layer}.input_layernorm", width, bias=False)
        yield from _norm(f"{layer}.post_attention_layernorm", width, bias=False)
        for name, out in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield from _linear(f"{layer}.self_attn.{name}", out * head, width, bias=False)
        yield from _linear(f"{layer}.self_attn.o_proj", width, heads * head, gain=1.5, bias=False)
        yield from _norm(f"{layer}.self_attn.q_norm", head, bias=False, mean=1.5)
        yield from _norm(f"{layer}.self_attn.k_norm", head, bias=False, mean=1.5)
        if "num_experts" in config:
            experts, hidden = config["num_experts"], config["moe_intermediate_size"]
            yield from _linear(f"{layer}.mlp.gate", experts, width, gain=2, bias=False)
            # All experts in one tensor, [experts, in, out].
            yield f"{layer}.mlp.experts.gate_up_proj", (experts, width, 2 * hidden), 0.0, 1.25 / math.sqrt(width)
            yield f"{layer}.mlp.experts.down_proj", (experts, hidden, width), 0.0, 1.5 / math.sqrt(hidden)
        else:
            hidden = config["intermediate_size"]
            yield from _linear(f"{layer}.mlp.gate_proj", hidden, width, gain=1.5, bias=False)
            yield from _linear(f"{layer}.mlp.up_proj", hidden, width, bias=False)
            yield from _linear(f"{layer}.mlp.down_proj", width, hidden, gain=1.5, bias=False)
    yield from _norm("model.language_model.norm", width, bias=False)
    if not tied:
        yield from _linear("lm_head", VOCABULARY, width, gain=3, bias=False)


def tensors(name: str, *, turned: bool = False) -> dict[str, np.ndarray]:
    """The checkpoint's tensors, float32.

    Args:
        name: of the checkpoint.
        turned: experts as [experts, out, in], as transformers 5 saves them.
    """
    if name.startswith("qwen3_5"):
        found = {plan[0]: draw(*plan) for plan in _vision(VISION | {"deepstack_visual_indexes": []})}
        for key, value in text_tensors(TEXT[name]):
            inner = key.startswith(("lm_head", "model.language_model."))
            found[key if inner else key.replace("model.", "model.language_model.", 1)] = value
        return found
    found = {plan[0]: draw(*plan) for part in (_vision(VISION), _text(TEXT[name])) for plan in part}
    if turned:
        found = {key: v.swapaxes(1, 2) if ".mlp.experts." in key else v for key, v in found.items()}
    return found


def config(name: str) -> dict[str, Any]:
    """config.json."""
    ids, text = token_ids(), TEXT[name]
    model_type = {"vl": "qwen3_vl", "vl_moe": "qwen3_vl_moe"}.get(name, name)
    vision = {**VISION, "model_type": model_type}
    if name.startswith("qwen3_5"):
        vision["deepstack_visual_indexes"] = []
    stem = {"vl": "Qwen3VL", "vl_moe": "Qwen3VLMoe", "qwen3_5": "Qwen3_5", "qwen3_5_moe": "Qwen3_5Moe"}[name]
    return {
        "architectures": [f"{stem}ForConditionalGeneration"],
        "model_type": model_type,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "text_config": text,
        "vision_config": vision,
        "tie_word_embeddings": text.get("tie_word_embeddings", False),
    }


IMAGE_SETTINGS = {
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
VIDEO_SETTINGS = {**IMAGE_SETTINGS, "size": {"shortest_edge": 4096, "longest_edge": 25165824}}


def write_checkpoint(directory: Path, name: str, *, turned: bool = False) -> Path:
    """Writes the whole directory; `turned` as in `tensors`."""
    directory.mkdir(parents=True, exist_ok=True)

    def write(file: str, content: Any) -> None:
        (directory / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    ids = token_ids()
    write("config.json", config(name))
    processor = {"processor_class": "Qwen3VLProcessor"}
    write(
        "preprocessor_config.json",
        {**IMAGE_SETTINGS, **processor, "image_processor_type": "Qwen2VLImageProcessorFast"},
    )
    write(
        "video_preprocessor_config.json",
        {**VIDEO_SETTINGS, **processor, "video_processor_type": "Qwen3VLVideoProcessor"},
    )
    write("tokenizer_config.json", {**_tokenizer_config(), **processor})
    write("chat_template.json", {"chat_template": TEMPLATE.read_text("utf-8")})
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    write("generation_config.json", {"eos_token_id": ends, "pad_token_id": ids["<|endoftext|>"]})
    shutil.copyfile(TOKENIZER, directory / "tokenizer.json")
    write_safetensors(directory / "model.safetensors", tensors(name, turned=turned))
    return directory
