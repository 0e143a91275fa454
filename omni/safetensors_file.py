"""Memory-mapped safetensors files, bfloat16 included, without copying a byte before it is needed.

The safetensors package hands NumPy no bfloat16 and copies every tensor; the format is a length, a JSON header and raw
little-endian bytes (https://github.com/huggingface/safetensors#format), so it is read and written here directly.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from omni.config import read_json
from omni.errors import CheckpointError

_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """One tensor of a file: its name, shape and dtype are known, its bytes are read when `array` is used."""

    name: str
    file: np.ndarray
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def array(self) -> np.ndarray:
        """A read-only view of the mapped bytes."""
        return self.file[self.begin : self.end].view(self.dtype).reshape(self.shape)


def open_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Maps the weights of a directory: one model.safetensors, or the shards its index names.

    Raises:
        CheckpointError: no weights, an absent shard, or a file that is cut short or malformed.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index.name} has no weight_map")
        if not all(isinstance(shard, str) for shard in weight_map.values()):
            raise CheckpointError(f"{index.name}: weight_map must name a file for each tensor")
        shards = sorted(set(weight_map.values()))
        absent = [name for name in shards if Path(name).name != name or not (directory / name).is_file()]
        if absent:
            raise CheckpointError(f"{index.name} names {len(absent)} absent shards: {', '.join(absent)}")
        tensors = {name: tensor for shard in shards for name, tensor in open_file(directory / shard).items()}
        unheld = sorted(set(weight_map) - set(tensors))
        if unheld:
            raise CheckpointError("the shards do not hold what the index promises", missing=unheld)
        return tensors
    single = directory / "model.safetensors"
    if not single.is_file():
        raise CheckpointError("no model.safetensors and no model.safetensors.index.json in the checkpoint directory")
    return open_file(single)


def _entry(entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape and place of a header's entry; no dtype where the entry is malformed."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            if all(isinstance(size, int) and size >= 0 for size in shape):
                return code, tuple(shape), begin, end
    return "", (), 0, 0


def open_file(path: Path) -> dict[str, StoredTensor]:
    """Maps one file.

    Raises:
        CheckpointError: it is cut short or malformed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise CheckpointError(f"{path.name} is not a safetensors file, or is cut short")
        try:
            header = json.loads(file.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path.name} is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} is not a safetensors file: its header is a {type(header).__name__}")
    header.pop("__metadata__", None)
    if not header:
        return {}
    data = np.memmap(path, mode="r", dtype=np.uint8)[8 + length :]
    found = {}
    for name, entry in header.items():
        code, shape, begin, end = _entry(entry)
        dtype = _DTYPES.get(code)
        if code and dtype is None:
            raise CheckpointError(f"{path.name}: {name} is stored as {code}; supported are {', '.join(_DTYPES)}")
        if dtype is None or not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(f"{path.name} is cut short or malformed at {name}")
        found[name] = StoredTensor(name, data, dtype, shape, begin, end)
    return found


def write_tensors(path: Path, layout: Mapping[str, jax.ShapeDtypeStruct], arrays: Iterable[np.ndarray]) -> None:
    """Writes one file; each array is asked for when those before it have been written.

    Args:
        path: a file that does not exist yet.
        layout: tensor name -> shape and dtype.
        arrays: the tensors, in the order of `layout`.
    """
    codes = {dtype: code for code, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, leaf in layout.items():
        end = at + leaf.size * leaf.dtype.itemsize
        header[name] = {"dtype": codes[leaf.dtype], "shape": leaf.shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the weights begin aligned
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for leaf, array in zip(layout.values(), arrays, strict=True):
            assert (array.shape, array.dtype) == (leaf.shape, leaf.dtype)
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
