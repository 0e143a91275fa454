"""Checkpoints that are hostile, damaged or odd, by name, each with what it must come to: a code, or that it loads.

Every one is tried through `omni.load` up to the point where the model would be built, so hundreds take seconds.
"""

import _thread
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import omni
from omni.checkpoint.finite import is_finite
from omni.checkpoint.safetensors import open_tensors
from omni.loading import _generation, read_config
from omni.prompt.tokenizer import Tokenizer
from tests.golden import text_families, tiny

LOADS = "loads"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1503300328\n"
PAGE = b"<!DOCTYPE html><html><body>404</body></html>"
Change = Callable[[Path], object]


class Reached(Exception):
    """Everything that is checked before the model is built was in order."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """A whole model with a tokenizer in three shards, and one of text alone in one file."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        "omni": tiny.write_checkpoint(folder / "omni"),
        "text": text_families.write_checkpoint(folder / "text", "qwen3_tied"),
    }


@pytest.fixture
def outcome(bases, tmp_path, monkeypatch) -> Callable[[str, Change], str]:
    """Changes a copy, loads it, and says what came of it."""

    def reach(*_: object) -> None:
        raise Reached

    monkeypatch.setattr("omni.loading.abstract_parts", reach)

    def come(base: str, change: Change) -> str:
        directory = tmp_path / "copy"
        directory.mkdir()
        for path in bases[base].iterdir():
            os.link(path, directory / path.name)
        change(directory)
        began = time.process_time()
        try:
            omni.load(directory)
        except Reached:
            return LOADS
        except omni.CheckpointError as error:
            check_message(error, tmp_path)
            return error.code
        finally:
            assert time.process_time() - began < 10
        raise AssertionError("the model was built")

    return come


def check_message(error: omni.CheckpointError, folder: Path) -> None:
    message = str(error)
    assert 0 < len(message) <= 500 and "\n" not in message and message.isprintable()
    assert " at 0x" not in message and str(folder) not in message
    assert error.problems and error.code != "bad_checkpoint"


def write(directory: Path, name: str, content: Any) -> None:
    """Replaces a file, of which the base keeps its own."""
    (directory / name).unlink(missing_ok=True)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (directory / name).write_bytes(raw)


def content(name: str, value: Any) -> Change:
    return lambda directory: write(directory, name, value)


def changed(name: str, *path: str, **values: Any) -> Change:
    """Fields of a JSON file, at a path within it, set; those of None are taken out."""

    def change(directory: Path) -> None:
        whole = json.loads((directory / name).read_text("utf-8"))
        inner = whole
        for step in path:
            inner = inner[step]
        inner.update(values)
        write(directory, name, whole)

    return change


def removed(*names: str) -> Change:
    return lambda directory: [(directory / name).unlink() for name in names]


def header(text: Any, body: bytes = bytes(16)) -> bytes:
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(raw).to_bytes(8, "little") + raw + body


