"""The shape of the import graph inside the layers (between them: ``test_layers``)."""

from __future__ import annotations

import ast
import re
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "workers", "hub", "loadtest", "tests")


def modules(package: str) -> dict[str, Path]:
    """Modules of a package by dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that a module imports when it is loaded."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue  # runs later
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue  # never runs
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found |= {module, *(f"{module}.{alias.name}" for alias in names)}
        pending += ast.iter_child_nodes(node)
    return found & known


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    paths = modules(package)
    assert paths
    graph = {name: imports(path, set(paths)) - {name} for name, path in paths.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_name_their_package(package: str) -> None:
    """Relative imports would hide from the test of the layers."""
    for name, path in modules(package).items():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), name


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [each for group in groups for each in group]
    table = (ROOT / "README.md").read_text().partition("| dependency | why |")[2]
    told = {name.lower() for name in re.findall(r"[\w.-]+", "|".join(_first_cells(table)))}

    assert {re.split(r"[<>=~!]", each)[0].lower() for each in wanted} == told


def _first_cells(table: str) -> list[str]:
    """Names, without what stands in brackets."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.split("|")[1] for line in lines]
