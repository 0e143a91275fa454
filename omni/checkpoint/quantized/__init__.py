"""Quantised checkpoints as they are published: what config.json says of them, and their weights as plain ones.

Each method is a module of its own behind `Method`. A weight takes the place of the tensors that it is packed in, under
the name and with the shape that it has in files that are not quantised, so that nothing else knows of it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omni.checkpoint.json_file import read_json
from omni.checkpoint.quantized.awq import AWQ
from omni.checkpoint.quantized.compressed_tensors import CompressedTensors
from omni.checkpoint.quantized.fp8 import FP8
from omni.checkpoint.quantized.gptq import GPTQ
from omni.checkpoint.quantized.method import Method, Unsupported
from omni.checkpoint.quantized.packed import PackedTensor
from omni.errors import CheckpointError, is_whole

__all__ = ["METHODS", "Method", "PackedTensor", "read_method", "without_quantization"]

METHODS: Mapping[str, Callable[[Mapping[str, Any]], Method]] = {
    "fp8": FP8,
    "compressed-tensors": CompressedTensors,
    "awq": AWQ,
    "gptq": GPTQ,
}
_FIELD = "quantization_config"
_OTHERS = ("compression_config", "quantization")
# By these other programs say of a directory what its config.json does not.
_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quantization_config.json")
# Parts that turn text into speech, which are not loaded.
_SPEECH = ("talker_config", "code2wav_config", "token2wav_config")


def read_method(directory: Path) -> Method | None:
    """What the weights of a directory are quantised with; None where they are not.

    Raises:
        CheckpointError: `quantised`, it is something that is not read.
    """
    settings = list(_settings(read_json(directory / "config.json")))
    if not settings:
        for name in _FILES:
            if (directory / name).is_file():
                raise _refusal(f"something that {name} tells of and config.json does not")
        return None
    if any(other != settings[0] for other in settings):
        raise _refusal("several methods")
    name, config = settings[0]
    method = config.get("quant_method") or config.get("quant_algo")
    if name != _FIELD or not isinstance(method, str) or method not in METHODS:
        bits = f"{config['bits']} bits" if is_whole(config.get("bits")) else name
        loaded = "bitsandbytes" if any(field.startswith(("load_in_", "_load_in_", "bnb_")) for field in config) else ""
        raise _refusal(str(method or loaded or bits)[:60])
    try:
        return METHODS[method](config)
    except Unsupported as error:
        raise _refusal(str(error)) from None


def without_quantization(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what it says of quantisation, at any level."""
    inner = {name: without_quantization(value) for name, value in raw.items() if isinstance(value, Mapping)}
    return {name: inner.get(name, value) for name, value in raw.items() if name not in (_FIELD, *_OTHERS)}


def _settings(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in raw.items():
        if name in (_FIELD, *_OTHERS) and value:
            yield name, value if isinstance(value, Mapping) else {}
        elif isinstance(value, Mapping) and name not in _SPEECH:
            yield from _settings(value)


def _refusal(what: str) -> CheckpointError:
    message = f"the weights are quantised with {what}, which is not read, as FP8, compressed-tensors, AWQ and GPTQ are"
    return CheckpointError(f"{message}; load the bfloat16 checkpoint that they were made from", code="quantised")