def entry(begin: int = 0, end: int = 16, shape: Any = (2, 2), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refused_everywhere(name: str, **special: str) -> dict[str, tuple[str, Change, str]]:
    """What any JSON file of a checkpoint may hold instead of an object."""
    cases = {
        "empty": b"",
        "cut short": b'{"a": [1, 2',
        "a list": b"[]",
        "null": b"null",
        "a number": b"5",
        "not UTF-8": b'{"a": "\xff"}',
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "zeros": bytes(100),
        "nested deep": b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "many digits": b'{"a": ' + b"9" * 5_000 + b"}",
        "NaN": b'{"a": NaN}',
        "Infinity": b'{"a": -Infinity}',
        "an overflow": b'{"a": 1e999}',
        "named twice": b'{"a": 1, "a": 2}',
        "two values": b"{} {}",
        "a comma too many": b'{"a": 1,}',
    }
    refused = {f"{name}, {what}": ("omni", content(name, raw), "bad_json") for what, raw in cases.items()}
    refused[f"{name}, a pointer of Git LFS"] = ("omni", content(name, POINTER), "lfs_pointer")
    refused[f"{name}, a web page"] = ("omni", content(name, PAGE), "web_page")
    return refused


def of_config(code: str, base: str = "text", *path: str, **values: Any) -> tuple[str, Change, str]:
    return base, changed("config.json", *path, **values), code


THINKER = ("thinker_config",)
TEXT = (*THINKER, "text_config")
VISION = (*THINKER, "vision_config")
AUDIO = (*THINKER, "audio_config")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
FP8 = {"quant_method": "fp8", "modules_to_not_convert": [f"model.layers.{n}.mlp.gate" for n in range(94)]}

CASES: dict[str, tuple[str, Change, str]] = {
    "omni as it is": ("omni", lambda _: None, LOADS),
    "text as it is": ("text", lambda _: None, LOADS),
    # --- every file ---------------------------------------------------------------------------------------------------
    **refused_everywhere("config.json"),
    **refused_everywhere("generation_config.json"),
    **refused_everywhere("tokenizer.json"),
    **refused_everywhere("tokenizer_config.json"),
    **refused_everywhere("chat_template.json"),
    **{
        name: (base, change, {"bad_json": "bad_processor_config"}.get(code, code))
        for name, (base, change, code) in refused_everywhere("preprocessor_config.json").items()
    },
    **refused_everywhere("model.safetensors.index.json"),
    "config.json, absent": ("omni", removed("config.json"), "file_missing"),
    "config.json, a directory": (
        "text",
        lambda d: (removed("config.json")(d), (d / "config.json").mkdir()),
        "file_missing",
    ),
    "config.json with a byte order mark": (
        "text",
        lambda d: write(d, "config.json", b"\xef\xbb\xbf" + (d / "config.json").read_bytes()),
        LOADS,
    ),
    "config.json of many values": ("text", content("config.json", b'{"a": [' + b"1," * 300_000 + b"1]}"), "bad_json"),
    "config.json of 5 MB": (
        "text",
        content("config.json", b'{"a": "' + b"x" * 5_000_000 + b'"}'),
        "file_too_long",
    ),
    "preprocessor_config.json, absent": ("omni", removed("preprocessor_config.json"), "file_missing"),
    "a tokenizer, absent": (
        "omni",
        removed("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
        LOADS,
    ),
    # --- what is no checkpoint ----------------------------------------------------------------------------------------
    "an adapter": (
        "omni",
        lambda d: (
            [p.unlink() for p in d.iterdir()],
            write(d, "adapter_config.json", {"peft_type": "LORA"}),
            write(d, "adapter_model.safetensors", header({}, b"")),
        ),
        "adapter",
    ),
    "an adapter beside a model": ("text", content("adapter_config.json", {"peft_type": "LORA"}), "adapter"),
    "GGUF": ("text", lambda d: (d / "model.safetensors").rename(d / "model-Q4_K_M.gguf"), "gguf"),
    "GGUF by another name": ("text", content("model.safetensors", b"GGUF\3\0\0\0" + bytes(100)), "gguf"),
    "pickles of PyTorch": (
        "text",
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
        "pytorch_weights",
    ),
    "shards of pickles": (
        "text",
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model-00001-of-00002.bin"),
        "pytorch_weights",
    ),
    "a .pth": ("text", lambda d: (d / "model.safetensors").rename(d / "consolidated.00.pth"), "pytorch_weights"),
    "a pickle by another name": (
        "text",
        content("model.safetensors", b"PK\3\4" + bytes(100)),
        "pytorch_weights",
    ),
    "an old pickle by another name": (
        "text",
        content("model.safetensors", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100)),
        "pytorch_weights",
    ),
    "ONNX": ("text", lambda d: (d / "model.safetensors").rename(d / "model.onnx"), "onnx"),
    "ONNX below": (
        "text",
        lambda d: ((d / "onnx").mkdir(), (d / "model.safetensors").rename(d / "onnx" / "model.onnx")),
        "onnx",
    ),
    "another framework's": (
        "text",
        lambda d: (d / "model.safetensors").rename(d / "tf_model.h5"),
        "other_framework",
    ),
    "diffusers": (
        "text",
        lambda d: (removed("config.json", "model.safetensors")(d), write(d, "model_index.json", {"_class_name": "X"})),
        "diffusers",
    ),
    "an empty folder": ("text", lambda d: [p.unlink() for p in d.iterdir()], "empty_directory"),
    "a download that did not end": (
        "text",
        lambda d: (d / "model.safetensors").rename(d / "model.safetensors.incomplete"),
        "partial_download",
    ),
    "a download of the hub that did not end": (
        "text",
        lambda d: (
            (d / ".cache/huggingface/download").mkdir(parents=True),
            (d / "model.safetensors").rename(d / ".cache/huggingface/download/x.incomplete"),
        ),
        "partial_download",
    ),
    "checkpoints of a run": (
        "text",
        lambda d: (
            (d / "checkpoint-500").mkdir(),
            [p.rename(d / "checkpoint-500" / p.name) for p in d.iterdir() if p.is_file()],
        ),
        "checkpoint_below",
    ),
    "a cache of the hub": (
        "text",
        lambda d: (
            (d / "snapshots/abc").mkdir(parents=True),
            [p.rename(d / "snapshots/abc" / p.name) for p in d.iterdir() if p.is_file()],
        ),
        "checkpoint_below",
    ),
    "shards without an index": ("omni", removed("model.safetensors.index.json"), "no_weights"),
    "weights by another name": (
        "text",
        lambda d: (d / "model.safetensors").rename(d / "weights.safetensors"),
        "no_weights",
    ),
    "weights, a pointer of Git LFS": ("text", content("model.safetensors", POINTER), "lfs_pointer"),
    "weights, a web page": ("text", content("model.safetensors", PAGE), "web_page"),
    "a shard, a pointer of Git LFS": ("omni", content("model-00002-of-00003.safetensors", POINTER), "lfs_pointer"),
    "vocab.json, a pointer of Git LFS": ("omni", content("vocab.json", POINTER), "lfs_pointer"),
    "merges.txt, a pointer of Git LFS": ("omni", content("merges.txt", POINTER), "lfs_pointer"),
    "a template, a pointer of Git LFS": ("omni", content("chat_template.jinja", POINTER), "lfs_pointer"),
    "quantised, fp8, and the files are not": of_config("bad_quantisation", quantization_config=FP8),
    "quantised, two ways": of_config(
        "quantised", "omni", quantization_config=FP8, thinker_config={"quantization_config": {"quant_method": "awq"}}
    ),
    "quantised, a method of a list": of_config("quantised", quantization_config={"quant_method": ["fp8"]}),
    "quantised, a list": of_config("quantised", quantization_config=[1]),
    "quantised, blocks of 0": of_config("quantised", quantization_config=FP8 | {"weight_block_size": [0, 128]}),
    "quantised, blocks of a text": of_config("quantised", quantization_config=FP8 | {"weight_block_size": "128"}),
    "quantised, awq": of_config("quantised", quantization_config={"quant_method": "awq", "bits": 4}),
    "quantised, gptq, and the files are not": of_config(
        "bad_quantisation", quantization_config={"quant_method": "gptq", "bits": 4}
    ),
    "quantised, bitsandbytes": of_config("quantised", quantization_config={"load_in_4bit": True}),
    "quantised, mlx": of_config("quantised", quantization={"group_size": 64, "bits": 4}),
    "quantised, compressed tensors": of_config("quantised", compression_config={"format": "int-quantized"}),
    "quantised, the thinker": of_config("bad_quantisation", "omni", *THINKER, quantization_config=FP8),
    "quantised, the decoder": of_config("bad_quantisation", "omni", *TEXT, quantization_config=FP8),
    "quantised, the tower": of_config("bad_quantisation", "omni", *VISION, quantization_config=FP8),
    "quantised, speech alone": of_config(LOADS, "omni", "talker_config", quantization_config=FP8),
    "not quantised": of_config(LOADS, quantization_config=None),
    "quantised, by a file": ("text", content("hf_quant_config.json", {"quantization": {}}), "quantised"),
    # --- fields of config.json ----------------------------------------------------------------------------------------
    "no model_type": of_config("unsupported_family", model_type=None),
    "model_type of a number": of_config("unsupported_family", model_type=5),
    "model_type half a pair": of_config("unsupported_family", model_type="\ud800" * 1000),
    "model_type unknown": of_config("unsupported_family", model_type="llama"),
    "thinker_config a list": of_config("bad_config", "omni", thinker_config=[1]),
    "text_config a list": of_config("bad_config", "omni", *THINKER, text_config=[1]),
    "notes of other programs": of_config(
        LOADS,
        unsloth_version="2026.4.2",
        unsloth_fixed=True,
        _attn_implementation="sdpa",
        _commit_hash="0" * 40,
        auto_map={"AutoConfig": "x.Y"},
        pretraining_tp=1,
        model_name="mine",
        use_return_dict=True,
        output_attentions=True,
        _from_model_config=True,
    ),
    "notes in the towers": of_config(LOADS, "omni", *VISION, _commit_hash="0" * 40, auto_map={"a": "b"}),
    "notes above the parts": of_config(LOADS, "omni", unsloth_fixed=True, _name_or_path="x", auto_map={"a": "b"}),
    "sinks": of_config("unsupported_config", attention_sinks=True),
    "no sinks": of_config(LOADS, attention_sinks=False),
    "soft caps": of_config("unsupported_config", final_logit_softcapping=30.0),
    "scaled embeddings": of_config("unsupported_config", embedding_multiplier=12),
    "embeddings scaled by 1": of_config(LOADS, embedding_multiplier=1.0),
    "biases in the MLP": of_config("unsupported_config", mlp_bias=True),
    "sliding windows": of_config("unsupported_config", use_sliding_window=True, sliding_window=4096),
    "windows in the vision tower": of_config("unsupported_config", "omni", *VISION, window_size=112),
    "windows of Qwen2.5-VL": of_config("unsupported_config", "omni", *VISION, fullatt_block_indexes=[7]),
    "another epsilon in the audio tower": of_config("unsupported_config", "omni", *AUDIO, layer_norm_eps=1e-3),
    "YaRN": of_config("unsupported_config", rope_scaling=YARN),
    "YaRN by its old name": of_config("unsupported_config", rope_scaling={"type": "yarn", "factor": 4.0}),
    "YaRN beside rope_parameters": of_config(
        "unsupported_config", rope_scaling=YARN, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    ),
    "linear scaling": of_config("unsupported_config", rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "scaling without a type": of_config("unsupported_config", rope_scaling={"factor": 2.0}),
    "YaRN above the parts": of_config("unsupported_config", "omni", rope_scaling=YARN),
    "YaRN in the thinker": of_config("unsupported_config", "omni", *THINKER, rope_scaling=YARN),
    "rotary settings that agree": of_config(
        LOADS, rope_scaling={"rope_type": "default"}, rope_parameters={"rope_type": "default", "rope_theta": 1000000}
    ),
    "rotary settings that differ": of_config(
        "bad_config", rope_scaling={"rope_theta": 1e4}, rope_parameters={"rope_theta": 1e6}
    ),
    "rope_scaling null": of_config(LOADS, rope_scaling=None),
    "rope_scaling a text": of_config("bad_config", rope_scaling="yarn"),
    "rope_theta 0": of_config("bad_config", rope_theta=0),
    "rope_theta negative": of_config("bad_config", rope_theta=-1e6),
    "rope_theta beyond float32": of_config("bad_config", rope_theta=1e300),
    "rms_norm_eps 0": of_config("bad_config", rms_norm_eps=0.0),
    "rms_norm_eps negative": of_config("bad_config", rms_norm_eps=-1e-6),
    "partial_rotary_factor of a text": of_config("bad_config", partial_rotary_factor="half"),
    "mrope_section of two": of_config("bad_config", "omni", *TEXT, "rope_scaling", mrope_section=[8, 8]),
    "mrope_section of texts": of_config("bad_config", "omni", *TEXT, "rope_scaling", mrope_section=["a", "b", "c"]),
    "position_id_per_seconds 0": of_config("bad_config", "omni", *THINKER, position_id_per_seconds=0),
    "layers beyond number": of_config("bad_config", num_hidden_layers=10**9),
    "layers below 1": of_config("bad_config", num_hidden_layers=0),
    "layers in halves": of_config("bad_config", num_hidden_layers=2.5),
    "widths beyond number": of_config("bad_config", intermediate_size=10**9),
    "head_dim negative": of_config("bad_config", head_dim=-32),
    "head_dim a text": of_config("bad_config", head_dim="32"),
    "no experts a token": of_config("bad_config", "omni", *TEXT, num_experts_per_tok=0),
    "dense layers by name": of_config("bad_config", "omni", *TEXT, mlp_only_layers=["first"]),
    "layer types of lists": of_config("bad_config", layer_types=[["full_attention"]] * 3),
    "tied by a text": of_config("bad_config", tie_word_embeddings="yes"),
    "patch_size beyond number": of_config("bad_config", "omni", *VISION, patch_size=10**9, spatial_patch_size=None),
    "patch_size of no sides": of_config("bad_config", "omni", *VISION, patch_size=[]),
    "channels of grey": of_config("unsupported_config", "omni", *VISION, in_channels=1),
    "a tower too wide": of_config("bad_config", "omni", *VISION, out_hidden_size=128),
    "an audio tower too wide": of_config("bad_config", "omni", *AUDIO, output_dim=128),
    "deepstack of texts": of_config("bad_config", "omni", *VISION, deepstack_visual_indexes=["a"]),
    "dtype a number": of_config("bad_config", torch_dtype=16),
    "architectures a number": of_config(LOADS, architectures=5),
    "omni_demo a list": of_config(LOADS, omni_demo=[1]),
    # --- ids ----------------------------------------------------------------------------------------------------------
    "image_token_id beyond": of_config("token_out_of_range", "omni", *THINKER, image_token_id=896),
    "audio_token_id negative": of_config("token_out_of_range", "omni", *THINKER, audio_token_id=-1),
    "image_token_id a number with a point": of_config("bad_config", "omni", *THINKER, image_token_id=862.5),
    "image_token_id true": of_config("bad_config", "omni", *THINKER, image_token_id=True),
    "placeholders alike": of_config("bad_config", "omni", *THINKER, image_token_id=863),
    "end beyond": ("omni", changed("generation_config.json", eos_token_id=[858, 896]), "token_out_of_range"),
    "end negative": ("omni", changed("generation_config.json", eos_token_id=-1), "token_out_of_range"),
    "end a text": ("omni", changed("generation_config.json", eos_token_id="<|im_end|>"), "bad_generation_config"),
    "end a number with a point": ("omni", changed("generation_config.json", eos_token_id=1.5), "bad_generation_config"),
    "end of config.json beyond": of_config("token_out_of_range", eos_token_id=512),
    "end of config.json a text": of_config("bad_config", eos_token_id="end"),
    "a vocabulary too small for the tokenizer": of_config("token_out_of_range", "omni", *TEXT, vocab_size=870),
    "an added token beyond": (
        "omni",
        changed("tokenizer_config.json", "added_tokens_decoder", **{"900": {"content": "<x>", "special": True}}),
        "token_out_of_range",
    ),
    # --- generation_config.json ---------------------------------------------------------------------------------------
    "temperature negative": (
        "omni",
        changed("generation_config.json", do_sample=True, temperature=-1),
        "bad_generation_config",
    ),
    "temperature a text": (
        "omni",
        changed("generation_config.json", do_sample=True, temperature="hot"),
        "bad_generation_config",
    ),
    "top_p above 1": ("omni", changed("generation_config.json", do_sample=True, top_p=1.5), "bad_generation_config"),
    "top_k a list": ("omni", changed("generation_config.json", do_sample=True, top_k=[5]), "bad_generation_config"),
    "do_sample a text": ("omni", changed("generation_config.json", do_sample="yes"), "bad_generation_config"),
    # --- the tokenizer ------------------------------------------------------------------------------------------------
    "a tokenizer of nothing": ("omni", content("tokenizer.json", {}), "bad_tokenizer"),
    "a tokenizer of words": ("omni", changed("tokenizer.json", "model", type="WordPiece"), "bad_tokenizer"),
    "a tokenizer without bytes": ("omni", changed("tokenizer.json", decoder={"type": "WordPiece"}), "bad_tokenizer"),
    "a decoder of a list": ("omni", changed("tokenizer.json", decoder=[1]), "bad_tokenizer"),
    "a vocabulary of a list": ("omni", changed("tokenizer.json", "model", vocab=["a"]), "bad_tokenizer"),
    "a vocabulary of texts": ("omni", changed("tokenizer.json", "model", vocab={"a": "x"}), "bad_tokenizer"),
    "ids negative": ("omni", changed("tokenizer.json", "model", "vocab", a=-5), "bad_tokenizer"),
    "ids doubled": ("omni", changed("tokenizer.json", "model", "vocab", zzzz=5), "bad_tokenizer"),
    "ids beyond number": ("omni", changed("tokenizer.json", "model", "vocab", zzzz=2**40), "bad_tokenizer"),
    "ids beyond the vocabulary": (
        "omni",
        changed("tokenizer.json", "model", "vocab", zzzz=2**30),
        "token_out_of_range",
    ),
    "merges of nothing": ("omni", changed("tokenizer.json", "model", merges=[["q", "zzzz"]]), "bad_tokenizer"),
    "merges of numbers": ("omni", changed("tokenizer.json", "model", merges=[1, 2]), "bad_tokenizer"),
    "a normalizer unknown": ("omni", changed("tokenizer.json", normalizer={"type": "Nothing"}), "bad_tokenizer"),
    "a library that panics as it reads": (
        "omni",
        changed("tokenizer.json", "model", continuing_subword_prefix="#" * 16),
        "bad_tokenizer",
    ),
    "a library that panics as it encodes": (
        "omni",
        changed("tokenizer.json", pre_tokenizer={"type": "FixedLength", "length": 0}),
        "bad_tokenizer",
    ),
    "a normalizer that writes": (
        "omni",
        changed("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [BOMB] * 6}),
        "bad_tokenizer",
    ),
    "a normalizer of its own": (
        "omni",
        changed("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}]}),
        LOADS,
    ),
    "a pattern that is none": (
        "omni",
        changed(
            "tokenizer.json",
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
        ),
        "bad_tokenizer",
    ),
    "added tokens a text": ("omni", changed("tokenizer.json", added_tokens="x"), "bad_tokenizer"),
    "an added token without an id": (
        "omni",
        changed("tokenizer.json", added_tokens=[{"content": "x"}]),
        "bad_tokenizer",
    ),
    "an added token of two ids": (
        "omni",
        changed("tokenizer_config.json", "added_tokens_decoder", **{"880": {"content": "<|im_end|>"}}),
        "bad_tokenizer",
    ),
    "an id of two added tokens": (
        "omni",
        changed("tokenizer_config.json", "added_tokens_decoder", **{"858": {"content": "<|other|>"}}),
        "bad_tokenizer",
    ),
    "added tokens by name": (
        "omni",
        changed("tokenizer_config.json", added_tokens_decoder={"x": {"content": "<|x|>"}}),
        "bad_tokenizer",
    ),
    "added tokens a list": ("omni", changed("tokenizer_config.json", added_tokens_decoder=[1]), "bad_tokenizer"),
    "an end that is a list": (
        "omni",
        lambda d: (removed("generation_config.json")(d), changed("tokenizer_config.json", eos_token=[1])(d)),
        "bad_tokenizer",
    ),
    "merges.txt of lines of three": (
        "omni",
        lambda d: (removed("tokenizer.json")(d), write(d, "merges.txt", b"a b c\n")),
        "bad_tokenizer",
    ),
    "merges.txt not UTF-8": (
        "omni",
        lambda d: (removed("tokenizer.json")(d), write(d, "merges.txt", b"\xff \xfe\n")),
        "bad_text",
    ),
    "vocab.json a list": ("omni", lambda d: (removed("tokenizer.json")(d), write(d, "vocab.json", [1])), "bad_json"),
    # --- the template -------------------------------------------------------------------------------------------------
    "a template nested deep": (
        "omni",
        content("chat_template.jinja", b"{{ " + b"(" * 5000 + b"1" + b")" * 5000 + b" }}"),
        "bad_template",
    ),
    "a template of deep blocks": (
        "omni",
        content("chat_template.jinja", b"{% if 1 %}" * 500 + b"{% endif %}" * 500),
        "bad_template",
    ),
    "a template that is none": ("omni", content("chat_template.jinja", b"{% if %}"), "bad_template"),
    "a template not UTF-8": ("omni", content("chat_template.jinja", b"\xff\xfe"), "bad_template"),
    "templates without a default": (
        "omni",
        content("chat_template.json", {"chat_template": {"tool_use": "x"}}),
        "bad_template",
    ),
    "a template that is a number": ("omni", content("chat_template.json", {"chat_template": 5}), "bad_template"),
    # --- processors ---------------------------------------------------------------------------------------------------
    **{
        f"processor, {name}={value}": ("omni", changed("preprocessor_config.json", **{name: value}), code)
        for name, value, code in (
            ("merge_size", 4, "processor_mismatch"),
            ("patch_size", 14, "processor_mismatch"),
            ("temporal_patch_size", 1, "processor_mismatch"),
            ("feature_size", 80, "processor_mismatch"),
            ("patch_size", 10**9, "bad_processor_config"),
            ("patch_size", 16.5, "bad_processor_config"),
            ("patch_size", "16", "bad_processor_config"),
            ("patch_size", True, "bad_processor_config"),
            ("merge_size", 0, "bad_processor_config"),
            ("max_pixels", 10**30, "bad_processor_config"),
            ("min_pixels", -1, "bad_processor_config"),
            ("min_pixels", [1], "bad_processor_config"),
            ("size", 5, "bad_processor_config"),
            ("size", {"height": 224, "width": 224}, "bad_processor_config"),
            ("size", {"shortest_edge": "a"}, LOADS),  # the older spelling comes first
            ("image_mean", [0.5, 0.5], "bad_processor_config"),
            ("image_mean", 0.5, "bad_processor_config"),
            ("image_mean", ["a", "b", "c"], "bad_processor_config"),
            ("image_mean", [1e30, 0, 0], "bad_processor_config"),
            ("image_std", [0, 0, 0], "bad_processor_config"),
            ("image_std", [1e-30, 1, 1], "bad_processor_config"),
            ("image_std", [True, True, True], "bad_processor_config"),
            ("rescale_factor", -1, "bad_processor_config"),
            ("rescale_factor", "1/255", "bad_processor_config"),
            ("resample", 2, "bad_processor_config"),
            ("image_processor_type", "CLIPImageProcessor", "bad_processor_config"),
            ("image_processor_type", 5, "bad_processor_config"),
            ("processor_class", ["a"], LOADS),
            ("sampling_rate", 10**12, "bad_processor_config"),
            ("n_fft", 400.5, "bad_processor_config"),
            ("hop_length", 0, "bad_processor_config"),
            ("dither", 0.1, "bad_processor_config"),
        )
    },
    "processor, a nested section of a list": (
        "omni",
        content("processor_config.json", {"image_processor": [1]}),
        "bad_processor_config",
    ),
    # --- the index ----------------------------------------------------------------------------------------------------
    **{
        f"index, {name}": ("omni", content("model.safetensors.index.json", value), code)
        for name, value, code in (
            ("no map", {}, "bad_index"),
            ("an empty map", {"weight_map": {}}, "bad_index"),
            ("a list", {"weight_map": ["a"]}, "bad_index"),
            ("numbers", {"weight_map": {"a": 1}}, "bad_index"),
            ("an absent shard", {"weight_map": {"a": "gone.safetensors"}}, "shard_missing"),
            ("a shard above", {"weight_map": {"a": "../x.safetensors"}}, "bad_index"),
            ("a shard elsewhere", {"weight_map": {"a": "/etc/hostname"}}, "bad_index"),
            ("a shard of no name", {"weight_map": {"a": ""}}, "bad_index"),
            ("a shard with a zero byte", {"weight_map": {"a": "x\0y"}}, "bad_index"),
            ("a shard of a long name", {"weight_map": {"a": "x" * 5000}}, "shard_missing"),
            ("a shard that is the directory", {"weight_map": {"a": "."}}, "bad_index"),
            (
                "many absent shards",
                {"weight_map": {str(i): f"gone-{i}.safetensors" for i in range(2000)}},
                "shard_missing",
            ),
            (
                "a tensor that no shard holds",
                {"weight_map": {"nothing": "model-00001-of-00003.safetensors"}},
                "index_mismatch",
            ),
        )
    },
    "index, a tensor in another shard": (
        "omni",
        changed(
            "model.safetensors.index.json",
            "weight_map",
            **{"thinker.lm_head.weight": "model-00001-of-00003.safetensors"},
        ),
        "index_mismatch",
    ),
    "a tensor in two shards": (
        "omni",
        lambda d: write(d, "model-00003-of-00003.safetensors", (d / "model-00002-of-00003.safetensors").read_bytes()),
        "duplicate_tensor",
    ),
    "a shard cut short": (
        "omni",
        lambda d: write(
            d, "model-00003-of-00003.safetensors", (d / "model-00003-of-00003.safetensors").read_bytes()[:-100]
        ),
        "bad_safetensors",
    ),
    # --- safetensors --------------------------------------------------------------------------------------------------
    **{
        f"safetensors, {name}": ("text", content("model.safetensors", raw), code)
        for name, raw, code in (
            ("empty", b"", "bad_safetensors"),
            ("a byte", b"\x01", "bad_safetensors"),
            ("a length alone", (100).to_bytes(8, "little"), "bad_safetensors"),
            ("a length beyond number", b"\xff" * 8 + b"{}", "bad_safetensors"),
            ("no JSON", header(b"{"), "bad_safetensors"),
            ("a name that steers terminals", header({"\x1b[2J\n\u202e\ud800": None}), "bad_safetensors"),
            ("not UTF-8", header(b"\xff\xfe\xff"), "bad_safetensors"),
            ("a list", header([]), "bad_safetensors"),
            ("nested deep", header(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"), "bad_safetensors"),
            ("many digits", header(b'{"a":' + b"9" * 5_000 + b"}"), "bad_safetensors"),
            ("a long shape", header({"a": entry(shape=[2**63 - 1] * 30_000)}), "bad_safetensors"),
            ("33 axes", header({"a": entry(shape=[1] * 33, end=4)}, bytes(4)), "bad_safetensors"),
            ("a size beyond number", header({"a": entry(shape=[2**62, 2**62])}), "bad_safetensors"),
            ("a size with a point", header({"a": entry(shape=[2.0, 2])}), "bad_safetensors"),
            ("a size of true", header({"a": entry(shape=[True, 4])}), "bad_safetensors"),
            ("a size negative", header({"a": entry(shape=[-2, -2])}), "bad_safetensors"),
            ("places of true", header({"a": entry(begin=False, end=True, shape=[])}), "bad_safetensors"),
            ("places backwards", header({"a": entry(begin=16, end=0)}), "bad_safetensors"),
            ("places negative", header({"a": entry(begin=-16, end=0)}), "bad_safetensors"),
            ("places beyond", header({"a": entry(begin=16, end=32)}), "bad_safetensors"),
            ("NaN", header(b'{"a": NaN}'), "bad_safetensors"),
            ("a name twice", header(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)), "bad_safetensors"),
            (
                "a key twice",
                header(b'{"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
                "bad_safetensors",
            ),
            ("an overlap", header({"a": entry(), "b": entry(8, 24)}, bytes(24)), "bad_safetensors"),
            ("the same bytes", header({"a": entry(), "b": entry()}), "bad_safetensors"),
            ("a gap", header({"a": entry(), "b": entry(20, 36)}, bytes(36)), "bad_safetensors"),
            ("a gap ahead", header({"a": entry(4, 20)}, bytes(20)), "bad_safetensors"),
            ("bytes behind", header({"a": entry()}, bytes(17)), "bad_safetensors"),
            ("bytes of nothing", header({}, bytes(4)), "bad_safetensors"),
            ("metadata of a list", header({"__metadata__": [], "a": entry()}), "bad_safetensors"),
            ("metadata of numbers", header({"__metadata__": {"a": 1}, "a": entry()}), "bad_safetensors"),
            ("floats of 8 bits", header({"a": entry(end=4, dtype="F8_E4M3")}, bytes(4)), "unsupported_dtype"),
            ("whole numbers", header({"a": entry(dtype="I32")}), "unsupported_dtype"),
            ("a dtype of a number", header({"a": entry(dtype=5)}), "bad_safetensors"),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_it_comes_to_what_is_declared(outcome, name):
    base, change, declared = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outcome(base, change) == declared


@pytest.mark.parametrize("name", ["GGUF", "model.safetensors", "a folder's file"])
def test_a_file_is_no_directory(bases, tmp_path, name):
    file = {"GGUF": tmp_path / "model.gguf", "a folder's file": bases["text"] / "config.json"}.get(
        name, bases["text"] / name
    )
    if name == "GGUF":
        file.write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(file)
    assert error.value.code == ("gguf" if name == "GGUF" else "not_a_directory")


def test_every_absent_shard_is_a_problem(bases, tmp_path):
    write(tmp_path, "config.json", (bases["text"] / "config.json").read_bytes())
    names = [f"gone-{i:04}.safetensors" for i in range(2000)]
    write(tmp_path, "model.safetensors.index.json", {"weight_map": {name: name for name in names}})
    (tmp_path / "gone-0007.safetensors.incomplete").touch()
    match = r"names 2000 absent shards; a download .* did not end; problems \(2000\): gone-0000"
    with pytest.raises(omni.CheckpointError, match=match) as error:
        omni.load(tmp_path)
    assert list(error.value.problems) == names and str(error.value).endswith(", ...") and len(str(error.value)) <= 500


# --- what is odd, and whole: the numbers are those of the plain checkpoint --------------------------------------------


@pytest.fixture(scope="module")
def logits(bases) -> np.ndarray:
    return omni.load(bases["text"]).logits([1, 2, 3])


def shards(directory: Path, *spellings: str) -> None:
    """The weights in two files, which the index spells so."""
    values = {name: tensor.array.copy() for name, tensor in open_tensors(directory).items()}
    names = list(values)
    (directory / "model.safetensors").unlink()
    weight_map = {}
    for i, spelling in enumerate(spellings):
        part = names[i :: len(spellings)]
        tiny.write_safetensors(directory / f"{i}.safetensors", {name: values[name] for name in part})
        weight_map |= dict.fromkeys(part, spelling.format(directory=directory))
    write(directory, "model.safetensors.index.json", {"weight_map": weight_map})


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (lambda d: shards(d, "./0.safetensors", "1.safetensors"), None),
        (lambda d: shards(d, "{directory}/0.safetensors", "x/../1.safetensors"), None),
        (content("model.safetensors.index.json", {"weight_map": {"a": "gone.safetensors"}}), "names other files"),
        (changed("config.json", some_future_field=[1, 2]), "nothing here reads: some_future_field"),
        (changed("config.json", rope_scaling={"rope_type": "default"}), None),
    ],
    ids=["./", "in full", "a single file beside a stale index", "a field that nobody knows", "rope_scaling of no kind"],
)
def test_it_gives_the_same_logits(bases, tmp_path, logits, change, warned):
    for path in bases["text"].iterdir():
        os.link(path, tmp_path / path.name)
    change(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = omni.load(tmp_path)
    text = " ".join(str(warning.message) for warning in caught if warning.category is UserWarning)
    assert re.search(warned, text) if warned else not text
    np.testing.assert_array_equal(model.logits([1, 2, 3]), logits)


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (-np.inf, "bfloat16"), (np.inf, "float16")], ids=str)
def test_weights_that_are_not_finite_are_named(bases, tmp_path, value, dtype):
    values = {name: tensor.array.copy() for name, tensor in open_tensors(bases["text"]).items()}
    chosen = ("model.layers.1.mlp.up_proj.weight", "model.norm.weight")
    for name in chosen:
        values[name].flat[7] = value
    tiny.write_safetensors(tmp_path / "model.safetensors", values, dtype)
    write(tmp_path, "config.json", (bases["text"] / "config.json").read_bytes())
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(tmp_path)
    assert error.value.code == "weights_not_finite" and error.value.problems == chosen
    assert omni.load(tmp_path, check_finite=False).config.text is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_number_is_finite_and_nothing_else_is(dtype):
    """All patterns of 16 bits; of float32 those with every exponent."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = (bits.astype(np.uint32) << 16 if dtype is np.float32 else bits).view(dtype)
    finite = np.isfinite(values.astype(np.float32))
    assert is_finite(values[finite]) and finite.sum() not in (0, len(values))
    assert not any(is_finite(values[i : i + 1]) for i in np.flatnonzero(~finite)[::7])
    assert is_finite(values[:0])


def test_ctrl_c_ends_a_download_and_what_runs_for_it(monkeypatch):
    ended = threading.Event()

    def download(*_: object, tqdm_class: type, **__: object) -> str:
        bar = tqdm_class(disable=True)
        try:
            for _ in range(300):
                time.sleep(0.1)
                bar.update(1)
        finally:
            ended.set()
        raise AssertionError("it went on to the end")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    threading.Timer(0.5, _thread.interrupt_main).start()
    began = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        omni.load("Someone/Tiny")
    assert time.process_time() - began < 10
    assert ended.wait(1)


def test_ctrl_c_stays_what_it_is_within_a_library(bases, monkeypatch):
    """JAX, for one, makes a ValueError of whatever is raised while it compares."""

    def fail(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ValueError("while checking equality") from error

    monkeypatch.setattr("omni.loading.abstract_parts", fail)
    with pytest.raises(KeyboardInterrupt):
        omni.load(bases["text"])


def test_what_the_cache_lacks_is_said_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "socket", None)  # no socket is made, of whatever kind
    with pytest.raises(
        omni.CheckpointError, match=r"Someone/Tiny at revision v1 is not whole in the hub's cache"
    ) as error:
        omni.load("Someone/Tiny", revision="v1", offline=True)
    assert error.value.code == "not_cached"


OPTIONS = """
revision="v1" | revision="" | revision=5 | revision="x" * 500 | offline="yes" | offline=None | limits={}
sources="https" | parts=5 | parts=() | parts=[5] | parts=["video"]
dtype=object() | dtype="int8" | dtype="no such" | dtype=[]
"""


def test_options_that_cannot_be_used(bases):
    """As users run it, without the tests' type checks."""
    options = [option.strip() for option in OPTIONS.strip().replace("\n", "|").split("|")]
    code = """
import json, sys, omni
for option in json.loads(sys.argv[2]):
    try:
        eval(f"omni.load(sys.argv[1], {option})")
        print("accepted")
    except omni.CheckpointError as error:
        print("at an address" if " at 0x" in str(error) else error.code)
"""
    command = [sys.executable, "-c", code, str(bases["text"]), json.dumps(options)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert dict(zip(options, result.stdout.split(), strict=True)) == dict.fromkeys(options, "bad_option")


def test_limits_and_sources_reach_every_processor(bases):
    limits, sources = omni.Limits(image_pixels=10_000), omni.Sources(schemes=("data",))
    model = omni.load(bases["omni"], parts="audio", limits=limits, sources=sources)
    for holder in (model.media, model.media.image, model.media.video, model.media.audio):
        assert (holder.access.limits, holder.access.sources) == (limits, sources)
    with pytest.raises(omni.InputError) as error:
        model.encode(omni.Audio("https://example.org/a.wav"))
    assert error.value.code == "source_scheme"


# --- ends of text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        (lambda _: None, {858, 856}),
        (removed("generation_config.json"), {858}),
        (content("generation_config.json", {"eos_token_id": None}), {858}),
        (content("generation_config.json", {"eos_token_id": []}), {858}),
        (
            lambda d: (removed("generation_config.json")(d), changed("config.json", eos_token_id=856)(d)),
            {856, 858},
        ),
        (
            lambda d: (removed("generation_config.json")(d), changed("config.json", *THINKER, eos_token_id=[857])(d)),
            {857, 858},
        ),
        (
            lambda d: (removed("generation_config.json")(d), changed("config.json", *TEXT, eos_token_id=857)(d)),
            {857, 858},
        ),
        (
            lambda d: (
                removed("generation_config.json")(d),
                changed("tokenizer_config.json", eos_token={"content": "<|endoftext|>"})(d),
            ),
            {856},
        ),
        (
            lambda d: (
                removed("generation_config.json")(d),
                changed("tokenizer_config.json", eos_token=None)(d),
                write(d, "special_tokens_map.json", {"eos_token": "<|im_start|>"}),
            ),
            {857},
        ),
    ],
)
def test_ends_of_text(bases, tmp_path, change, ends):
    for path in bases["omni"].iterdir():
        os.link(path, tmp_path / path.name)
    change(tmp_path)
    _, config = read_config(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert set(_generation(tmp_path, raw, config, tokenizer).eos_token_ids) == ends
