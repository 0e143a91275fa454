"""A few rows times a matrix, at the speed of the memory: compiled by Numba, called by XLA.

XLA hands over a call frame (jaxlib/include/xla/ffi/api/c_api.h, version 0.2 and later) with the rows, a stack of
matrices and the number of one of them, which is read where it lies. The rows of the matrix are shared among the threads
of XLA's own pool: a job lies on a board, whoever has time claims chunks of it, and the caller claims what is left.
"""

import ctypes
from typing import Any, no_type_check

import llvmlite.binding
import numpy as np
from numba import cfunc, njit, types

from encoders.nn.kernels.machine import (
    address_of,
    atomic_add,
    atomic_load,
    atomic_store,
    call,
    compare_and_swap,
    float32_at,
    float_of,
    int8_at,
    load_i32,
    load_i64,
    store_i64,
    uint16_at,
)

# Numbers of XLA's types.
_INT8, _FLOAT32, _BFLOAT16 = 2, 11, 16
# Words of 8 bytes. Of a call frame: extension, XLA's functions, context, arguments, results.
_EXTENSION, _API, _CONTEXT, _ARGUMENTS, _RESULTS = 1, 2, 3, 9, 14
# Of a buffer: type, data, rank, sizes. Of XLA's functions: to schedule a task, and to tell the number of threads.
_TYPE, _DATA, _RANK, _SIZES = 2, 3, 4, 5
_SCHEDULE, _THREADS = 17, 18
_METADATA = 1  # an extension that asks for the version
_VERSION = (0, 2)
# Jobs on the board at a time, and the words of each: whether it is taken, how often it was and the next chunk, chunks
# that are done, all chunks, rows of a chunk, and what is to be multiplied.
_JOBS, _JOB_WORDS = 64, 16
_TAKEN, _NEXT, _DONE, _CHUNKS, _CHUNK_ROWS, _KIND, _X, _WEIGHT, _Y, _ROWS, _COLUMNS, _BATCH = range(12)
_CHUNK_BITS = 24
_CHUNK_WEIGHTS = 1 << 17
_MOST_THREADS = 16

