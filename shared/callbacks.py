"""Kernels that C calls: a function by its address, as libraries take callbacks.

A callback is machine code from end to end: it needs no interpreter and no GIL, whatever thread
calls it. What it works on comes by the pointer that C hands it; C functions that it calls in turn
are known by address, since a symbol that is not loaded must not keep a kernel from loading::

    @process_callback
    def double(frames, argument):
        words = array_at(address_of(argument), 2, np.int64)
        ...
        return 0

    library.set_callback(double.address, words.ctypes.data)

Memory travels by address: without numba's runtime a kernel cannot return an array that it was not
given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing import signature
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from shared.kernels import use_cache_of

PROCESS = signature(types.int32, types.uint32, types.voidptr)
"""Of a process callback: int32 (uint32 frames, void *argument)."""
STREAM = signature(
    types.int32,
    types.voidptr, types.voidptr, types.uint64, types.voidptr, types.uint64, types.voidptr,
)  # fmt: skip
"""Of a stream callback: int (input, output, ulong frames, times, ulong flags, void *argument)."""


class Callback(CFunc):  # type: ignore[misc]
    """A kernel that C can call; compiled, or loaded from the cache, when ``address`` is asked for.

    Attributes:
        anew: whether the cache did not hold it.
    """

    def __init__(self, function: Callable[..., Any], kind: Any) -> None:
        options = {"nopython": True, "nogil": True, "_nrt": False}
        super().__init__(function, (kind.args, kind.return_type), locals={}, options=options)
        use_cache_of(function)
        self.enable_caching()
        self.anew = False

    @property
    def address(self) -> int:
        """Where C calls it."""
        if self._wrapper_address is None:
            self.compile()
        return int(self._wrapper_address)

    @global_compiler_lock  # type: ignore[untyped-decorator,unused-ignore]
    def compile(self) -> None:
        """Make machine code, or load it; what is kept in the cache is machine code as well."""
        found = self._cache.load_overload(self._sig, self._targetdescr.target_context)
        self.anew = found is None
        if found is None:
            found = self._compile_uncached()
            found.library.enable_object_caching()
            found.library.emit()
            self._cache.save_overload(self._sig, found)
        self._library = found.library
        self._wrapper_name = found.fndesc.llvm_cfunc_wrapper_name
        self._wrapper_address = found.library.get_pointer_to_function(self._wrapper_name)


def process_callback(function: Callable[..., Any]) -> Callback:
    """Make a callback of JACK's kind, ``(frames, argument) -> 0``, of kernels."""
    return Callback(function, PROCESS)


def stream_callback(function: Callable[..., Any]) -> Callback:
    """Make one of PortAudio's kind, ``(input, output, frames, times, flags, argument) -> 0``."""
    return Callback(function, STREAM)


@intrinsic
def address_of(typingctx, argument):
    """A void* as an integer."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.intp(types.voidptr), codegen


@intrinsic
def array_at(typingctx, address, count, dtype):
    """The memory at an address as a contiguous (count,) array of a NumPy scalar type."""
    kind = types.Array(dtype.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        made = make_array(kind)(context, builder)
        item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        data = builder.inttoptr(args[0], made.data.type)
        size = context.get_constant(types.intp, item)
        populate_array(made, data, [args[1]], [size], size, None)
        return made._getvalue()

    return kind(types.intp, types.intp, dtype), codegen


@intrinsic
def call_buffer_getter(typingctx, function, port, frames):
    """Address that a C function ``void *(void *, uint32)`` at an address returns."""

    def codegen(context, builder, sig, args):
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, ir.IntType(32)])
        count = builder.trunc(args[2], ir.IntType(32))
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], count])

    return types.intp(types.intp, types.intp, types.int64), codegen


@intrinsic
def call_clock(typingctx, function, client):
    """uint32 that a C function ``uint32 (void *)`` at an address returns."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        found = builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return builder.zext(found, ir.IntType(64))

    return types.int64(types.intp, types.intp), codegen
