"""A small random Qwen3-Omni checkpoint, written as the hub holds the real ones. NumPy and the standard library only.

    python -m tests.golden.tiny DIRECTORY

Each tensor is drawn from a stream seeded by its own name, in arithmetic that IEEE 754 fixes, so every machine writes
the same bytes and nothing but this file needs keeping. Scales are chosen so that activations stay near 1 and outputs
differ visibly between inputs: an ignored bias, a wrong norm or a lost rotation shows.
"""

import hashlib
import json
import math
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TEMPLATE = HERE.parents[1] / "omni" / "assets" / "templates" / "omni.jinja"
TOKENIZER = HERE / "tokenizer.json"

VOCABULARY = 896  # the tokenizer's size, padded up as the published models pad theirs
VISION = {
    "model_type": "qwen3_omni_moe_vision_encoder",
    "depth": 5,
    "hidden_size": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 160,
    "num_heads": 4,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "spatial_patch_size": 16,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [1, 2, 3],
    "apply_vit_abs_pos_embed": True,
    "image_size": 768,
    "initializer_range": 0.02,
}
AUDIO = {
    "model_type": "qwen3_omni_moe_audio_encoder",
    "num_mel_bins": 128,
    "num_hidden_layers": 3,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 160,
    "d_model": 64,
    "dropout": 0,
    "attention_dropout": 0,
    "activation_function": "gelu",
    "activation_dropout": 0,
    "scale_embedding": False,
    "initializer_range": 0.02,
    "max_source_positions": 1500,
    "n_window": 50,
    "n_window_infer": 800,
    "output_dim": 64,
    "conv_chunksize": 500,
    "downsample_hidden_size": 16,
}
TEXT = {
    "model_type": "qwen3_omni_moe_text",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 65536,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "use_cache": True,
    "tie_word_embeddings": False,
    "rope_theta": 1000000,
    "rope_scaling": {
        "interleaved": True,
        "mrope_interleaved": True,
        "mrope_section": [6, 5, 5],
        "rope_type": "default",
        "type": "default",
    },
    "attention_bias": False,
    "sliding_window": None,
    "attention_dropout": 0,
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 48,
    "num_experts_per_tok": 2,
    "num_experts": 8,
    "norm_topk_prob": True,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
    "mlp_only_layers": [],
}

Plan = tuple[str, tuple[int, ...], float, float]  # name, shape, mean, standard deviation


def _linear(name: str, out: int, into: int, *, gain: float = 1.0, bias: bool = True) -> Iterator[Plan]:
    yield f"{name}.weight", (out, into), 0.0, gain / math.sqrt(into)
    if bias:
        yield f"{name}.bias", (out,), 0.0, 0.2


def _norm(name: str, width: int, *, bias: bool = True, mean: float = 1.0) -> Iterator[Plan]:
    yield f"{name}.weight", (width,), mean, 0.25
    if bias:
        yield f"{name}.bias", (width,), 0.0, 0.2


def vision(sizes: Mapping[str, Any], tower: str, levels: str, names: Sequence[str]) -> Iterator[Plan]:
    """A vision tower: the prefixes of its tensors and of its deepstack's mergers, and what a merger calls its own."""
    width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
    kernel = (sizes["in_channels"], sizes["temporal_patch_size"], sizes["patch_size"], sizes["patch_size"])
    # Neighbouring pixels agree, so a kernel of independent weights nearly cancels: it needs more than 1 / sqrt(fan in).
    yield f"{tower}.patch_embed.proj.weight", (width, *kernel), 0.0, 4 / math.sqrt(math.prod(kernel))
    yield f"{tower}.patch_embed.proj.bias", (width,), 0.0, 0.2
    yield f"{tower}.pos_embed.weight", (sizes["num_position_embeddings"], width), 0.0, 0.5
    for i in range(sizes["depth"]):
        block = f"{tower}.blocks.{i}"
        yield from _norm(f"{block}.norm1", width)
        yield from _norm(f"{block}.norm2", width)
        yield from _linear(f"{block}.attn.qkv", 3 * width, width, gain=1.5)
        yield from _linear(f"{block}.attn.proj", width, width)
        yield from _linear(f"{block}.mlp.linear_fc1", hidden, width)
        yield from _linear(f"{block}.mlp.linear_fc2", width, hidden)
    merged = width * sizes["spatial_merge_size"] ** 2
    mergers = {f"{tower}.merger": width}
    mergers |= {f"{tower}.{levels}.{i}": merged for i in range(len(sizes["deepstack_visual_indexes"]))}
    norm, first, second = names
    for merger, normed in mergers.items():
        yield from _norm(f"{merger}.{norm}", normed)
        yield from _linear(f"{merger}.{first}", merged, merged)
        yield from _linear(f"{merger}.{second}", sizes["out_hidden_size"], merged, gain=1.5)


def _seen() -> Iterator[Plan]:
    yield from vision(VISION, "visual", "merger_list", ("ln_q", "mlp.0", "mlp.2"))