_board = np.zeros(_JOBS * _JOB_WORDS + 8, np.int64)
llvmlite.binding.add_symbol("omni_matvec_board", -(-_board.ctypes.data // 64) * 64)
_board_address = address_of("omni_matvec_board")
_fast = {"nogil": True, "error_model": "numpy", "cache": True}


@njit(fastmath=True, **_fast)
@no_type_check
def _dot(x, w, columns):
    total = np.float32(0)
    for i in range(columns):
        total += x[i] * w[i]
    return total


@njit(fastmath=True, **_fast)
@no_type_check
def _dot_bfloat16(x, w, columns):
    total = np.float32(0)
    for i in range(columns):
        total += x[i] * float_of(np.uint32(w[i]) << np.uint32(16))
    return total


@njit(fastmath=True, **_fast)
@no_type_check
def _dot_int8(x, w, columns):
    total = np.float32(0)
    for i in range(columns):
        total += x[i] * np.float32(w[i])
    return total


@njit(**_fast)
@no_type_check
def _widen(kind, weight, columns, out):
    """A row of weights as float32."""
    if kind == _BFLOAT16:
        bits = uint16_at(weight)
        for i in range(columns):
            out[i] = float_of(np.uint32(bits[i]) << np.uint32(16))
    else:
        values = int8_at(weight)
        for i in range(columns):
            out[i] = np.float32(values[i])


@njit(**_fast)
@no_type_check
def _multiply(job, first, last):
    """Some rows of the matrix, with all rows of x."""
    kind, x, y = load_i64(job + 8 * _KIND), load_i64(job + 8 * _X), load_i64(job + 8 * _Y)
    rows, columns = load_i64(job + 8 * _ROWS), load_i64(job + 8 * _COLUMNS)
    batch, weight = load_i64(job + 8 * _BATCH), load_i64(job + 8 * _WEIGHT)
    if kind == _FLOAT32 or batch == 1:
        for row in range(first, last):
            for b in range(batch):
                own = float32_at(x + 4 * b * columns)
                if kind == _FLOAT32:
                    found = _dot(own, float32_at(weight + 4 * row * columns), columns)
                elif kind == _BFLOAT16:
                    found = _dot_bfloat16(own, uint16_at(weight + 2 * row * columns), columns)
                else:
                    found = _dot_int8(own, int8_at(weight + row * columns), columns)
                float32_at(y + 4 * b * rows)[row] = found
        return
    wide = np.empty(columns, np.float32)
    size = 2 if kind == _BFLOAT16 else 1
    for row in range(first, last):
        _widen(kind, weight + size * row * columns, columns, wide)
        for b in range(batch):
            float32_at(y + 4 * b * rows)[row] = _dot(float32_at(x + 4 * b * columns), wide, columns)


@njit(**_fast)
@no_type_check
def _work(job):
    """Claims chunks of a job until none is left.

    One who comes late may find another job in its place, and helps that one. What is claimed is not given away before
    it is done, so nothing that a chunk needs changes under it.
    """
    while True:
        seen = atomic_load(job + 8 * _NEXT)
        chunk = seen & ((1 << _CHUNK_BITS) - 1)
        if chunk >= load_i64(job + 8 * _CHUNKS):
            return
        if compare_and_swap(job + 8 * _NEXT, seen, seen + 1):
            size = load_i64(job + 8 * _CHUNK_ROWS)
            _multiply(job, chunk * size, min((chunk + 1) * size, load_i64(job + 8 * _ROWS)))
            atomic_add(job + 8 * _DONE, 1)


@cfunc(types.void(types.int64), cache=True)
@no_type_check
def _task(job):
    _work(job)


llvmlite.binding.add_symbol("omni_matvec_task", _task.address)  # pyright: ignore[reportFunctionMemberAccess]
_task_address = address_of("omni_matvec_task")


@njit(**_fast)
@no_type_check
def _threads(api, context):
    count, args = np.ones(1, np.int64), np.empty(4, np.int64)
    args[0], args[1], args[2], args[3] = 32, 0, context, count.ctypes.data
    if call(load_i64(api + 8 * _THREADS), args.ctypes.data) != 0:
        return 1
    return min(count[0], _MOST_THREADS)


@njit(**_fast)
@no_type_check
def _share(api, context, kind, x, weight, y, rows, columns, batch):
    """Puts a job on the board, asks for help, works, and waits until all is done."""
    chunk_rows = max(1, _CHUNK_WEIGHTS // max(1, columns * batch))
    chunks, place = (rows + chunk_rows - 1) // chunk_rows, 0
    job = _board_address()
    while not compare_and_swap(job + 8 * _TAKEN, 0, 1):
        place = (place + 1) % _JOBS
        job = _board_address() + 8 * _JOB_WORDS * place
    store_i64(job + 8 * _CHUNKS, chunks)
    store_i64(job + 8 * _CHUNK_ROWS, chunk_rows)
    store_i64(job + 8 * _KIND, kind)
    store_i64(job + 8 * _X, x)
    store_i64(job + 8 * _WEIGHT, weight)
    store_i64(job + 8 * _Y, y)
    store_i64(job + 8 * _ROWS, rows)
    store_i64(job + 8 * _COLUMNS, columns)
    store_i64(job + 8 * _BATCH, batch)
    atomic_store(job + 8 * _DONE, 0)
    turn = (atomic_load(job + 8 * _NEXT) >> _CHUNK_BITS) + 1
    atomic_store(job + 8 * _NEXT, turn << _CHUNK_BITS)
    if chunks > 1:
        args = np.empty(5, np.int64)
        args[0], args[1], args[2], args[3], args[4] = 40, 0, context, _task_address(), job
        for _ in range(min(chunks, _threads(api, context)) - 1):
            if call(load_i64(api + 8 * _SCHEDULE), args.ctypes.data) != 0:
                break
    _work(job)
    while atomic_load(job + 8 * _DONE) < chunks:
        pass
    # Nothing is left to claim, whatever the next job's chunks are.
    atomic_store(job + 8 * _NEXT, (turn << _CHUNK_BITS) | ((1 << _CHUNK_BITS) - 1))
    atomic_store(job + 8 * _TAKEN, 0)


@cfunc(types.int64(types.int64), cache=True)
@no_type_check
def _handle(frame):
    """What XLA calls: x float32 [batch, columns], matrices [..., rows, columns], int32 number -> float32 [batch, rows].

    A number beyond the stack is that of its last matrix, as where XLA cuts.
    """
    extension = load_i64(frame + 8 * _EXTENSION)
    if extension != 0 and load_i32(extension + 8) == _METADATA:
        store_i64(load_i64(extension + 24) + 24, (_VERSION[1] << 32) | _VERSION[0])
        return 0
    arguments = load_i64(frame + 8 * _ARGUMENTS)
    x, weight, layer = load_i64(arguments), load_i64(arguments + 8), load_i64(arguments + 16)
    y = load_i64(load_i64(frame + 8 * _RESULTS))
    kind, sizes = load_i32(weight + 8 * _TYPE), load_i64(weight + 8 * _SIZES)
    last = sizes + 8 * (load_i64(weight + 8 * _RANK) - 1)
    rows, columns, count = load_i64(last - 8), load_i64(last), 1
    while sizes < last - 8:
        count, sizes = count * load_i64(sizes), sizes + 8
    number = min(max(load_i32(load_i64(layer + 8 * _DATA)), 0), count - 1)
    bytes_each = 4 if kind == _FLOAT32 else 2 if kind == _BFLOAT16 else 1
    offset = number * rows * columns * bytes_each
    _share(
        load_i64(frame + 8 * _API),
        load_i64(frame + 8 * _CONTEXT),
        kind,
        load_i64(x + 8 * _DATA),
        load_i64(weight + 8 * _DATA) + offset,
        load_i64(y + 8 * _DATA),
        rows,
        columns,
        load_i64(load_i64(x + 8 * _SIZES)),
    )
    return 0


def target() -> Any:
    """What `jax.ffi.register_ffi_target` takes."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(_handle.address, b"xla._CUSTOM_CALL_TARGET", None)  # pyright: ignore[reportFunctionMemberAccess]
