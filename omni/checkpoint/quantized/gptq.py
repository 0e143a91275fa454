"""GPTQ as AutoGPTQ and GPTQModel write it: integers of 4 or 8 bits with a zero point and a scale a group of inputs.

Tensors have inputs down and outputs across, and a word of 32 bits holds the numbers of 8 or 4 inputs. `g_idx` tells
the group of each input: where the quantiser took inputs by what they weigh (`desc_act`), groups are not of neighbours.
The first form of the format keeps each zero point less 1, the second (`gptq_v2`) as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni.checkpoint.quantized.awq import SCALES
from omni.checkpoint.quantized.compressed_tensors import checked
from omni.checkpoint.quantized.method import Method, Misfit, Parts, Unsupported, expect, group, whole
from omni.checkpoint.quantized.packed import PackedTensor, Place, unpack
from omni.checkpoint.safetensors import StoredTensor
from omni.errors import shown

# Added to a word of zero points, this raises each by 1.
_ONES = {4: np.uint32(0x11111111), 8: np.uint32(0x01010101)}


class GPTQ(Method):
    """Settings of `quant_method: "gptq"`."""

    endings = (".qweight", ".qzeros", ".scales", ".g_idx")

    def __init__(self, config: Mapping[str, Any]):
        form = config.get("checkpoint_format") or config.get("format") or "gptq"
        if form not in ("gptq", "gptq_v2") or config.get("is_marlin_format"):
            raise Unsupported(f"GPTQ in the format {shown('marlin' if config.get('is_marlin_format') else form)}")
        if config.get("pack_dtype", "int32") != "int32":
            raise Unsupported(f"GPTQ in words of {shown(config['pack_dtype'])}")
        bits = whole(config, "bits", "GPTQ")
        if bits not in _ONES:
            raise Unsupported(f"GPTQ with bits={bits}")
        self._bits, self._lowered = bits, form == "gptq"
        self._group = group({"group_size": 128, **config}, "GPTQ")
        # Bits and groups of single modules, by regular expressions; the tensors tell as well.
        self._by_module = bool(config.get("dynamic"))
        self.name = f"GPTQ, int{bits}, a scale a {'row' if self._group is None else f'block of {self._group}'}"

    def stems(self, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
        """Names of the modules that are quantised."""
        return (name.removesuffix(".qweight") for name in stored if name.endswith(".qweight"))

    def weight(self, parts: Parts, dtype: np.dtype) -> PackedTensor:
        """The weight that lies in some tensors."""
        words = parts.need(".qweight", np.int32)
        scales = parts.need(".scales", *SCALES)
        if len(words.shape) != 2 or len(scales.shape) != 2 or 0 in words.shape + scales.shape:
            raise Misfit("is of no shape that a matrix has")
        order = parts.get(".g_idx", np.int32)
        bits, (down, rows) = self._bits, words.shape
        if self._by_module and order is not None and len(order.shape) == 1:
            bits = next((bits for bits in _ONES if order.shape[0] * bits == 32 * down), bits)
        columns = down * 32 // bits
        size = self._group or columns
        if self._by_module:
            size = -(-columns // scales.shape[0])
        blocks = -(-columns // size)
        zeros = expect(parts.need(".qzeros", np.int32), (blocks, -(-rows * bits // 32)))
        expect(scales, (blocks, rows))
        if order is not None:
            expect(order, (columns,))
        return GPTQTensor(
            parts.name, (rows, columns), dtype, (1, size), scales, zeros, words, bits, order, self._lowered
        )


@dataclass(frozen=True, eq=False)
class GPTQTensor(PackedTensor):
    """A weight in words of several inputs.

    Attributes:
        words: int32 [columns * bits / 32, rows].
        bits: of a number.
        order: the group of each column; consecutive ones when None.
        lowered: whether zero points are kept less 1.
    """

    words: StoredTensor
    bits: int
    order: StoredTensor | None
    lowered: bool

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest code."""
        return 0, (1 << self.bits) - 1

    def codes(self, place: Place, rows: slice) -> np.ndarray:
        """Rows of the matrix of codes."""
        numbers = np.moveaxis(unpack(self.words.array[:, rows], self.bits), 1, 0)
        return np.ascontiguousarray(numbers).reshape(len(numbers), -1)

    def read_scales(self, place: Place) -> np.ndarray:
        """The scales, a row for each output."""
        return np.ascontiguousarray(self.scales.array.T).astype(np.float32)

    def read_zeros(self, place: Place) -> np.ndarray | None:
        """The zero points, likewise."""
        assert self.zeros is not None
        words = self.zeros.array.view(np.uint32)
        # Over the whole word, as it was taken off: where a zero point was 0, it was borrowed from the next.
        words = words + _ONES[self.bits] if self.lowered else words
        return np.ascontiguousarray(unpack(words, self.bits).reshape(len(words), -1)[:, : self.shape[0]].T)

    def column_blocks(self) -> np.ndarray | None:
        """The block of each column, where blocks are not of consecutive columns."""
        if self.order is None:
            return None
        order = checked(self.order, self.blocks[1])
        return None if np.array_equal(order, np.arange(len(order)) // self.block[1]) else order
