"""Kernels that only kernels call cost no machine code, and answer Python all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.deferred import DeferredDispatcher
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


def machine_code(dispatcher: DeferredDispatcher) -> list[bool]:
    return [cres.library._emitting for cres in dispatcher.overloads.values()]


def test_only_what_python_calls_becomes_machine_code() -> None:
    row = np.arange(1.0, 5.0)
    assert _outer(row) == 2.0 * (10.0 + 9.0)
    assert machine_code(_outer) == [True]
    assert machine_code(_middle) == machine_code(_inner) == [False]
    assert len(_inner.signatures) == 1

    assert _inner(row) == 10.0  # finished now, and still good for kernels that come later
    assert machine_code(_inner) == [True]
    assert machine_code(_middle) == [False]
    assert _alone(row) == 9.0
    assert entry_point(_middle)(row) == 19.0
    assert machine_code(_middle) == [True]


def test_another_type_is_another_signature() -> None:
    assert _middle(np.arange(3, dtype=np.float32)) == 6.0


MODULE = """
import sys
from shared.kernels import compiled_anew, kernel

@kernel
def inner(x):
    return x + 1

@kernel
def outer(x):
    return 2 * inner(x)

if __name__ == "__main__":
    print(globals()[sys.argv[1]](3), compiled_anew())
"""


def test_cache_serves_a_kernel_that_was_only_linked(tmp_path: Path) -> None:
    module = tmp_path / "counting.py"
    module.write_text(MODULE)

    def run(name: str) -> str:
        done = subprocess.run(
            [sys.executable, str(module), name],
            cwd=ROOT,
            env={"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run("outer") == "8 2"
    assert run("inner") == "4 0"  # found as what it was linked from, and emitted
    assert run("inner") == "4 0"  # found as machine code
    assert run("outer") == "8 0"
