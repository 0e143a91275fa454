"""Memory-mapped safetensors files, bfloat16 included, without copying a byte before it is needed.

The safetensors package hands NumPy no bfloat16 and copies every tensor; the format is a length, a JSON header and raw
little-endian bytes (https://github.com/huggingface/safetensors#format), so it is read and written here directly. As the
format demands, each byte behind the header belongs to one tensor: a file that says otherwise contradicts itself.
"""

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from omni.checkpoint.directory import is_incomplete
from omni.checkpoint.json_file import LARGE, foreign_format, read_json
from omni.errors import CheckpointError
from processors.io.bounded_json import JSONError, JSONLimits, parse

FLOATS = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
"""Types of weights as they are computed with."""
PACKED = {
    **FLOATS,
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""Types that quantised weights lie in, too."""
# A hundred thousand tensors take some ten megabytes.
_HEADER = JSONLimits(bytes=32 << 20, depth=4, values=4_000_000, digits=20)
_MOST_AXES = 32
_CHECKED_AT_ONCE = 1 << 20


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


def open_tensors(directory: Path, types: Mapping[str, np.dtype] = FLOATS) -> dict[str, StoredTensor]:
    """Maps the weights of a directory: model.safetensors, or the shards that an index names.

    As in the reference, model.safetensors comes first where both are there.

    Args:
        directory: of a checkpoint.
        types: those that tensors may be of, `FLOATS` or `PACKED`.

    Raises:
        CheckpointError: no weights, an absent shard, a file that is cut short or malformed, or files that contradict
            one another.
    """
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if single.is_file():
        if index.is_file() and set(_weight_map(index).values()) != {single.name}:
            warnings.warn(f"{single.name} is read; {index.name} beside it names other files", stacklevel=2)
        return open_file(single, types)
    if not index.is_file():
        message = f"no {single.name} and no {index.name} in the checkpoint directory"
        raise CheckpointError(message, code="no_weights")
    weight_map = _weight_map(index)
    paths = {shard: _within(directory, shard) for shard in sorted(set(weight_map.values()))}
    if outside := [shard for shard, path in paths.items() if path is None]:
        message = f"{index.name} names files that are not in its directory: {', '.join(map(repr, outside))}"
        raise CheckpointError(message, code="bad_index", problems=outside[1:] and outside)
    inside = {shard: path for shard, path in paths.items() if path is not None}
    if absent := [
        shard for shard, path in inside.items() if not os.path.isfile(path)
    ]:  # False, too, for what cannot be a name
        message = f"{index.name} names {len(absent)} absent shards"
        message += "; a download into the directory did not end" if is_incomplete(directory) else ""
        raise CheckpointError(message, code="shard_missing", problems=absent)
    return _joined(index.name, weight_map, inside, types)


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index, limits=LARGE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index.name} has no weight_map", code="bad_index")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{index.name}: weight_map must name a file for each tensor", code="bad_index")
    return weight_map


def _within(directory: Path, shard: str) -> Path | None:
    """The file of that name in a directory, which may be spelled in full; None where it would lie elsewhere."""
    # By names alone: a download's cache holds its files as links to elsewhere.
    for base in (os.path.abspath(directory), os.path.realpath(directory)):
        path = os.path.normpath(os.path.join(base, shard))
        if "\0" not in shard and path.startswith(base.rstrip(os.sep) + os.sep):
            return Path(path)
    return None


def _joined(
    index: str, weight_map: Mapping[str, str], paths: Mapping[str, Path], types: Mapping[str, np.dtype]
) -> dict[str, StoredTensor]:
    """The tensors of all shards, each in one of them and in the one that the index names."""
    tensors: dict[str, StoredTensor] = {}
    held_by: dict[str, str] = {}
    doubled = []
    spelled = {str(path): shard for shard, path in paths.items()}
    for path, shard in spelled.items():
        for name, tensor in open_file(Path(path), types).items():
            if name in tensors:
                doubled.append(f"{name} in {held_by[name]} and {shard}")
            tensors[name], held_by[name] = tensor, shard
    if doubled:
        message = "shards contradict one another: tensors lie in two of them"
        raise CheckpointError(message, code="duplicate_tensor", problems=doubled)
    unheld = sorted(
        name for name, shard in weight_map.items() if name not in held_by or paths[held_by[name]] != paths[shard]
    )
    if unheld:
        raise CheckpointError("the shards do not hold what the index promises", code="index_mismatch", missing=unheld)
    return tensors


def open_file(path: Path, types: Mapping[str, np.dtype] = FLOATS) -> dict[str, StoredTensor]:
    """Maps one file, whose tensors may be of these types.

    Raises:
        CheckpointError: it is cut short, malformed, or contradicts itself.
    """
    try:
        size, header, begin = _read_header(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read: {reason}", code="file_unreadable") from error
    metadata = header.pop("__metadata__", None)
    if not _is_metadata(metadata):
        raise CheckpointError(f"{path.name}: its __metadata__ is not texts by name", code="bad_safetensors")
    if not header and begin == size:
        return {}
    data = np.memmap(path, mode="r", dtype=np.uint8)[begin:]
    tensors, unsupported = {}, []
    for name, entry in header.items():
        code, shape, start, end = _entry(entry)
        dtype = types.get(code)
        if code and dtype is None:
            unsupported.append(f"{name} is stored as {code[:20]}")
            continue
        if dtype is None or not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(f"{path.name} is cut short or malformed at {name}", code="bad_safetensors")
        tensors[name] = StoredTensor(name, data, dtype, shape, start, end)
    if unsupported:
        raise CheckpointError(
            f"{path.name}: {unsupported[0]}; supported are {', '.join(types)}"
            f"{', and others where config.json tells of quantised weights' if types is FLOATS else ''}",
            code="unsupported_dtype",
            problems=unsupported[1:] and unsupported,
        )
    _check_cover(path.name, tensors, len(data))
    return tensors


def _read_header(path: Path) -> tuple[int, dict[str, Any], int]:
    """The file's size, its header, and where the tensors begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(64)
        # A length may begin like another format; behind it stands the header's bracket.
        if first[8:9] != b"{" and (format_ := foreign_format(first)):
            raise CheckpointError(f"{path.name} is not a safetensors file: it is {format_[1]}", code=format_[0])
        length = int.from_bytes(first[:8], "little")
        if size < 8 or length > min(size - 8, _HEADER.bytes):
            raise CheckpointError(f"{path.name} is not a safetensors file, or is cut short", code="bad_safetensors")
        file.seek(8)
        text = file.read(length)
    try:
        header = parse(text, _HEADER, repeated="never")
    except JSONError as error:
        message = f"{path.name} is not a safetensors file: its header is not JSON that can be used: {error}"
        raise CheckpointError(message, code="bad_safetensors") from error
    if not isinstance(header, dict):
        kind = type(header).__name__
        raise CheckpointError(f"{path.name} is not a safetensors file: its header is a {kind}", code="bad_safetensors")
    return size, header, 8 + length


def _is_metadata(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(text, str) for text in value.values()))


