"""Bundles: kernels see a named tuple's fields, by its address."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pytest
from llvmlite import ir
from numba.core.errors import TypingError
from numba.core.registry import cpu_target

from shared.bundles import Bundle, bundle
from shared.deferred import DeferredDispatcher

RECORD = np.dtype([("count", np.int64), ("gain", np.float64)])


@bundle
class Inner(NamedTuple):
    samples: npt.NDArray[np.float32]
    number: int


@bundle
class Outer(NamedTuple):
    records: npt.NDArray[Any]
    plane: npt.NDArray[np.float64]
    inner: Inner
    factor: float
    on: bool


class Plain(NamedTuple):
    samples: npt.NDArray[np.float32]


@bundle
class Wrong(NamedTuple):
    plain: Plain


def outer(shift: int = 0) -> Outer:
    records = np.zeros(3, RECORD)
    records["count"] = np.arange(3) + shift
    samples = np.arange(8, dtype=np.float32) + shift
    plane = np.arange(12, dtype=np.float64).reshape(3, 4) + shift
    return Outer(records, plane, Inner(samples, 40 + shift), 0.5, True)


def compiled(function: Any) -> Any:
    return DeferredDispatcher(function, targetoptions={"nopython": True, "_nrt": False})


@compiled
def _sum(inner, first):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, len(inner.samples)):
        total += inner.samples[i]
    return total + inner.number


@compiled
def _use(given, row):  # type: ignore[no-untyped-def]
    record, plane = given.records[row], given.plane[row]
    record.count += 1
    for i in range(plane.shape[0]):
        plane[i] *= given.factor
    given.inner.samples[0] = 100.0
    if given.on:
        return _sum(given.inner, 0) + record.count
    return -1.0


@pytest.mark.parametrize("shift", [0, 5])
def test_kernel_reads_and_writes_what_the_tuple_holds(shift: int) -> None:
    given, expected = outer(shift), outer(shift)

    found = _use(given, 1)

    expected.records[1]["count"] += 1
    expected.plane[1] *= 0.5
    expected.inner.samples[0] = 100.0
    assert found == expected.inner.samples.sum() + 40 + shift + 1 + shift + 1
    for mine, theirs in ((given, expected), (given.inner, expected.inner)):
        for have, want in zip(mine, theirs, strict=True):
            if isinstance(want, np.ndarray):
                np.testing.assert_array_equal(have, want)


def test_each_call_is_given_its_own() -> None:
    one, two = outer(), outer(7)
    assert [_use(given, 0) for given in (one, two, one)] == [169.0, 232.0, 170.0]


def test_is_one_pointer_in_a_call() -> None:
    kind = cpu_target.target_context.data_model_manager[numba.typeof(outer())]
    assert isinstance(kind.get_argument_type(), ir.PointerType)


def test_types_are_equal_when_fields_are() -> None:
    assert numba.typeof(outer()) == numba.typeof(outer(3))
    other = outer()._replace(plane=np.zeros((3, 4), np.float32))
    assert numba.typeof(outer()) != numba.typeof(other)
    assert isinstance(numba.typeof(outer()), Bundle)


def test_field_that_is_no_array_is_refused_without_dispatch() -> None:
    _use(outer(), 0)
    entry = _use.overloads[_use.signatures[0]].entry_point
    with pytest.raises(TypeError, match="unbox array"):
        entry(outer()._replace(plane=None), 0)  # type: ignore[arg-type]


def test_field_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.plain is Plain"):
        numba.typeof(Wrong(Plain(np.zeros(1, np.float32))))


def test_unknown_field_does_not_compile() -> None:
    @compiled
    def wrong(given):  # type: ignore[no-untyped-def]
        return given.missing

    with pytest.raises(TypingError, match="missing"):
        wrong(outer())
