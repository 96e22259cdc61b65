"""All benchmarks: kernels, whole servers, and the README's tables from what they found.

python -m loadtest.benchmarks                       as `make bench`
python -m loadtest.benchmarks --clients 1,100 --original '' --seconds 5
python -m loadtest.benchmarks --merge --clients 300 --original ''      one row anew, the others stay
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from loadtest.benchmarks import kernels, record, render, whole
from loadtest.benchmarks.record import Kernels, RecordError, Whole
from loadtest.benchmarks.render import RenderError
from loadtest.commandline import interruptible

KERNELS_S = 90
"""About so long all kernels take, half a second each and their compilation."""


@click.command(context_settings={"show_default": True})
@whole.options
@click.option("--kernels/--no-kernels", "time_kernels", default=True, help="Time the kernels.")
@click.option("--kernel-seconds", default=0.5, help="Of measuring, each kernel.")
@click.option("--merge", is_flag=True, help="Keep all other rows of the newest record of servers; "
              "only those measured now are replaced (and no kernels are timed).")  # fmt: skip
@click.option("--render/--no-render", "write_tables", default=True,
              help="Write the README's tables.")  # fmt: skip
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=record.RESULTS,
              show_default="loadtest/results", help="For the JSON files.")  # fmt: skip
def main(
    time_kernels: bool,
    kernel_seconds: float,
    merge: bool,
    write_tables: bool,
    folder: Path,
    **values: Any,
) -> None:
    """Measure everything that the README's performance section shows."""
    settings, console = whole.settings_of(values), whole.console()
    time_kernels = time_kernels and not merge
    into = None
    if merge:
        try:
            into = record.newest(Whole, folder)
        except RecordError as error:
            raise click.ClickException(str(error)) from error
        if into is None:
            raise click.BadParameter(f"no record in {folder} to merge into", param_hint="--merge")
    minutes = (whole.expected_s(settings) + KERNELS_S * time_kernels) / 60
    console.print(f"this takes about {minutes:.0f} min; leave the machine alone")
    with interruptible():
        _measure(settings, console, kernel_seconds if time_kernels else 0.0, folder, into)
    if write_tables:
        try:
            render.README.write_text(render.rendered(results=folder))
        except (RecordError, RenderError) as error:
            raise click.ClickException(str(error)) from error
        console.print(f"tables written to {render.README.name}")


def _measure(
    settings: whole.Settings,
    console: Console,
    kernel_seconds: float,
    folder: Path,
    into: Whole | None,
) -> None:
    """kernel_seconds: of each kernel; 0: none. into: a record that gets the new rows."""
    if kernel_seconds:
        try:
            rows = kernels.measure(kernel_seconds, cpu=settings.hub_cpu)
        except kernels.KernelsError as error:
            raise click.ClickException(str(error)) from error
        console.print(kernels.table(rows))
        path = record.path_for(record.KERNELS, folder)
        made = record.made_by("loadtest.benchmarks")
        record.write(
            Kernels(made, {"seconds": kernel_seconds, "cpu": settings.hub_cpu}, rows), path
        )
        console.print(f"written to {path}")
    path = record.path_for(record.WHOLE, folder)
    if into is not None:  # the newest is the one that goes on
        kept = folder.glob(f"{record.WHOLE}-*.json")
        path = next(each for each in kept if record.read(Whole, each) == into)
    whole.measure_and_keep(settings, path, console, into)


if __name__ == "__main__":
    main()
