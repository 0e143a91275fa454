"""Quantised weights as they are published: single ones, and the checkpoints of text_families.py. NumPy and ml_dtypes.

Weights are quantised plainly, to the nearest number; what matters is how the numbers lie in the files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tests.golden.text_families import CONFIGS, tensors
from tests.golden.tiny import draw

FLOAT8, BFLOAT16 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.bfloat16)
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "int32": "I32", "int64": "I64"}
_CODES |= {"float8_e4m3fn": "F8_E4M3", "float8_e8m0fnu": "F8_E8M0"}
_AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]
Tensors = dict[str, np.ndarray]


def compressed_tensors(form: str, **weights: Any) -> dict[str, Any]:
    """The settings of one group for all linear layers."""
    defaults = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None}
    group = {"targets": ["Linear"], "weights": {**defaults, **weights}, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*mlp.gate$"],
    }


def fp8(*block: int) -> dict[str, Any]:
    return {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": list(block) or None,
        "modules_to_not_convert": ["lm_head", *(f"model.layers.{i}.mlp.gate" for i in range(8))],
    }


def awq(group: int) -> dict[str, Any]:
    return {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}


def gptq(bits: int, group: int, form: str = "gptq", **rest: Any) -> dict[str, Any]:
    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": form}
    return {**settings, "desc_act": False, "sym": False, "lm_head": False, **rest}


# Settings, the weight's shape, and the dtype of its scales.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...], str]] = {
    "fp8_blocks_of_128": (fp8(128, 128), (256, 128), "bfloat16"),
    "fp8_blocks": (fp8(16, 32), (48, 96), "float32"),
    "fp8_uneven_blocks": (fp8(16, 32), (40, 72), "float32"),
    "fp8_tensor": (fp8(), (24, 40), "float32"),
    "fp8_experts": (fp8(16, 16), (3, 32, 48), "bfloat16"),
    "ct_int8_rows": (compressed_tensors("int-quantized"), (24, 100), "bfloat16"),
    "ct_int8_rows_asymmetric": (compressed_tensors("int-quantized", symmetric=False), (24, 100), "float32"),
    "ct_int8_tensor": (compressed_tensors("int-quantized", strategy="tensor"), (24, 40), "bfloat16"),
    "ct_int8_words": (
        compressed_tensors("pack-quantized", strategy="group", group_size=64),
        (20, 128),
        "bfloat16",
    ),
    "ct_int4_groups_of_32": (
        compressed_tensors("pack-quantized", num_bits=4, strategy="group", group_size=32),
        (20, 96),
        "bfloat16",
    ),
    "ct_int4_groups_of_128_asymmetric": (
        compressed_tensors("pack-quantized", num_bits=4, strategy="group", group_size=128, symmetric=False),
        (20, 256),
        "bfloat16",
    ),
    "ct_int4_rows": (compressed_tensors("pack-quantized", num_bits=4), (20, 100), "bfloat16"),
    "ct_int4_rows_asymmetric": (compressed_tensors("pack-quantized", num_bits=4, symmetric=False), (21, 36), "float32"),
    "ct_fp8_rows": (compressed_tensors("float-quantized", type="float"), (24, 100), "bfloat16"),
    "ct_fp8_tensor": (compressed_tensors("float-quantized", type="float", strategy="tensor"), (24, 40), "bfloat16"),
    "ct_fp8_blocks": (
        compressed_tensors("float-quantized", type="float", strategy="block", block_structure=[16, 32]),
        (40, 96),
        "bfloat16",
    ),
    **{f"awq_groups_of_{size}": (awq(size), (24, 128), "float16") for size in (32, 64, 128, -1)},
    "gptq_int4_groups_of_32": (gptq(4, 32, sym=True), (24, 128), "float16"),
    "gptq_int4_groups_of_64": (gptq(4, 64), (24, 128), "float16"),
    "gptq_int4_groups_of_128_v2": (gptq(4, 128, "gptq_v2"), (24, 256), "float16"),
    "gptq_int4_by_weight": (gptq(4, 32, desc_act=True), (24, 128), "float16"),
    "gptq_int4_by_weight_v2": (gptq(4, 32, "gptq_v2", desc_act=True), (24, 128), "float16"),
    "gptq_int8_groups_of_64": (gptq(8, 64), (24, 128), "float16"),
    "gptq_int8_groups_of_64_v2": (gptq(8, 64, "gptq_v2"), (24, 128), "float16"),
    "gptq_int8_rows": (gptq(8, -1, sym=True), (24, 96), "float16"),
}
# Settings, and which checkpoint of text_families.py. The sizes of these are no multiples of 128.
CHECKPOINTS: dict[str, tuple[dict[str, Any], str]] = {
    "fp8": (fp8(16, 16), "qwen3_moe"),
    "ct_int8": (compressed_tensors("int-quantized"), "qwen3"),
    "ct_int4": (
        compressed_tensors("pack-quantized", num_bits=4, strategy="group", group_size=32, symmetric=False),
        "qwen3_tied",
    ),
    "awq": (awq(16), "qwen3_moe"),
    "gptq": (gptq(4, 16, desc_act=True), "qwen3_moe"),
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of which some rows, and some groups of columns, are of one sign, so that zero points are at the ends."""
    drawn = draw(name, shape, 0.0, 0.02)
    drawn[..., 0:3, :] = abs(drawn[..., 0:3, :])
    drawn[..., 3:5, :] = -abs(drawn[..., 3:5, :])
    return drawn


