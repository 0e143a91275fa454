"""Tensors of files into arrays in memory, by several threads.

What one array takes of a file is read straight into its place, in pieces that stay in the processor's caches while they
are checked and converted: beside the arrays themselves nothing of their size is ever made, and no mapped file stays
resident.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.nn.weights import quantize
from omni.checkpoint.adapted import AdaptedTensor
from omni.checkpoint.finite import is_finite
from omni.checkpoint.quantized import PackedTensor
from omni.checkpoint.safetensors import StoredTensor

# Bytes of a file that a thread reads at once.
_PIECE_BYTES = 8 << 20
_MOST_THREADS = 16
# Fewer are read sooner than threads are at work.
_FEW_BYTES = 8 << 20
_ALIGNMENT = 64

Region = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """A part of a tensor, and where it goes.

    Attributes:
        tensor: what is read.
        region: a slice for each of its axes.
        out: a view of the part's shape, of any floating dtype; of integers of 8 bits where there are `scales`.
        scales: a float32 for each row of `out`.
        dtype: that weights are rounded to before they become integers.
    """

    tensor: StoredTensor
    region: Region
    out: np.ndarray
    scales: np.ndarray | None = None
    dtype: Any = None

    def pieces(self) -> Iterator["Reading"]:
        """The same by parts of a few MiB; rows that have scales are never cut."""
        axes = self.out.ndim - (self.scales is not None)
        for part in _parts(self.out.shape, self.tensor.dtype.itemsize, axes):
            region = tuple(
                slice(whole.start + own.start, whole.start + own.stop)
                for whole, own in zip(self.region, part, strict=True)
            )
            scales = None if self.scales is None else self.scales[part[:-1]]
            yield Reading(self.tensor, region, self.out[part] if part else self.out, scales, self.dtype)

    @property
    def bytes(self) -> int:
        """That are taken of the file."""
        return self.out.size * self.tensor.dtype.itemsize

    def run(self, check_finite: bool) -> bool:
        """Read; return whether all numbers are finite, or nobody asked."""
        out, tensor = self.out, self.tensor
        direct = self.scales is None and out.dtype == tensor.dtype and out.flags.c_contiguous
        held = out if direct else np.empty(out.shape, tensor.dtype)
        tensor.read(self.region, held)
        finite = not check_finite or is_finite(held)
        if self.scales is not None:
            out[...], self.scales[...] = quantize(held.astype(self.dtype, copy=False))
        elif not direct:
            out[...] = held
        return finite


def _parts(shape: Sequence[int], itemsize: int, axes: int) -> Iterator[Region]:
    """Cuts an array along its first axes into parts of a few MiB."""
    if axes <= 0 or not shape:
        yield tuple(slice(0, size) for size in shape)
        return
    rest = itemsize
    for size in shape[1:]:
        rest *= size
    if rest > _PIECE_BYTES and axes > 1:
        for i in range(shape[0]):
            for part in _parts(shape[1:], itemsize, axes - 1):
                yield slice(i, i + 1), *part
        return
    step = max(1, _PIECE_BYTES // max(rest, 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0])), *(slice(0, size) for size in shape[1:])


class Readers:
    """Threads that read.

    Args:
        check_finite: whether to look for numbers that are NaN or infinite.
        check: called meanwhile; what it raises ends the reading.
        done: called with numbers of bytes that have been read.

    Attributes:
        not_finite: names in the files of the tensors that hold such numbers.
    """

    def __init__(self, check_finite: bool, check: Callable[[], None], done: Callable[[int], Any]):
        self._check_finite, self._check, self._done = check_finite, check, done
        self.not_finite: set[str] = set()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(min(_MOST_THREADS, max(4, cores)), thread_name_prefix="omni-read")
        self._stopped = threading.Event()

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def read(self, readings: Sequence[Reading]) -> None:
        """Read, and return when all is read; Ctrl-C is answered meanwhile."""
        pieces = [piece for reading in readings for piece in reading.pieces()]
        if sum(piece.bytes for piece in pieces) <= _FEW_BYTES:
            for piece in pieces:
                self._note(piece, self._run(piece))
            return
        running: dict[Future[bool], Reading] = {}
        try:
            for piece in pieces:
                running[self._pool.submit(self._run, piece)] = piece
            left = set(running)
            while left:
                ready, left = wait(left, timeout=0.1, return_when=FIRST_COMPLETED)
                for future in ready:
                    self._note(running[future], future.result())
                self._check()
        except BaseException:
            self._stopped.set()
            raise

    def note_packed(self, tensor: PackedTensor | AdaptedTensor) -> None:
        """Count a weight that is made by other means, and look for such numbers in it."""
        self._done(int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize)
        if self._check_finite:
            self.not_finite.update(tensor.not_finite())

    def _run(self, piece: Reading) -> bool:
        return True if self._stopped.is_set() else piece.run(self._check_finite)

    def _note(self, piece: Reading, finite: bool) -> None:
        if not finite:
            self.not_finite.add(piece.tensor.name)
        self._done(piece.bytes)


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array that begins where JAX on the CPU can use it as it is, without a copy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    held = np.empty(size + _ALIGNMENT, np.uint8)
    start = -held.ctypes.data % _ALIGNMENT
    return held[start : start + size].view(dtype).reshape(shape)
