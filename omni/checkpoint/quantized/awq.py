"""AWQ as AutoAWQ writes it for its `gemm` kernels: integers of 4 bits with a zero point and a scale a group of inputs.

Tensors have inputs down and outputs across; a word of 32 bits holds those of eight outputs, in an order of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from omni.checkpoint.quantized.method import Method, Misfit, Parts, Unsupported, expect, group, listed
from omni.checkpoint.quantized.packed import PackedTensor, Place, unpack
from omni.checkpoint.safetensors import StoredTensor
from omni.errors import shown

SCALES = (np.float16, np.float32, ml_dtypes.bfloat16)
# Where in a word, counted from the lowest bits, the numbers of eight outputs lie.
_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]


class AWQ(Method):
    """Settings of `quant_method: "awq"`."""

    endings = (".qweight", ".qzeros", ".scales", ".g_idx")

    def __init__(self, config: Mapping[str, Any]):
        form = config.get("version") or config.get("checkpoint_format") or config.get("format") or "gemm"
        if str(form).lower() != "gemm":
            raise Unsupported(f"AWQ in the version {shown(form)}")
        if config.get("bits", config.get("w_bit", 4)) != 4:
            raise Unsupported(f"AWQ with bits={shown(config.get('bits', config.get('w_bit')))}")
        if config.get("zero_point", True) is not True:
            raise Unsupported("AWQ without zero points")
        self._group = group({"group_size": config.get("q_group_size"), **config}, "AWQ")
        self.plain = listed(config, "modules_to_not_convert")
        self.name = f"AWQ, int4, a scale a {'row' if self._group is None else f'block of {self._group}'}"

    def stems(self, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
        """Names of the modules that are quantised."""
        return (name.removesuffix(".qweight") for name in stored if name.endswith(".qweight"))

    def weight(self, parts: Parts, dtype: np.dtype) -> PackedTensor:
        """The weight that lies in some tensors."""
        words = parts.need(".qweight", np.int32)
        if len(words.shape) != 2:
            raise Misfit(f"is of {len(words.shape)} axes")
        columns, rows = words.shape[0], 8 * words.shape[1]
        size = self._group or max(columns, 1)
        if columns % size:
            raise Misfit(f"is {columns} wide, which groups of {size} do not divide")
        zeros = expect(parts.need(".qzeros", np.int32), (columns // size, rows // 8))
        scales = expect(parts.need(".scales", *SCALES), (columns // size, rows))
        return AWQTensor(parts.name, (rows, columns), dtype, (1, size), scales, zeros, words)


@dataclass(frozen=True, eq=False)
class AWQTensor(PackedTensor):
    """A weight in words of eight outputs.

    Attributes:
        words: int32 [columns, rows / 8].
    """

    words: StoredTensor

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest code."""
        return 0, 15

    def codes(self, place: Place, rows: slice) -> np.ndarray:
        """Rows of the matrix of codes, as many as words hold."""
        return _outputs(self.words.array[:, rows.start // 8 : rows.stop // 8])

    def read_scales(self, place: Place) -> np.ndarray:
        """The scales, a row for each output."""
        return np.ascontiguousarray(self.scales.array.T).astype(np.float32)

    def read_zeros(self, place: Place) -> np.ndarray | None:
        """The zero points, likewise."""
        assert self.zeros is not None
        return _outputs(self.zeros.array)


def _outputs(words: np.ndarray) -> np.ndarray:
    """Numbers [outputs, inputs] from words [inputs, outputs / 8]."""
    numbers = unpack(words, 4)[..., _ORDER].reshape(len(words), -1)
    return np.ascontiguousarray(numbers.T)
