"""Results of benchmarks that have their rows to themselves, in ``loadtest/results/KIND-DATE.json``.

::

    {"schema": 1, "kind": KIND, "provenance": {...}, ..., "rows": [a row, ...]}

A row is a line. What a row holds is the benchmark's own dataclass (``benchmarks.record`` has those
of the README's tables).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RecordError
from loadtest.reporting.plain import ShapeError, from_plain, to_plain

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Kept(Generic[Row]):
    """A file; more: its other members, by name."""

    provenance: dict[str, Any]
    rows: Sequence[Row]
    more: dict[str, Any] = field(default_factory=dict)


def write(kind: str, found: Kept[Any], path: Path) -> None:
    """Keep it, a line a row."""
    head = {"schema": record.SCHEMA, "kind": kind, "provenance": found.provenance, **found.more}
    lines = ",\n  ".join(json.dumps(to_plain(row), ensure_ascii=False) for row in found.rows)
    members = [
        f' "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in head.items()
    ]
    path.write_text("{\n" + ",\n".join([*members, f' "rows": [\n  {lines}\n ]']) + "\n}\n")


def read(kind: str, row: type[Row], path: Path) -> Kept[Row]:
    """A kept file.

    Raises:
        RecordError: it is none of this kind.
    """
    try:
        plain = json.loads(path.read_text())
        if not isinstance(plain, dict) or plain.get("kind") != kind:
            raise RecordError(f"{path}: no record of kind {kind!r}")
        rows = [from_plain(row, each) for each in plain.pop("rows")]
        made = plain.pop("provenance")
    except (OSError, KeyError, ShapeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path}: {error}") from error
    return Kept(made, rows, {k: v for k, v in plain.items() if k not in ("schema", "kind")})


def newest(kind: str, row: type[Row], folder: Path = record.RESULTS) -> Kept[Row] | None:
    """The latest by its own date; None when there is none.

    Raises:
        RecordError: a file of that name is none.
    """
    found = [read(kind, row, path) for path in folder.glob(f"{kind}-*.json")]
    return max(found, key=lambda each: str(each.provenance.get("date", "")), default=None)


def finish(kind: str, found: Kept[Any], path: Path | None, tell: Callable[[str], None]) -> None:
    """Write a result where it belongs, or to `path`, and say so."""
    path = path or record.path_for(kind)
    write(kind, found, path)
    tell(f"written to {path}")
