"""How kernels are compiled and cached."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import NumbaError

from shared import kernels
from shared.kernels import (
    cache_folder,
    entry_point,
    filter_kernel,
    kernel,
    level_kernel,
    part_kernel,
    sources_digest,
)

ROOT = Path(__file__).parents[2]
KERNEL_SOURCE = "@kernel\ndef f(x):\n    return x\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project in the place of this one."""
    for name in ("shared/atomics.py", "workers/mix.py", "loadtest/wires.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(KERNEL_SOURCE)
    (tmp_path / "workers/zygote.py").write_text("import os\n")
    monkeypatch.setattr(kernels, "_ROOT", tmp_path)
    return tmp_path


def test_digest_follows_every_source_a_kernel_may_call(tree: Path) -> None:
    digests = {package: sources_digest(package) for package in ("workers", "loadtest")}
    assert digests == {package: sources_digest(package) for package in ("workers", "loadtest")}

    (tree / "workers/mix.py").write_text(KERNEL_SOURCE + "# another\n")
    assert sources_digest("workers") != digests["workers"]
    assert sources_digest("loadtest") == digests["loadtest"]

    (tree / "workers/mix.py").write_text(KERNEL_SOURCE)
    assert sources_digest("workers") == digests["workers"]

    (tree / "shared/limits.py").write_text("MAX_LANES = 16\n")
    assert sources_digest("workers") != digests["workers"]
    assert sources_digest("loadtest") != digests["loadtest"]


@pytest.mark.parametrize("called", ["workers/mix.py", "loadtest/clients/judge.py"])
def test_digest_of_tests_follows_the_kernels_they_call(tree: Path, called: str) -> None:
    before = sources_digest("tests")
    (tree / called).parent.mkdir(exist_ok=True)
    (tree / called).write_text(KERNEL_SOURCE + "# another\n")
    assert sources_digest("tests") != before


def test_digest_does_not_follow_modules_without_kernels(tree: Path) -> None:
    before = sources_digest("workers")
    (tree / "workers/zygote.py").write_text("import sys\n")
    assert sources_digest("workers") == before
    (tree / "workers/more.py").write_text(KERNEL_SOURCE)
    assert sources_digest("workers") != before


def test_old_caches_are_dropped_the_oldest_first(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_CHOSEN_FOLDER", None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    parent = tmp_path / "venv" / "var" / "tuttihub-kernels"
    now = time.time()
    for age in range(6):
        for package in ("workers", "loadtest"):
            old = parent / f"{package}-{age}"
            old.mkdir(parents=True)
            os.utime(old, (now - age, now - age))
    folder = cache_folder.__wrapped__("workers")
    assert folder == parent / f"workers-{sources_digest('workers')}"
    left = sorted(path.name for path in parent.iterdir() if path.name.startswith("workers"))
    assert left == ["workers-0", "workers-1", "workers-2"]
    assert len(list(parent.glob("loadtest-*"))) == 6


def test_cache_of_a_read_only_environment_is_the_users(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_CHOSEN_FOLDER", None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "shared"))  # no folder can be made here:
    (tmp_path / "shared" / "var").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache_folder.__wrapped__("workers")
    assert folder.parent == tmp_path / "cache" / "tuttihub-kernels"
    assert folder.parent.is_dir()


def run(code: str, **environment: str) -> str:
    """Run Python in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    code = """
from shared.kernels import cache_folder, compiled_anew
from workers.hubtime import frames_to_ns
assert frames_to_ns(48000, 48000) == 10**9
print(compiled_anew(), cache_folder())
"""
    first = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    second = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert first == f"1 {tmp_path}"
    assert second == f"0 {tmp_path}"


def test_after_forbidding_nothing_is_compiled() -> None:
    """What has been called before goes on; another type raises instead of compiling."""
    printed = run("""
import numpy as np
from shared.kernels import compiled_anew, forbid_compilation
from workers.hubtime import bucket
edges = np.array([10, 20])
bucket(edges, 11)
forbid_compilation()
print(bucket(edges, 9))
before = compiled_anew()
try:
    bucket(edges.astype(np.float64), 9)
except (TypeError, RuntimeError) as error:
    print(type(error).__name__, compiled_anew() - before)
""")
    assert printed.splitlines() == ["0", "TypeError 0"]


def _allocates(n):  # type: ignore[no-untyped-def]
    return np.zeros(n)[0]


def _adds(a, b):  # type: ignore[no-untyped-def]
    return a + b


@pytest.mark.parametrize("decorator", [kernel, level_kernel])
def test_kernel_that_allocates_does_not_compile(decorator: object) -> None:
    assert callable(decorator)
    with pytest.raises(NumbaError, match="empty"):
        decorator(_allocates)(3)


def test_entry_point_is_that_of_the_only_signature() -> None:
    add = kernel(_adds)
    with pytest.raises(ValueError, match="0 signatures"):
        entry_point(add)
    assert add(1, 2) == 3
    assert entry_point(add)(3, 4) == 7
    assert add(1.5, 2.0) == 3.5
    with pytest.raises(ValueError, match="2 signatures"):
        entry_point(add)


@pytest.mark.parametrize("decorator", [part_kernel, level_kernel, filter_kernel])
def test_kernel_is_made_as_it_says_whichever_calls_it_first(decorator: object) -> None:
    called = kernel(_adds)

    def calling(a, b):  # type: ignore[no-untyped-def]
        return called(a, b)

    assert decorator(calling)(1.0, 2.0) == 3.0  # type: ignore[operator]

    (part,) = called.parts.values()
    code = str(part.library._final_module)
    assert "fadd double" in code
    assert "alwaysinline" not in code