def _audio() -> Iterator[Plan]:
    width, channels = AUDIO["d_model"], AUDIO["downsample_hidden_size"]
    for i, into in enumerate((1, channels, channels), start=1):
        yield f"audio_tower.conv2d{i}.weight", (channels, into, 3, 3), 0.0, 2 / math.sqrt(into * 9)
        yield f"audio_tower.conv2d{i}.bias", (channels,), 0.0, 0.2
    yield from _linear("audio_tower.conv_out", width, channels * AUDIO["num_mel_bins"] // 8, gain=4, bias=False)
    for i in range(AUDIO["encoder_layers"]):
        layer = f"audio_tower.layers.{i}"
        yield from _norm(f"{layer}.self_attn_layer_norm", width)
        yield from _norm(f"{layer}.final_layer_norm", width)
        # Peaked attention: an average over a whole window would make all of its tokens alike.
        for name, gain in (("q_proj", 2.0), ("k_proj", 2.0), ("v_proj", 1.0), ("out_proj", 1.0)):
            yield from _linear(f"{layer}.self_attn.{name}", width, width, gain=gain)
        yield from _linear(f"{layer}.fc1", AUDIO["encoder_ffn_dim"], width)
        yield from _linear(f"{layer}.fc2", width, AUDIO["encoder_ffn_dim"])
    yield from _norm("audio_tower.ln_post", width)
    yield from _linear("audio_tower.proj1", width, width)
    yield from _linear("audio_tower.proj2", AUDIO["output_dim"], width, gain=1.5)


def _text() -> Iterator[Plan]:
    width, head, hidden = TEXT["hidden_size"], TEXT["head_dim"], TEXT["moe_intermediate_size"]
    heads, kv_heads = TEXT["num_attention_heads"], TEXT["num_key_value_heads"]
    yield "model.embed_tokens.weight", (VOCABULARY, width), 0.0, 1.0
    for i in range(TEXT["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        yield from _norm(f"{layer}.input_layernorm", width, bias=False)
        yield from _norm(f"{layer}.post_attention_layernorm", width, bias=False)
        yield from _linear(f"{layer}.self_attn.q_proj", heads * head, width, bias=False)
        yield from _linear(f"{layer}.self_attn.k_proj", kv_heads * head, width, bias=False)
        yield from _linear(f"{layer}.self_attn.v_proj", kv_heads * head, width, bias=False)
        yield from _linear(f"{layer}.self_attn.o_proj", width, heads * head, gain=1.5, bias=False)
        # Queries and keys are normalised, so only these weights can make attention peaked.
        yield from _norm(f"{layer}.self_attn.q_norm", head, bias=False, mean=1.5)
        yield from _norm(f"{layer}.self_attn.k_norm", head, bias=False, mean=1.5)
        yield from _linear(f"{layer}.mlp.gate", TEXT["num_experts"], width, gain=2, bias=False)
        for e in range(TEXT["num_experts"]):
            expert = f"{layer}.mlp.experts.{e}"
            yield from _linear(f"{expert}.gate_proj", hidden, width, gain=1.5, bias=False)
            yield from _linear(f"{expert}.up_proj", hidden, width, bias=False)
            yield from _linear(f"{expert}.down_proj", width, hidden, gain=1.5, bias=False)
    yield from _norm("model.norm", width, bias=False)
    yield from _linear("lm_head", VOCABULARY, width, gain=3, bias=False)


def _speech() -> Iterator[Plan]:
    """A few tensors of the parts that turn text into sound: a loader of the thinker passes over them knowingly."""
    yield "talker.model.codec_embedding.weight", (32, 16), 0.0, 1.0
    yield from _linear("talker.hidden_projection.linear_fc1", 16, 16)
    yield from _linear("code2wav.decoder.0.conv", 8, 16)


def draw(name: str, shape: tuple[int, ...], mean: float, deviation: float) -> np.ndarray:
    # Uniform, not normal: random_sample is exact integer arithmetic, while randn goes through the platform's log.
    unit = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape) * 2 - 1
    return (mean + deviation * math.sqrt(3) * unit).astype(np.float32)


def tensors() -> Iterator[tuple[str, np.ndarray]]:
    """The thinker's tensors, float32, named as published less the `thinker.` prefix."""
    for part in (_seen, _audio, _text):
        for plan in part():
            yield plan[0], draw(*plan)


def digest() -> str:
    """sha256 over the names and bytes of all tensors; the golden tests assert it."""
    found = hashlib.sha256()
    for name, value in tensors():
        found.update(name.encode())
        found.update(value.astype("<f4").tobytes())
    return found.hexdigest()


def token_ids() -> dict[str, int]:
    """Every token's id, by its text; the texts of the base vocabulary in the byte-level alphabet."""
    tokenizer = json.loads(TOKENIZER.read_text("utf-8"))
    return tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def thinker_config(dtype: str = "float32") -> dict[str, Any]:
    """The thinker's part of config.json."""
    ids = token_ids()
    return {
        "model_type": "qwen3_omni_moe_thinker",
        "dtype": dtype,
        "audio_token_id": ids["<|audio_pad|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "user_token_id": ids["user"],
        "position_id_per_seconds": 13,
        "seconds_per_chunk": 2,
        "initializer_range": 0.02,
        "audio_config": AUDIO,
        "vision_config": VISION,
        "text_config": TEXT,
    }


def config(dtype: str = "float32", *, alone: bool = False) -> dict[str, Any]:
    """config.json: of the whole model, or of the thinker alone."""
    ids = token_ids()
    if alone:
        return {"architectures": ["Qwen3OmniMoeThinkerForConditionalGeneration"], **thinker_config(dtype)}
    return {
        "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
        "model_type": "qwen3_omni_moe",
        "dtype": dtype,
        "enable_audio_output": True,
        "im_start_token_id": ids["<|im_start|>"],
        "im_end_token_id": ids["<|im_end|>"],
        "system_token_id": ids["system"],
        "user_token_id": ids["user"],
        "assistant_token_id": ids["assistant"],
        "tts_bos_token_id": ids["<|audio_start|>"],
        "tts_eos_token_id": ids["<|audio_end|>"],
        "tts_pad_token_id": ids["<|audio_pad|>"],
        "thinker_config": thinker_config(dtype),
        "talker_config": {"model_type": "qwen3_omni_moe_talker", "accept_hidden_layer": 2, "num_code_groups": 4},
        "code2wav_config": {"model_type": "qwen3_omni_moe_code2wav", "num_quantizers": 4},
    }


def _preprocessor_config() -> dict[str, Any]:
    return {
        "processor_class": "Qwen3OmniMoeProcessor",
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 128,
        "sampling_rate": 16000,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": 300,
        "n_samples": 4800000,
        "nb_max_frames": 30000,
        "dither": 0.0,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def _tokenizer_config() -> dict[str, Any]:
    added = json.loads(TOKENIZER.read_text("utf-8"))["added_tokens"]
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    named = {
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
        "audio_token": "<|audio_pad|>",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    }
    return {
        "added_tokens_decoder": {str(token["id"]): {key: token[key] for key in fields} for token in added},
        "additional_special_tokens": [token["content"] for token in added if token["special"]],
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3OmniMoeProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
        "extra_special_tokens": named,
        **named,
    }


def _bytes_of(value: np.ndarray, dtype: str) -> bytes:
    if dtype == "float32":
        return value.astype("<f4").tobytes()
    if dtype == "float16":
        return value.astype("<f2").tobytes()
    if dtype == "bfloat16":  # round to nearest, ties to even
        bits = value.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype!r}")


def write_safetensors(path: Path, values: dict[str, np.ndarray], dtype: str = "float32") -> int:
    """Writes one safetensors file, weights as `dtype`; returns the bytes of its tensors."""
    code = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body, at = [], 0
    for name, value in values.items():
        body.append(_bytes_of(value, dtype))
        header[name] = {"dtype": code, "shape": list(value.shape), "data_offsets": [at, at + len(body[-1])]}
        at += len(body[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(body))
    return at


def _write_weights(directory: Path, values: dict[str, np.ndarray], shards: int, dtype: str) -> None:
    if shards == 1:
        write_safetensors(directory / "model.safetensors", values, dtype)
        return
    names = list(values)
    weight_map, total = {}, 0
    for i in range(shards):
        # Cut at even counts, as the hub cuts at even sizes: layers and experts straddle the files.
        part = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        total += write_safetensors(directory / file, {name: values[name] for name in part}, dtype)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def write_checkpoint(
    directory: str | Path,
    *,
    prefix: str = "thinker.",
    shards: int = 3,
    dtype: str = "float32",
    tokenizer_json: bool = True,
) -> Path:
    """Writes the whole checkpoint directory.

    Args:
        directory: where to; created if absent.
        prefix: before every tensor's name; "" writes a thinker alone, with the thinker's config at the top and without
            the tensors of the talker.
        shards: number of safetensors files; 1 writes `model.safetensors` without an index.
        dtype: of the weights: float32, float16 or bfloat16.
        tokenizer_json: False leaves vocab.json and merges.txt alone, as in the published Qwen3-Omni files.

    Returns:
        The directory.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    values = {prefix + name: value for name, value in tensors()}
    if prefix:
        values |= {plan[0]: draw(*plan) for plan in _speech()}
    _write_weights(directory, values, shards, dtype)

    def write(name: str, content: Any) -> None:
        (directory / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    ids = token_ids()
    tokenizer = json.loads(TOKENIZER.read_text("utf-8"))
    write("config.json", config(dtype, alone=not prefix))
    write("preprocessor_config.json", _preprocessor_config())
    write("tokenizer_config.json", _tokenizer_config())
    write("chat_template.json", {"chat_template": TEMPLATE.read_text("utf-8")})
    write("vocab.json", tokenizer["model"]["vocab"])
    merges = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    if tokenizer_json:
        shutil.copyfile(TOKENIZER, directory / "tokenizer.json")
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    write("generation_config.json", {"eos_token_id": ends, "pad_token_id": ids["<|endoftext|>"]})
    return directory


if __name__ == "__main__":
    write_checkpoint(sys.argv[1])
