"""compressed-tensors, in which llm-compressor publishes: integers of 4 and 8 bits, and FP8.

The format is that of the library of that name (`quant_method: "compressed-tensors"`). Of its forms are read those whose
weights lie as bytes (int-quantized, float-quantized, naive-quantized) or in words of 32 bits (pack-quantized).
Activations and caches, which some of its schemes quantise as they compute, stay as they are here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni.checkpoint.quantized.fp8 import FLOAT8, SCALES
from omni.checkpoint.quantized.method import Method, Misfit, Parts, Unsupported, expect, listed, whole
from omni.checkpoint.quantized.packed import BytesTensor, PackedTensor, Place, unpack
from omni.checkpoint.safetensors import StoredTensor
from omni.errors import CheckpointError, is_whole, shown

_NAME = "compressed-tensors"
_AS_BYTES = ("int-quantized", "float-quantized", "naive-quantized")
_PACKED = "pack-quantized"


@dataclass(frozen=True)
class Scheme:
    """How some of the weights are quantised.

    Attributes:
        packed: whether they lie in words of 32 bits.
        bits: of a number.
        kind: "int" or "float".
        block: rows and columns that share a scale; 0 where that is all of them.
    """

    packed: bool
    bits: int
    kind: str
    block: tuple[int, int]

    def __str__(self) -> str:
        scope = {(0, 0): "a tensor", (1, 0): "a row"}.get(self.block)
        size = " x ".join(map(str, self.block if self.block[0] > 1 else self.block[1:]))
        return f"{self.kind}{self.bits}, a scale {scope or f'a block of {size}'}"


class CompressedTensors(Method):
    """Settings of `quant_method: "compressed-tensors"`."""

    endings = (".weight_packed", ".weight", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx")

    def __init__(self, config: Mapping[str, Any]):
        for name in ("sparsity_config", "transform_config"):
            held = config.get(name) or {}
            if held and not (isinstance(held, Mapping) and held.get("format") == "dense"):
                raise Unsupported(f"{_NAME} with a {name}")
        groups = config.get("config_groups")
        if not isinstance(groups, Mapping) or not groups:
            raise Unsupported(f"{_NAME} without config_groups")
        # Groups without weights are of activations alone.
        found = (_scheme(value, config) for value in groups.values() if not _is_without_weights(value))
        self._schemes = list(dict.fromkeys(found))
        if not self._schemes:
            raise Unsupported(f"{_NAME} of activations alone")
        self.plain = listed(config, "ignore")
        self.name = f"{_NAME}, {' and '.join(map(str, self._schemes[:4]))}"

    def stems(self, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
        """Names of the modules that are quantised."""
        for name, tensor in stored.items():
            if name.endswith(".weight_packed"):
                yield name.removesuffix(".weight_packed")
            elif name.endswith(".weight") and tensor.dtype in (np.int8, FLOAT8):
                yield name.removesuffix(".weight")

    def weight(self, parts: Parts, dtype: np.dtype) -> PackedTensor:
        """The weight that lies in some tensors, by the scheme that fits them.

        Which module has which scheme is told by regular expressions in config.json, and by the tensors themselves.
        """
        misfit = Misfit("is packed as no scheme in config.json is")
        for scheme in self._schemes:
            try:
                found = _packed(parts, scheme, dtype) if scheme.packed else _as_bytes(parts, scheme, dtype)
            except Misfit as error:
                misfit = error
                continue
            if found is not None:
                return found
        raise misfit


def _is_without_weights(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("weights") is None


def _scheme(entry: Any, config: Mapping[str, Any]) -> Scheme:
    weights = entry.get("weights") if isinstance(entry, Mapping) else None
    if not isinstance(weights, Mapping):
        raise Unsupported(f"{_NAME} with a group that is no settings")
    form = entry.get("format") or config.get("format")
    if form not in (*_AS_BYTES, _PACKED):
        raise Unsupported(f"{_NAME} in the format {shown(form)}")
    kind, bits = weights.get("type", "int"), whole(weights, "num_bits", _NAME)
    allowed = {_PACKED: [("int", 4), ("int", 8)]}.get(form, [("int", bits), ("float", 8)])
    if (kind, bits) not in allowed or bits > 8:
        raise Unsupported(f"{_NAME} in the format {form} of {str(kind)[:20]}{bits}")
    structure = weights.get("block_structure")
    size = weights.get("group_size")
    unsaid = "tensor" if size is None else "channel" if size == -1 else "group"
    match weights.get("strategy") or unsaid:
        case "tensor":
            block = (0, 0)
        case "channel":
            block = (1, 0)
        case "group":
            block = (1, whole(weights, "group_size", _NAME))
        case "block" if isinstance(structure, list) and len(structure) == 2 and all(map(is_whole, structure)):
            if min(structure) < 1:
                raise Unsupported(f"{_NAME} in blocks of {structure[0]} x {structure[1]}")
            block = (structure[0], structure[1])
        case strategy:
            raise Unsupported(f"{_NAME} with the strategy {shown(strategy)}")
    return Scheme(form == _PACKED, bits, kind, block)


def _as_bytes(parts: Parts, scheme: Scheme, dtype: np.dtype) -> PackedTensor | None:
    codes = parts.tensors.get(".weight")
    if codes is None or codes.dtype != (FLOAT8 if scheme.kind == "float" else np.int8):
        return None
    if len(codes.shape) != 2:
        raise Misfit(f"is of {len(codes.shape)} axes")
    block = _block(scheme, codes.shape)
    tensor = BytesTensor(
        parts.name,
        codes.shape,
        dtype,
        block,
        parts.need(".weight_scale", *SCALES),
        parts.get(".weight_zero_point", np.int8),
        codes,
    )
    shapes = _shapes(tensor.blocks)
    for held in (tensor.scales, tensor.zeros):
        if held is not None:
            expect(held, *shapes)
    return tensor


def _packed(parts: Parts, scheme: Scheme, dtype: np.dtype) -> PackedTensor | None:
    words = parts.get(".weight_packed", np.int32)
    if words is None:
        return None
    rows, columns = _shape(parts, words, scheme.bits)
    tensor = WordsTensor(
        parts.name,
        (rows, columns),
        dtype,
        _block(scheme, (rows, columns)),
        parts.need(".weight_scale", *SCALES),
        parts.get(".weight_zero_point", np.int8, np.int32),
        words,
        scheme.bits,
        parts.get(".weight_g_idx", np.int32),
    )
    shapes = _shapes(tensor.blocks)
    expect(tensor.scales, *shapes)
    if tensor.zeros is not None:
        each, (down, across) = 32 // scheme.bits, tensor.blocks
        expect(tensor.zeros, *([(-(-down // each), across)] if tensor.zeros.dtype == np.int32 else shapes))
    if tensor.groups is not None:
        expect(tensor.groups, (columns,))
    return tensor


def _shape(parts: Parts, words: StoredTensor, bits: int) -> tuple[int, int]:
    """The weight's shape, which the words alone do not tell where the last one is not full."""
    stored = expect(parts.need(".weight_shape", np.int64, np.int32), (2,))
    rows, columns = map(int, stored.array)
    if words.shape != (rows, -(-columns // (32 // bits))) or columns < 1:
        held = " x ".join(map(str, words.shape))
        raise Misfit(f"is of {held} words, which do not hold {rows} x {columns} numbers of {bits} bits")
    return rows, columns


def _block(scheme: Scheme, shape: tuple[int, ...]) -> tuple[int, int]:
    return scheme.block[0] or max(shape[0], 1), scheme.block[1] or max(shape[1], 1)


def _shapes(blocks: tuple[int, int]) -> list[tuple[int, ...]]:
    return [blocks, (1,), ()] if blocks == (1, 1) else [blocks]


@dataclass(frozen=True, eq=False)
class WordsTensor(PackedTensor):
    """A weight whose rows lie in words of 32 bits, each number raised by half its range.

    Attributes:
        words: int32 [rows, words].
        bits: of a number.
        groups: the block of each column, where the quantiser ordered columns by what they weigh.
    """

    words: StoredTensor
    bits: int
    groups: StoredTensor | None

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest code."""
        return -(1 << self.bits - 1), (1 << self.bits - 1) - 1

    def codes(self, place: Place, rows: slice) -> np.ndarray:
        """Rows of the matrix of codes."""
        words = self.words.array[rows]
        codes = unpack(words, self.bits).reshape(len(words), -1)[:, : self.shape[1]]
        return np.ascontiguousarray(codes) + np.float32(self.range[0])

    def read_zeros(self, place: Place) -> np.ndarray | None:
        """The zero points, which may be packed downwards as rows are across."""
        if self.zeros is None or self.zeros.dtype == np.int8:
            return super().read_zeros(place)
        zeros = np.moveaxis(unpack(self.zeros.array, self.bits), -1, 1)
        return zeros.reshape(-1, zeros.shape[-1])[: self.blocks[0]] + np.float32(self.range[0])

    def column_blocks(self) -> np.ndarray | None:
        """The block of each column, where blocks are not of consecutive columns."""
        if self.groups is None or (self.groups.array == -1).any():  # as the quantiser leaves what it does not use
            return None
        return checked(self.groups, self.blocks[1])


def checked(groups: StoredTensor, count: int) -> np.ndarray:
    """The block of each column.

    Raises:
        CheckpointError: there are not so many blocks.
    """
    array = groups.array
    if ((array < 0) | (array >= count)).any():
        message = f"{groups.name} names groups that are not there"
        raise CheckpointError(message, code="bad_quantisation")
    return array
