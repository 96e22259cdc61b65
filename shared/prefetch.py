"""Hints that memory will be wanted soon, for kernels: it comes nearer while other work is done.

A hint never fails, whatever the address, and changes nothing but time::

    prefetch_read(address)       the cache line of this address will be read
    prefetch_write(address)      and written
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_i32 = ir.IntType(32)
_NEAREST, _DATA = 3, 1


def _prefetch(builder: ir.IRBuilder, address: ir.Value, write: int) -> None:
    pointer = builder.inttoptr(address, cgutils.voidptr_t)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _i32, _i32, _i32])
    hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(hint, [pointer, _i32(write), _i32(_NEAREST), _i32(_DATA)])


@intrinsic
def prefetch_read(typingctx: Any, address: Any) -> Any:
    """The cache line of a memory address will be read."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _prefetch(builder, args[0], 0)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def prefetch_write(typingctx: Any, address: Any) -> Any:
    """The cache line of a memory address will be written."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _prefetch(builder, args[0], 1)
        return context.get_dummy_value()

    return types.void(types.intp), codegen