def pack(config: Mapping[str, Any], values: np.ndarray, scales: str = "float32") -> Tensors:
    """The tensors that a weight is stored in: ending -> array; for FP8 that of the weight itself is empty."""
    match config["quant_method"]:
        case "fp8":
            return _pack_fp8(config["weight_block_size"], values, scales)
        case "compressed-tensors":
            group = config["config_groups"]["group_0"]["weights"]
            return _pack_compressed(config["format"], group, values, scales)
        case "awq":
            return _pack_awq(config["group_size"], values, scales)
        case _:
            return _pack_gptq(config, values, scales)


def _blocks(values: np.ndarray, block: tuple[int, ...]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The largest magnitude of each block, and its place spread over all of the block."""
    rows, columns = (np.arange(size) // step for size, step in zip(values.shape[-2:], block, strict=True))
    most = np.zeros((*values.shape[:-2], rows[-1] + 1, columns[-1] + 1), np.float32)
    places: Any = (rows[:, None], columns[None])
    index: Any = (..., *places)
    np.maximum.at(most, index, abs(values))
    return most, places


def _float8(values: np.ndarray, block: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    most, (rows, columns) = _blocks(values, block)
    scales = (most / 448).astype(dtype)
    return (values / scales.astype(np.float32)[..., rows, columns]).astype(FLOAT8), scales


def _pack_fp8(block: list[int] | None, values: np.ndarray, dtype: str) -> Tensors:
    codes, scales = _float8(values, (block[0], block[1]) if block else values.shape[-2:], dtype)
    return {"": codes, "_scale_inv": scales if block else scales.reshape(())}


def _grid(
    values: np.ndarray, bits: int, blocks: np.ndarray, symmetric: bool, dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes from 0 on, [rows, columns]; zero points and scales, [rows, blocks].

    Args:
        values: a matrix.
        bits: of a code.
        blocks: the block of each column.
        symmetric: whether the zero point is the middle one.
        dtype: of the scales.
    """
    most, count = (1 << bits) - 1, int(blocks.max()) + 1
    low, high = (np.zeros((len(values), count), np.float32) for _ in range(2))
    places: Any = (slice(None), blocks)
    np.minimum.at(low, places, values)
    np.maximum.at(high, places, values)
    if symmetric:
        scales = (2 * np.maximum(-low, high) / most).astype(dtype)
        zeros = np.full(scales.shape, (most + 1) // 2)
    else:
        scales = ((high - low) / most).astype(dtype)
        zeros = np.clip(np.rint(-low / scales.astype(np.float32)), 0, most).astype(int)
    codes = np.rint(values / scales.astype(np.float32)[:, blocks]) + zeros[:, blocks]
    return np.clip(codes, 0, most).astype(int), zeros, scales


def words(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Numbers along the last axis in words of 32 bits, the first in the lowest bits."""
    each = 32 // bits
    padded = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % each)])
    parts = padded.reshape(*numbers.shape[:-1], -1, each).astype(np.uint32) << (bits * np.arange(each, dtype=np.uint32))
    return np.bitwise_or.reduce(parts, axis=-1).view(np.int32)


def _pack_compressed(form: str, group: Mapping[str, Any], values: np.ndarray, dtype: str) -> Tensors:
    rows, columns = values.shape
    strategy, bits = group["strategy"], group["num_bits"]
    if group["type"] == "float":
        block = {"tensor": values.shape, "channel": (1, columns), "block": group.get("block_structure")}[strategy]
        codes, scales = _float8(values, block, dtype)
        return {".weight": codes, ".weight_scale": scales.reshape(1) if strategy == "tensor" else scales}
    size = group["group_size"] or columns
    flat = values.reshape(1, -1) if strategy == "tensor" else values
    blocks = np.zeros(flat.shape[1], int) if strategy == "tensor" else np.arange(columns) // size
    codes, zeros, scales = _grid(flat, bits, blocks, group["symmetric"], dtype)
    codes, half = codes.reshape(rows, columns), 1 << (bits - 1)
    found = {".weight_scale": scales.reshape(1) if strategy == "tensor" else scales}
    if form == "pack-quantized":
        found |= {".weight_packed": words(codes, bits), ".weight_shape": np.array([rows, columns])}
        zero = np.ascontiguousarray(words(zeros.T, bits).T)
    else:
        found[".weight"] = (codes - half).astype(np.int8)
        zero = (zeros - half).astype(np.int8)
    return found if group["symmetric"] else found | {".weight_zero_point": zero}


def _pack_awq(group: int, values: np.ndarray, dtype: str) -> Tensors:
    size = values.shape[1] if group == -1 else group
    codes, zeros, scales = _grid(values, 4, np.arange(values.shape[1]) // size, False, dtype)
    place = np.argsort(_AWQ_ORDER)

    def across(numbers: np.ndarray) -> np.ndarray:
        parts = numbers.T.reshape(numbers.shape[1], -1, 8)
        return words(parts[..., place].reshape(len(parts), -1), 4)

    return {".qweight": across(codes), ".qzeros": across(zeros), ".scales": np.ascontiguousarray(scales.T)}


def _pack_gptq(config: Mapping[str, Any], values: np.ndarray, dtype: str) -> Tensors:
    bits, columns = config["bits"], values.shape[1]
    size = columns if config["group_size"] == -1 else config["group_size"]
    order = np.arange(columns)
    if config["desc_act"]:
        order = np.random.RandomState(columns).permutation(columns)
    blocks = np.empty(columns, np.int32)
    blocks[order] = np.arange(columns) // size
    codes, zeros, scales = _grid(values, bits, blocks, config["sym"], dtype)
    packed = words(zeros.T, bits)
    if config["checkpoint_format"] == "gptq":
        packed = (packed.view(np.uint32) - np.uint32({4: 0x11111111, 8: 0x01010101}[bits])).view(np.int32)
    return {
        ".qweight": np.ascontiguousarray(words(codes, bits).T),
        ".qzeros": packed,
        ".scales": np.ascontiguousarray(scales.T),
        ".g_idx": blocks,
    }


def is_quantised(name: str) -> bool:
    """Whether this tensor of a checkpoint is a linear layer's that quantisers take."""
    return name.endswith("_proj.weight")


def packed(config: Mapping[str, Any], family: str, scales: str = "float32") -> Tensors:
    """All tensors of a quantised checkpoint."""
    found: Tensors = {}
    for name, value in tensors(CONFIGS[family]):
        if not is_quantised(name):
            found[name] = value
            continue
        stem = name if config["quant_method"] == "fp8" else name.removesuffix(".weight")
        found |= {stem + ending: array for ending, array in pack(config, value, scales).items()}
    return found


def write_tensors(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Writes one safetensors file, each array in its own dtype."""
    header, body, at = {}, [], 0
    for name, value in values.items():
        body.append(np.ascontiguousarray(value).tobytes())
        end = at + len(body[-1])
        header[name] = {"dtype": _CODES[value.dtype.name], "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(body))


def write_quantized(directory: Path, name: str, dtype: str = "float32") -> Path:
    """Writes a checkpoint of CHECKPOINTS.

    Args:
        directory: where to.
        name: which.
        dtype: that config.json names.
    """
    settings, family = CHECKPOINTS[name]
    directory.mkdir(parents=True, exist_ok=True)
    classes = {"qwen3": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM"}
    model_type = CONFIGS[family]["model_type"]
    config = CONFIGS[family] | {"architectures": [classes[model_type]], "torch_dtype": dtype}
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": settings}, indent=2))
    scales = "float16" if name in ("awq", "gptq") else "float32"
    write_tensors(directory / "model.safetensors", packed(settings, family, scales))
    return directory
