"""FP8 as Qwen and DeepSeek publish it: floats of 8 bits (e4m3), a scale for each block of 128 x 128 or for each tensor.

The format is that of `quant_method: "fp8"` in transformers (`FineGrainedFP8Config`). Activations, which it quantises as
it computes, stay as they are here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from omni.checkpoint.quantized.method import Method, Misfit, Parts, Unsupported, expect, listed
from omni.checkpoint.quantized.packed import BytesTensor, PackedTensor
from omni.checkpoint.safetensors import StoredTensor
from omni.errors import is_whole, shown

FLOAT8 = np.dtype(ml_dtypes.float8_e4m3fn)
SCALES = (np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e8m0fnu)
_SCALES = ("_scale_inv", "_scales_inv", "_scale")


class FP8(Method):
    """Settings of `quant_method: "fp8"`."""

    # By the weight's own name, as experts that lie in one tensor have no module.
    suffix = ""
    endings = ("", *_SCALES)

    def __init__(self, config: Mapping[str, Any]):
        if config.get("fmt", "e4m3") != "e4m3":
            raise Unsupported(f"fp8 of the format {shown(config['fmt'])}")
        block = config.get("weight_block_size", [128, 128])
        fits = isinstance(block, list) and len(block) == 2 and all(is_whole(n) and 0 < n < 1 << 31 for n in block)
        if block is not None and not fits:
            raise Unsupported("fp8 with a weight_block_size that is not two numbers")
        self._block = None if block is None else (block[0], block[1])
        self.plain = listed(config, "modules_to_not_convert", "ignored_layers")
        self.name = "FP8, a scale a tensor" if block is None else f"FP8, a scale a block of {block[0]} x {block[1]}"

    def stems(self, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
        """Names of the tensors of 8 bits."""
        return (name for name, tensor in stored.items() if tensor.dtype == FLOAT8)

    def weight(self, parts: Parts, dtype: np.dtype) -> PackedTensor:
        """The weight that lies in some tensors."""
        codes = parts.need("", FLOAT8)
        if len(codes.shape) < 2:
            raise Misfit(f"is of {len(codes.shape)} axes")
        held = next((ending for ending in _SCALES if ending in parts.tensors), _SCALES[0])
        scales = parts.need(held, *SCALES)
        *stack, rows, columns = codes.shape
        block = self._block or (max(rows, 1), max(columns, 1))
        tensor = BytesTensor(parts.name, codes.shape, dtype, block, scales, None, codes)
        alone = [(*stack,), (*stack, 1)] if self._block is None else []
        expect(scales, (*stack, *tensor.blocks), *alone)
        return tensor
