"""What Numba's functions need of the machine: addresses, atomics, and bits as floats.

Imported by what is compiled alone, since Numba takes half a second to import. Numba keeps what it compiled on disk, and
for that must be given functions as they are written: `no_type_check` has tests wrap none of them.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

_I64 = ir.IntType(64)


@no_type_check
def _pointer(builder: Any, address: Any, of: ir.Type) -> Any:
    return builder.inttoptr(address, ir.PointerType(of))


@intrinsic
@no_type_check
def load_i64(_: Any, address: Any) -> tuple[Signature, Any]:
    """The 64 bits at an address."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.load(
        _pointer(builder, args[0], _I64)
    )


@intrinsic
@no_type_check
def load_i32(_: Any, address: Any) -> tuple[Signature, Any]:
    """The 32 bits at an address, with their sign."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.sext(
        builder.load(_pointer(builder, args[0], ir.IntType(32))), _I64
    )


@intrinsic
@no_type_check
def store_i64(_: Any, address: Any, value: Any) -> tuple[Signature, Any]:
    """Writes 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0], _I64))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
@no_type_check
def atomic_load(_: Any, address: Any) -> tuple[Signature, Any]:
    """As `load_i64`, in one order for all threads."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.load_atomic(
        _pointer(builder, args[0], _I64), "seq_cst", 8
    )


@intrinsic
@no_type_check
def atomic_store(_: Any, address: Any, value: Any) -> tuple[Signature, Any]:
    """As `store_i64`, in one order for all threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0], _I64), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
@no_type_check
def atomic_add(_: Any, address: Any, value: Any) -> tuple[Signature, Any]:
    """Adds to what is at an address; returns what was there."""
    return types.int64(types.int64, types.int64), lambda context, builder, signature, args: builder.atomic_rmw(
        "add", _pointer(builder, args[0], _I64), args[1], "seq_cst"
    )


@intrinsic
@no_type_check
def compare_and_swap(_: Any, address: Any, old: Any, new: Any) -> tuple[Signature, Any]:
    """Puts `new` where `old` is; returns whether it was there."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = builder.cmpxchg(_pointer(builder, args[0], _I64), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
@no_type_check
def call(_: Any, function: Any, argument: Any) -> tuple[Signature, Any]:
    """Calls the C function at an address with one pointer; returns the pointer that it returns."""
    return types.int64(types.int64, types.int64), lambda context, builder, signature, args: builder.call(
        _pointer(builder, args[0], ir.FunctionType(_I64, [_I64])), [args[1]]
    )


@intrinsic
@no_type_check
def float_of(_: Any, bits: Any) -> tuple[Signature, Any]:
    """The float32 of 32 bits."""
    return types.float32(types.uint32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@no_type_check
def address_of(symbol: str) -> Any:
    """A function that returns the address of a symbol, which LLVM finds when the code is loaded.

    An address itself would be another in each process, and what Numba compiled could not be kept on disk.
    """

    @intrinsic
    @no_type_check
    def found(_: Any) -> tuple[Signature, Any]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            module = builder.module
            held = module.globals.get(symbol) or ir.GlobalVariable(module, ir.IntType(8), symbol)
            return builder.ptrtoint(held, _I64)

        return types.int64(), generate

    return found


@no_type_check
def _array_at(element: Any, llvm: ir.Type) -> Any:
    @intrinsic
    @no_type_check
    def found(_: Any, address: Any) -> tuple[Signature, Any]:
        return types.CPointer(element)(types.int64), lambda context, builder, signature, args: _pointer(
            builder, args[0], llvm
        )

    return found


float32_at = _array_at(types.float32, ir.FloatType())
uint16_at = _array_at(types.uint16, ir.IntType(16))
int8_at = _array_at(types.int8, ir.IntType(8))
