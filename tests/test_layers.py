"""A folder is a layer: who may import whom, and that the control plane loads no compiler."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "shared": set[str](),
    "workers": {"shared"},
    "hub": {"shared"},
    "loadtest": {"shared"},
}


DOORS = {"loadtest": {("hub", "client")}}
"""Single modules of another layer that a layer may import: how anybody speaks to a hub."""


def imported(path: Path, doors: set[tuple[str, str]]) -> Iterator[str]:
    """Top-level packages that a module imports, wherever in it, but for those doors."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                if not {(module, alias.name) for alias in names} <= doors:
                    yield module.partition(".")[0]


@pytest.mark.parametrize("layer", ALLOWED)
def test_layer_imports_only_what_lies_below_it(layer: str) -> None:
    modules = list((ROOT / layer).rglob("*.py"))
    assert modules
    ours = {*ALLOWED, "tests"}
    for module in modules:
        found = set(imported(module, DOORS.get(layer, set()))) & ours
        assert found <= ALLOWED[layer] | {layer}, module


def test_control_plane_loads_no_compiler() -> None:
    code = "import sys, hub.server; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"numba", "llvmlite"} & set(done.stdout.split())
