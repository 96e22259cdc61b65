"""Named tuples of arrays that kernels are given by address, and not word by word.

numba passes a tuple by value, and of each of its arrays 7 words or more: a call with the arena and
a receiver's buffers would copy 4 KB, and each function's code would begin with naming them all.
A *bundle* is copied once, where Python calls a kernel; from there on it is one pointer::

    @bundle
    class Arena(NamedTuple):
        rx: Records
        lines: npt.NDArray[np.float32]

Kernels read fields, and fields of bundles among them, as of any named tuple; nothing else: they
cannot make one, index one or give one back to Python. Its fields are arrays, numbers and bundles.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.core.typing.typeof import typeof_impl
from numba.extending import NativeValue, lower_getattr_generic, register_model, unbox

_Class = TypeVar("_Class", bound=type)
_word = ir.IntType(32)


class Bundle(types.Type):  # type: ignore[misc]
    """Type of a bundle: its class, and the types of its fields."""

    def __init__(self, made_by: type, kinds: tuple[Any, ...]) -> None:
        self.made_by, self.kinds = made_by, kinds
        self.names: tuple[str, ...] = made_by._fields  # type: ignore[attr-defined]
        text = ", ".join(map(str, kinds))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        super().__init__(f"{made_by.__module__}.{made_by.__qualname__}[{digest}]")

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it equal to another."""
        return self.made_by, self.kinds


def bundle(made_by: _Class) -> _Class:
    """Give kernels the named tuples of this class by address.

    Raises:
        TypeError: when one is given to a kernel that has a field of another kind.
    """
    known: dict[tuple[Any, ...], Bundle] = {}

    @typeof_impl.register(made_by)  # type: ignore[untyped-decorator,unused-ignore]
    def find(value: Any, context: Any) -> Bundle:
        kinds = tuple(typeof_impl(field, context) for field in value)
        if kinds not in known:
            for name, kind in zip(value._fields, kinds, strict=True):
                if not isinstance(kind, types.Array | types.Number | types.Boolean | Bundle):
                    raise TypeError(f"{made_by.__name__}.{name} is {kind}: no field of a bundle")
            known[kinds] = Bundle(made_by, kinds)
        return known[kinds]

    return made_by


@register_model(Bundle)
class _Pointer(models.OpaqueModel):  # type: ignore[misc]
    """What a bundle is in machine code."""


@infer_getattr
class _Fields(AttributeTemplate):  # type: ignore[misc]
    key = Bundle

    def generic_resolve(self, kind: Bundle, name: str) -> Any:
        return kind.kinds[kind.names.index(name)] if name in kind.names else None


def _struct(context: Any, kind: Any) -> ir.Type:
    """Layout of a bundle in memory, those in it included; of another field, itself."""
    if isinstance(kind, Bundle):
        return ir.LiteralStructType([_struct(context, field) for field in kind.kinds])
    return context.get_value_type(kind)


def _load(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.Type) -> ir.Value:
    """What is there, word by word: LLVM forgets of a whole struct that it never changes."""
    if isinstance(kind, ir.LiteralStructType):
        parts = kind.elements
    elif isinstance(kind, ir.ArrayType):
        parts = [kind.element] * kind.count
    else:
        word = builder.load(pointer)
        word.set_metadata("invariant.load", builder.module.add_metadata([]))
        return word
    value = ir.Constant(kind, ir.Undefined)
    for i, part in enumerate(parts):
        place = builder.gep(pointer, [_word(0), _word(i)], inbounds=True)
        value = builder.insert_value(value, _load(builder, place, part), i)
    return value


@lower_getattr_generic(Bundle)  # type: ignore[untyped-decorator,unused-ignore]
def _field(context: Any, builder: ir.IRBuilder, kind: Bundle, value: ir.Value, name: str) -> Any:
    index = kind.names.index(name)
    pointer = builder.bitcast(value, _struct(context, kind).as_pointer())
    place = builder.gep(pointer, [_word(0), _word(index)], inbounds=True)
    found = kind.kinds[index]
    if isinstance(found, Bundle):
        return builder.bitcast(place, cgutils.voidptr_t)
    return _load(builder, place, _struct(context, found))


def _fill(place: ir.Value, kind: Bundle, value: ir.Value, failed: ir.Value, c: Any) -> None:
    """Write a named tuple into memory."""
    for i, field in enumerate(kind.kinds):
        item = c.pyapi.tuple_getitem(value, i)
        at = c.builder.gep(place, [_word(0), _word(i)], inbounds=True)
        if isinstance(field, Bundle):
            _fill(at, field, item, failed, c)
            continue
        native = c.unbox(field, item)
        c.builder.store(native.value, at)
        with c.builder.if_then(native.is_error, likely=False):
            c.builder.store(cgutils.true_bit, failed)


@unbox(Bundle)  # type: ignore[untyped-decorator,unused-ignore]
def _from_python(kind: Bundle, value: ir.Value, c: Any) -> NativeValue:
    builder = c.builder
    failed = cgutils.alloca_once_value(builder, cgutils.false_bit)
    place = cgutils.alloca_once(builder, _struct(c.context, kind))
    _fill(place, kind, value, failed, c)
    # What was never written cannot be said to be invariant. From here on it is another address,
    # for all that LLVM can know: nothing is read of it before this.
    same = ir.FunctionType(cgutils.voidptr_t, [cgutils.voidptr_t])
    address = builder.bitcast(place, cgutils.voidptr_t)
    address = builder.asm(same, "", "=r,0,~{memory}", [address], side_effect=True)
    return NativeValue(address, is_error=builder.load(failed))
