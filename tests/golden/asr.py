"""Small random Qwen3-ASR checkpoints, in both namings that the real ones are published in. NumPy only.

The audio tower is that of tiny.py, the decoder a tied dense one; both namings hold the same numbers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import text_families, tiny

TEMPLATE = tiny.TEMPLATE.with_name("asr.jinja")
# The first release, and the one in transformers' own form.
NAMINGS = ("thinker", "hf")
VOCABULARY = 896
CLIPS = ("tenth", "short", "second", "window", "middle", "half_minute", "long")
TEXT = text_families.CONFIGS["qwen3_tied"] | {"vocab_size": VOCABULARY, "max_position_embeddings": 65536}
ROPE = {
    "interleaved": True,
    "mrope_interleaved": True,
    "mrope_section": [6, 5, 5],
    "rope_type": "default",
    "type": "default",
}
# What the first release's text config says of experts, of which the model has none.
EXPERTS = {
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.001,
    "mlp_only_layers": [],
}
RENAMED = {
    "audio_tower.proj1.": "model.multi_modal_projector.linear_1.",
    "audio_tower.proj2.": "model.multi_modal_projector.linear_2.",
    "audio_tower.": "model.audio_tower.",
    "model.": "model.language_model.",
}


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: that of the other checkpoints, and the token before a transcript, which is not special."""
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    spec["added_tokens"].append({"id": len(tiny.token_ids()), "content": "<asr_text>", **flags})
    return spec


def tensors() -> Iterator[tuple[str, np.ndarray]]:
    """The tensors, float32, under the names of the first release less their `thinker.`."""
    yield from ((name, value) for name, value in tiny.tensors() if name.startswith("audio_tower."))
    yield from text_families.tensors(TEXT)


def in_naming(naming: str) -> dict[str, np.ndarray]:
    """The tensors as a directory of that naming holds them."""
    values = dict(tensors())
    if naming == "thinker":
        # Published so: the output head lies there beside the embedding that it is tied to.
        values["lm_head.weight"] = values["model.embed_tokens.weight"]
        return {f"thinker.{name}": value for name, value in values.items()}

    def renamed(name: str) -> str:
        old = next(prefix for prefix in RENAMED if name.startswith(prefix))
        return RENAMED[old] + name.removeprefix(old)

    return {renamed(name): value for name, value in values.items()}


def config(naming: str) -> dict[str, Any]:
    """config.json."""
    ids = tiny.token_ids()
    model = {"architectures": ["Qwen3ASRForConditionalGeneration"], "model_type": "qwen3_asr"}
    if naming == "thinker":
        thinker = {
            "model_type": "qwen3_asr",
            "dtype": "float32",
            "audio_token_id": ids["<|audio_pad|>"],
            "audio_start_token_id": ids["<|audio_start|>"],
            "audio_end_token_id": ids["<|audio_end|>"],
            "audio_config": tiny.AUDIO | {"model_type": "qwen3_asr_audio_encoder"},
            "text_config": TEXT | EXPERTS | {"rope_scaling": ROPE},
        }
        return model | {"support_languages": ["Chinese", "English", "German"], "thinker_config": thinker}
    audio = {
        name: value for name, value in tiny.AUDIO.items() if name not in ("max_source_positions", "conv_chunksize")
    }
    audio |= {"model_type": "qwen3_asr_encoder", "max_position_embeddings": 13}
    text = {name: value for name, value in TEXT.items() if name not in ("rope_theta", "tie_word_embeddings")}
    text |= {"rope_parameters": {"rope_theta": TEXT["rope_theta"], "rope_type": "default"}}
    return model | {
        "dtype": "float32",
        "audio_token_id": ids["<|audio_pad|>"],
        "pad_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": True,
        "audio_config": audio,
        "text_config": text,
    }


def _processor(naming: str) -> tuple[str, dict[str, Any]]:
    """Name and content of the file that holds the processor's settings."""
    settings = {
        "chunk_length": 30,
        "dither": 0.0,
        "feature_size": 128,
        "hop_length": 160,
        "n_fft": 400,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
    if naming == "thinker":
        kind = {"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "Qwen3ASRProcessor"}
        return "preprocessor_config.json", settings | kind
    kind = {"feature_extractor_type": "Qwen3ASRFeatureExtractor", "min_length": 8000, "n_window": 50}
    content = {
        "processor_class": "Qwen3ASRProcessor",
        "timestamp_segment_time": 80,
        "feature_extractor": settings | kind,
    }
    return "processor_config.json", content


def write_checkpoint(directory: Path, naming: str) -> Path:
    """Writes a whole checkpoint directory."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = tiny.token_ids()
    named = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    files = {
        "config.json": config(naming),
        "generation_config.json": {
            "eos_token_id": [ids["<|endoftext|>"], ids["<|im_end|>"]],
            "pad_token_id": ids["<|im_end|>"],
            "do_sample": False,
        },
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "processor_class": "Qwen3ASRProcessor",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "extra_special_tokens": named,
            **named,
        },
        **dict([_processor(naming)]),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (directory / "chat_template.jinja").write_text(TEMPLATE.read_text("utf-8"), "utf-8")
    tiny.write_safetensors(directory / "model.safetensors", in_naming(naming))
    return directory


def real_config(size: str, naming: str) -> dict[str, Any]:
    """config.json of the published 0.6B and 1.7B models, as far as it tells their shapes."""
    audio_width, layers, heads, width = {"0.6B": (896, 18, 14, 1024), "1.7B": (1024, 24, 16, 2048)}[size]
    small = config(naming)
    outer = small.get("thinker_config", small)
    outer["audio_token_id"] = 151676
    depth = {"num_hidden_layers": layers, "encoder_layers": layers, "encoder_attention_heads": heads}
    widths = {"d_model": audio_width, "encoder_ffn_dim": 4 * audio_width, "output_dim": width}
    outer["audio_config"] |= depth | widths | {"downsample_hidden_size": 480}
    outer["text_config"] |= {
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    }
    if naming == "thinker":
        outer["text_config"]["rope_scaling"] = ROPE | {"mrope_section": [24, 20, 20]}
    return small
