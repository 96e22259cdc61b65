"""Acquire loads and release stores on fields of shared-memory records, for kernels.

A plain ``while rec.flag == 0`` in numba is folded by LLVM and never re-reads memory;
these intrinsics compile to one atomic load or store each (ordinary moves on x86,
``ldar``/``stlr`` on ARM) and can be cached like any other kernel.

    load_acquire(record, "field")          -> value
    store_release(record, "field", value)
    fence_acquire()                        earlier reads are not moved behind it
    fence_release()                        later writes are not moved before it

Fields are 8-byte integers, naturally aligned; one process writes each of them.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

_ALIGN = 8


def _field(record: types.Type, name: types.Type) -> tuple[types.Type, int] | None:
    if not isinstance(record, types.Record):
        return None
    if not isinstance(name, types.StringLiteral):
        return None
    field = name.literal_value
    if field not in record.fields:
        raise TypingError(f"{field!r} is no field of the record")
    kind, offset = record.typeof(field), record.offset(field)
    if not isinstance(kind, types.Integer) or kind.bitwidth != 64 or offset % _ALIGN:
        raise TypingError(f"{field!r} is no aligned 8-byte integer")
    return kind, offset


def _pointer(builder: ir.IRBuilder, record: ir.Value, offset: int) -> ir.Value:
    raw = builder.bitcast(record, cgutils.voidptr_t)
    return builder.bitcast(cgutils.pointer_add(builder, raw, offset), ir.IntType(64).as_pointer())


@intrinsic(prefer_literal=True)
def load_acquire(typingctx, record, name):
    """Value of an 8-byte integer field; later reads are not moved before it."""
    found = _field(record, name)
    if found is None:
        return None
    kind, offset = found

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_pointer(builder, args[0], offset), "acquire", _ALIGN)

    return kind(record, name), codegen


@intrinsic(prefer_literal=True)
def store_release(typingctx, record, name, value):
    """Set an 8-byte integer field; earlier writes are visible to who reads it with acquire."""
    found = _field(record, name)
    if found is None:
        return None
    kind, offset = found

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _pointer(builder, args[0], offset), "release", _ALIGN)
        return context.get_dummy_value()

    return types.void(record, name, kind), codegen


@intrinsic
def fence_acquire(typingctx):
    """Reads before it are done before those after it."""

    def codegen(context, builder, signature, args):
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def fence_release(typingctx):
    """Writes before it are visible before those after it."""

    def codegen(context, builder, signature, args):
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def peek_int32(typingctx, address):
    """The int32 at a memory address (errno and the like)."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], ir.IntType(32).as_pointer()))

    return types.int32(types.intp), codegen
