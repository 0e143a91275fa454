"""Memory-mapped safetensors files, bfloat16 included, without copying a byte before it is needed.

The safetensors package hands NumPy no bfloat16 and copies every tensor; the format is a length, a JSON header and raw
little-endian bytes (https://github.com/huggingface/safetensors#format), so it is read and written here directly. As the
format demands, each byte behind the header belongs to one tensor: a file that says otherwise contradicts itself.
"""

import itertools
import json
import math
import mmap
import os
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_MOST_AT_ONCE = 1 << 30  # bytes of one call; systems take at most 2 GiB
# Runs of bytes that are shorter than a page cost a page each.
_SHORT_RUN, _SCRATCH_BYTES = 4096, 1 << 22


class OpenFile:
    """A file of tensors, read at any place by any number of threads.

    Args:
        path: of the file.
        begin: where its tensors begin.
    """

    def __init__(self, path: Path, begin: int):
        self._name, self._begin = path.name, begin
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._mapped = None if hasattr(os, "preadv") else np.memmap(path, mode="r", dtype=np.uint8)

    def read_into(self, out: np.ndarray, at: int) -> None:
        """Fill an array of bytes with those of the tensors from `at` on.

        Raises:
            CheckpointError: `bad_safetensors`, the file has become shorter; `file_unreadable`.
        """
        at += self._begin
        if self._mapped is not None:
            out[:] = self._mapped[at : at + len(out)]
            return
        view = out.data
        while view:
            try:
                count = os.preadv(self._descriptor, [view[:_MOST_AT_ONCE]], at)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise CheckpointError(f"{self._name} cannot be read: {reason}", code="file_unreadable") from error
            if not count:
                raise CheckpointError(f"{self._name} was cut short while it was read", code="bad_safetensors")
            view, at = view[count:], at + count


class _Runs:
    """The neighbouring numbers of a tensor that a part of it consists of, counted in numbers.

    Attributes:
        length: of a run.
        step: from a run to the next in the same block.
        count: of all runs.
    """

    def __init__(self, shape: Sequence[int], region: Sequence[slice]):
        sizes = [part.stop - part.start for part in region]
        cut = [i for i, (size, whole) in enumerate(zip(sizes, shape, strict=True)) if size != whole]
        last = cut[-1] if cut else 0
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        self.length = math.prod(sizes[last:])
        self.count = math.prod(sizes[:last])
        self.step = strides[last - 1] if last else 0
        self._region, self._strides, self._last = region, strides, last

    def starts(self) -> Iterator[int]:
        """Where each run begins."""
        for start, together in self.blocks(0):
            assert together == 1
            yield start

    def blocks(self, most: int) -> Iterator[tuple[int, int]]:
        """Where blocks of runs at even steps begin, and how many runs of each lie within `most` numbers."""
        last, region, strides = self._last, self._region, self._strides
        offset = region[last].start * strides[last] if region else 0
        outer = region[: last - 1] if last else ()
        inner = region[last - 1] if last else slice(0, 1)
        together = max(1, most // self.step) if self.step else 1
        for at in itertools.product(*(range(part.start, part.stop) for part in outer)):
            base = offset + sum(i * stride for i, stride in zip(at, strides, strict=False))
            for first in range(inner.start, inner.stop, together):
                yield base + first * self.step, min(together, inner.stop - first)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """One tensor of a file: its name, shape and dtype are known, its bytes are read when `array` or `read` is used."""

    name: str
    file: np.ndarray
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int
    source: OpenFile

    @property
    def array(self) -> np.ndarray:
        """A read-only view of the mapped bytes."""
        return self.file[self.begin : self.end].view(self.dtype).reshape(self.shape)

    def release(self) -> None:
        """Let the system drop what `array` has read of the file's mapped pages; they are read again where needed."""
        mapped = getattr(self.file, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def read(self, region: Sequence[slice], out: np.ndarray) -> None:
        """Read a part of the tensor into memory, and no other bytes but those between short runs of it.

        Args:
            region: a slice without a step for each axis.
            out: an array of the part's shape and the tensor's dtype, its numbers one after another.

        Raises:
            CheckpointError: the file ends before the tensor.
        """
        runs = _Runs(self.shape, region)
        size = self.dtype.itemsize
        flat = out.reshape(-1).view(np.uint8)
        if runs.length * size >= _SHORT_RUN or runs.count == 1:
            for i, start in enumerate(runs.starts()):
                part = flat[i * runs.length * size : (i + 1) * runs.length * size]
                self.source.read_into(part, self.begin + start * size)
            return
        # Less than a page a run: neighbouring runs are read with what lies between them.
        scratch = np.empty(0, np.uint8)
        done = 0
        for start, together in runs.blocks(_SCRATCH_BYTES // size):
            values = (together - 1) * runs.step + runs.length
            scratch = scratch if len(scratch) >= values * size else np.empty(values * size, np.uint8)
            self.source.read_into(scratch[: values * size], self.begin + start * size)
            rows = np.lib.stride_tricks.as_strided(
                scratch, (together, runs.length * size), (runs.step * size, 1), writeable=False
            )
            flat[done : done + rows.size].reshape(rows.shape)[...] = rows
            done += rows.size


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
    data, source = np.memmap(path, mode="r", dtype=np.uint8)[begin:], OpenFile(path, begin)
    tensors, unsupported = {}, []
    for name, entry in header.items():
        code, shape, start, end = _entry(entry)
        dtype = types.get(code)
        if code and dtype is None:
            unsupported.append(f"{name} is stored as {code[:20]}")
            continue
        if dtype is None or not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(f"{path.name} is cut short or malformed at {name}", code="bad_safetensors")
        tensors[name] = StoredTensor(name, data, dtype, shape, start, end, source)
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