def _entry(entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape and place of a header's entry; no dtype where the entry is malformed."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            sizes_fit = len(shape) <= _MOST_AXES and all(type(size) is int and 0 <= size < 1 << 48 for size in shape)
            if sizes_fit and type(begin) is type(end) is int:
                return code, tuple(shape), begin, end
    return "", (), 0, 0


def _check_cover(file: str, tensors: Mapping[str, StoredTensor], size: int) -> None:
    """Refuses bytes that belong to two tensors or to none."""
    at, before = 0, "its header"
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            what = "shares bytes with" if tensor.begin < at else "does not follow on"
            raise CheckpointError(f"{file} contradicts itself: {name} {what} {before}", code="bad_safetensors")
        at, before = tensor.end, name
    if at != size:
        what = f"{size - at:,} bytes at its end belong to no tensor"
        raise CheckpointError(f"{file} contradicts itself: {what}", code="bad_safetensors")


def is_finite(array: np.ndarray) -> bool:
    """Whether no weight is NaN or infinite, told without a copy.

    The bits of a floating number order as whole numbers do, so that one comparison with the greatest of each sign is
    enough. Piece by piece, which stay in the cache, and between which Ctrl-C is answered.
    """
    signed, unsigned = {2: (np.int16, np.uint16), 4: (np.int32, np.uint32)}[array.dtype.itemsize]
    infinity = int(np.asarray(np.inf, array.dtype).view(signed))
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHECKED_AT_ONCE):
        piece = flat[start : start + _CHECKED_AT_ONCE]
        if piece.view(signed).max() >= infinity:
            return False
        # Of negative numbers those from minus infinity on are the greatest; of positive ones none comes so far.
        if piece.view(unsigned).max() >= infinity + (1 << (8 * array.dtype.itemsize - 1)):
            return False
    return True


def write_tensors(
    path: Path,
    layout: Mapping[str, jax.ShapeDtypeStruct],
    arrays: Iterable[np.ndarray],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Writes one file; each array is asked for when those before it have been written.

    Args:
        path: a file that does not exist yet.
        layout: tensor name -> shape and dtype.
        arrays: the tensors, in the order of `layout`.
        notes: texts by name, for people.
    """
    codes = {dtype: code for code, dtype in PACKED.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(notes or {})}}
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
