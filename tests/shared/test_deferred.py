"""Kernels that only kernels call cost no machine code, and answer Python all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from shared.kernels import entry_point, kernel

ROOT = Path(__file__).parents[2]

Row = npt.NDArray[np.floating]


@kernel
def _inner(row: Row) -> Any:
    total = 0.0
    for value in row:
        total += value
    return max(total, float(row[0]))


@kernel
def _middle(row: Row) -> Any:
    return _inner(row) + _inner(row[1:])


@kernel
def _outer(row: Row) -> Any:
    return 2.0 * _middle(row)


@kernel
def _alone(row: Row) -> Any:
    return _inner(row) - 1.0


def test_only_what_python_calls_becomes_machine_code() -> None:
    row = np.arange(1.0, 5.0)
    assert _outer(row) == 2.0 * (10.0 + 9.0)
    assert len(_outer.signatures) == 1
    assert not _middle.signatures
    assert not _inner.signatures

    assert _inner(row) == 10.0  # has machine code now, and is still good for kernels to come
    assert len(_inner.signatures) == 1
    assert not _middle.signatures
    assert _alone(row) == 9.0
    assert _middle(row) == entry_point(_middle)(row) == 19.0
    # none of them where the cache has what was asked for
    assert max(len(one.parts) for one in (_inner, _middle, _outer, _alone)) <= 1


def test_another_type_is_another_signature() -> None:
    assert _middle(np.arange(3, dtype=np.float32)) == 6.0


def test_numbas_own_functions_call_kernels() -> None:
    calls = njit(lambda row: _outer(row) + _inner(row))
    assert calls(np.arange(1.0, 5.0)) == 38.0 + 10.0


MODULE = """
import sys
from shared.kernels import compiled_anew, kernel

@kernel
def inner(x):
    return x // 2

@kernel
def outer(x):
    return 2 * inner(x)

@kernel
def last(x):
    return outer(x) + inner(x)

@kernel
def scaled(x, by, negative):
    return -by * x if negative else by * x

@kernel
def scalings(x):
    return scaled(x, 2, True) + scaled(x, 3, False) + scaled(x, x, False)

if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(globals()[name](6), compiled_anew(), end=" ")
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Call kernels of a module by name, in a process of its own: results, and how many parts
    were compiled so far."""
    module = tmp_path / "halving.py"
    module.write_text(MODULE)

    def run(*names: str) -> list[tuple[int, int]]:
        done = subprocess.run(
            [sys.executable, str(module), *names],
            cwd=ROOT,
            env={"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        words = list(map(int, done.stdout.split()))
        return list(zip(words[::2], words[1::2], strict=True))

    return run


def test_cache_keeps_what_python_called(run: Any) -> None:
    assert run("outer") == [(6, 2)]
    assert run("outer") == [(6, 0)]
    assert run("inner") == [(3, 1)]
    assert run("inner", "outer") == [(3, 0), (6, 0)]


def test_kernel_from_the_cache_can_be_a_part_of_another(run: Any) -> None:
    assert run("outer") == [(6, 2)]
    assert run("outer", "last") == [(6, 0), (9, 3)]
    assert run("last", "outer", "inner") == [(9, 0), (6, 0), (3, 1)]


def test_a_constant_is_no_signature_of_its_own(run: Any) -> None:
    assert run("scalings") == [(-12 + 18 + 36, 2)]
