"""The hub's kernels, timed by pytest-benchmark, reduced to what is worth keeping.

    python -m loadtest.benchmarks.kernels

The benchmarks are in ``tests/kernels``, for they call the hub's own code, which this package
never does; they run in a process of their own, on one core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import KernelRow, Kernels

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "kernels"
FILES = tuple(f"bench_{name}.py" for name in ("receive", "conceal", "resample", "mix", "lanes"))
LIMIT_S = 900.0
MODULE = "loadtest.benchmarks.kernels"
_PREFIX = "test_"


class KernelsError(RuntimeError):
    """The benchmarks could not be run, or one found that its kernel does the wrong thing."""


def measure(seconds: float, *, choice: str = "", cpu: int | None = None) -> list[KernelRow]:
    """Run the benchmarks.

    Args:
        seconds: of measuring, each.
        choice: which, as pytest's -k has it; empty: all.
        cpu: the core; None: any.

    Raises:
        KernelsError: the text ends with what pytest said.
    """
    if not FOLDER.is_dir():
        raise KernelsError(f"{FOLDER}: is not there; kernels are timed from a checkout")
    with tempfile.TemporaryDirectory(prefix="tuttihub-bench-") as folder:
        path = Path(folder) / "kernels.json"
        command = [
            sys.executable, "-m", "pytest", *(str(FOLDER / name) for name in FILES),
            "-q", "-p", "no:cacheprovider", "--no-header", "-o", "addopts=",
            f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=5",
            "--benchmark-warmup=on", "--benchmark-disable-gc", f"--benchmark-json={path}",
            *(["-k", choice] if choice else []),
        ]  # fmt: skip
        cores = os.sched_getaffinity(0) if cpu is None else {cpu}
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise KernelsError(f"pytest: not done within {LIMIT_S:g} s") from error
        if done.returncode != 0 or not path.exists():
            raise KernelsError(f"pytest: exit code {done.returncode}\n{done.stdout[-3000:]}")
        return reduce(json.loads(path.read_text())["benchmarks"])


def reduce(benchmarks: Sequence[dict[str, Any]]) -> list[KernelRow]:
    """Rows of pytest-benchmark's own records, ordered by name and parameters."""
    rows = []
    for each in benchmarks:
        stats, extra = each["stats"], each["extra_info"]
        units = int(extra["units"])

        def per_unit(seconds: float, units: int = units) -> float:
            return float(f"{1e6 * seconds / units:.4g}")

        rows.append(
            KernelRow(
                name=str(each["name"]).partition("[")[0].removeprefix(_PREFIX),
                parameters=dict(sorted((each["params"] or {}).items())),
                unit=str(extra.get("unit", "client-period")),
                median_us=per_unit(stats["median"]),
                low_us=per_unit(stats["q1"]),
                high_us=per_unit(stats["q3"]),
                rounds=int(stats["rounds"]),
                units=units,
            )
        )
    return sorted(rows, key=lambda row: (row.name, _sortable(row.parameters)))


def _sortable(parameters: dict[str, Any]) -> list[str]:
    """Parameters as text that sorts by value: 64 before 128."""
    return [f"{v:08d}" if isinstance(v, int) else str(v) for v in parameters.values()]


def table(rows: Sequence[KernelRow]) -> Table:
    """All rows for the terminal."""
    view = Table(title="kernels, µs a unit", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("kernel", "parameters", "unit"):
        view.add_column(name)
    for name in ("median", "quartiles", "rounds"):
        view.add_column(name, justify="right")
    for row in rows:
        view.add_row(
            row.name,
            ", ".join(f"{name} {value}" for name, value in row.parameters.items()),
            row.unit,
            f"{row.median_us:.4g}",
            f"{row.low_us:.4g} … {row.high_us:.4g}",
            str(row.rounds),
        )
    return view


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=0.5, help="Of measuring, each benchmark.")
@click.option("--choose", default="", help="Which, as pytest's -k.  [default: all]")
@click.option("--cpu", default=min(os.sched_getaffinity(0)), help="Core to run on.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/kernels-DATE.json]")  # fmt: skip
def main(seconds: float, choose: str, cpu: int, output: Path | None) -> None:
    """Time the hub's kernels."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        rows = measure(seconds, choice=choose, cpu=cpu)
    except KernelsError as error:
        raise click.ClickException(str(error)) from error
    console.print(table(rows))
    path = output or record.path_for(record.KERNELS)
    record.write(Kernels(record.made_by(MODULE), {"seconds": seconds, "cpu": cpu}, rows), path)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
