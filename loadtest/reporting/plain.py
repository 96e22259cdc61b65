"""Dataclasses to plain values and back, with errors that name the place."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_WORDS = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text",
    list: "a list", dict: "an object",
}  # fmt: skip


class ShapeError(ValueError):
    """Plain values do not have the shape of a dataclass; the text says where."""


def to_plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers. Infinities and NaN, which JSON lacks, become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """Build a dataclass, checking types on the way. Unknown names are left out: a later
    release may have added them.

    Raises:
        ShapeError: something is missing, or of another type.
    """
    built: T = _build(kind, value, where)
    return built


def _build(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _build_enum(kind, value, where)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return _build(next(part for part in parts if part is not type(None)), value, where)
    if origin is list:
        return [
            _build(parts[0], each, f"{where}[{n}]")
            for n, each in enumerate(_expect(list, value, where))
        ]
    if origin is dict:
        return {
            key: _build(parts[1], each, _inside(where, key))
            for key, each in _expect(dict, value, where).items()
        }
    return _expect(kind, value, where)


def _build_dataclass(kind: type, value: Any, where: str) -> Any:
    given = _expect(dict, value, where)
    hints = get_type_hints(kind)
    made = {}
    for field in fields(kind):
        if field.name in given:
            made[field.name] = _build(
                hints[field.name], given[field.name], _inside(where, field.name)
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ShapeError(f"{_inside(where, field.name)}: is missing")
    return kind(**made)


def _build_enum(kind: type[StrEnum], value: Any, where: str) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise ShapeError(f"{where}: {value!r} is not one of {allowed}") from None


def _expect(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        text = repr(value)
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise ShapeError(f"{where or 'the whole'}: {shown} is not {_WORDS.get(kind, kind)}")
    return value


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
