"""``tuttihub loadtest``: play an ensemble against a hub, check what returns, say what it cost.

What is slow to load (numba, matplotlib) is loaded where it is needed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.commandline import (
    EXIT_INTERRUPTED,
    cores,
    interruptible,
    need_writable,
    write_whole,
)
from loadtest.playing import EXIT_FAULTS, Setting, Unplayable, found, play, the_line
from loadtest.scenario.model import Scenario, Sources

if TYPE_CHECKING:
    from loadtest.reporting.result import Result

EXIT_UNUSABLE = 3
_WIDTH = 110
"""Of what is written to a file."""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LoadTestGroup(click.Group):
    """``loadtest NAME`` is ``loadtest run NAME``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=LoadTestGroup, context_settings=_SETTINGS, no_args_is_help=True)
def loadtest() -> None:
    """Play an ensemble of virtual JackTrip clients against a hub, and judge what comes back.

    \b
    tuttihub loadtest rehearsal-30 --serve     starts a hub, plays 30 musicians, ends it
    tuttihub loadtest choir-300 --html r.html  against the hub on port 4464
    tuttihub loadtest --clients 50 --mode 2    50 alike; the hub runs -p2
    tuttihub loadtest my.toml --host hub.example.org
    tuttihub loadtest scenarios                what is ready-made
    tuttihub loadtest compare a.json b.json    two runs side by side

    Only load hubs that are yours.
    """


def _number(name: str, kind: Any, text: str, **more: Any) -> Any:
    return click.option(name, type=kind, default=None, help=text, **more)


@loadtest.command(
    short_help="Play a scenario, or clients that are all alike.",
    epilog="""\b
Exit codes: 0 the service level held; 1 it did not; 2 a wrong option, or no hub;
3 the generator itself was too late to tell; 130 interrupted.

\b
Examples:
  tuttihub loadtest run rehearsal-30 --serve --hub-cpu 0 --cpu 1
  tuttihub loadtest run --clients 100 --seconds 30 --mode 2 --json r.json --html r.html
  tuttihub loadtest run flaky-wifi --clients 12 --seed 7
  tuttihub loadtest run rehearsal-30 --serve --netem      (root: a real network namespace)
""",
)
@click.argument("scenario", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The hub's name or address.")
@click.option("--port", type=click.IntRange(1, 65535), default=4464, show_default=True,
              help="Its TCP port.")  # fmt: skip
@click.option(
    "--serve", is_flag=True, help="Start a tuttihub with the scenario's options, and end it."
)
@click.option("--netem", is_flag=True,
              help="As root: impaired by tc netem, in a network namespace of its own.")  # fmt: skip
@click.option("--echo", is_flag=True, help="With --serve: afterwards, what a bare echo of the same "
              "packets costs on the same cores.")  # fmt: skip
@_number("--clients", int, "So many; sections keep their proportions.")
@_number("--seconds", float, "Length of the measured window.")
@_number("--mode", click.Choice(["1", "2", "4", "5"]), "Patch mode the hub runs: what to expect.")
@_number("--period", int, "The hub's period: what to expect, with --serve what it gets.")
@click.option("--upmix/--no-upmix", default=None, help="Mono to both sides: likewise.")
@_number("--frames", int, "Samples per channel in a packet.")
@_number("--rate", int, "Sample rate, Hz.")
@_number("--channels", int, "Channels sent and wanted.")
@_number("--bits", click.Choice(["8", "16", "24", "32"]), "Bits a sample.")
@_number("--redundancy", int, "Full packets in a datagram.")
@_number("--queue", str, "With --serve: the hub's -q.")
@click.option("--burst/--spread", default=None, help="Arrivals all at once, or over the period.")
@_number("--sources", click.Choice([str(each) for each in Sources]),
         "An address 127.1.x.y a client, or one address and many ports.")  # fmt: skip
@_number("--join-rate", float, "Handshakes a second before the window; 0: all at once.")
@_number("--settle", float, "Seconds between the last join and the window.")
@_number("--seed", int, "Of every random choice.")
@click.option("--break-it", is_flag=True, help="Without --serve: do what the scenario breaks "
              "on purpose to the hub that runs there, and to those who play on it.")  # fmt: skip
@click.option("--hub-pid", "hub_pids", type=int, multiple=True,
              help="A process of the hub, with its children; else found by the port.")  # fmt: skip
@click.option("--hub-cpu", help="With --serve: cores of the hub, as 0 or 0,2.")
@click.option("--cpu", type=int, help="The generator runs on this core only.")
@click.option(
    "--realtime/--no-realtime", default=True, show_default=True, help="Ask for SCHED_FIFO."
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write all figures here.")  # fmt: skip
@click.option("--html", "html_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the report, one page with plots, here.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress, no tables.")
def run(
    scenario: str | None,
    host: str,
    port: int,
    serve: bool,
    netem: bool,
    echo: bool,
    break_it: bool,
    hub_pids: tuple[int, ...],
    hub_cpu: str | None,
    cpu: int | None,
    realtime: bool,
    json_path: Path | None,
    html_path: Path | None,
    quiet: bool,
    **changes: Any,
) -> None:
    """Play a scenario (a ready-made name or a TOML file), or clients alike."""
    console = Console(stderr=True, quiet=quiet, width=None if sys.stderr.isatty() else _WIDTH)
    address = _resolved("127.0.0.1" if serve else host)
    plan = _scenario(scenario, changes, address)
    if plan.faults and not serve and not break_it:
        raise click.UsageError(_damage(plan, port))
    if netem and os.geteuid() != 0:
        raise click.UsageError("--netem: only root may make network namespaces")
    if netem and not serve:
        raise click.UsageError("--netem: needs --serve: the hub listens beside the namespace")
    if echo and not serve:
        raise click.UsageError("--echo: needs --serve: it runs on the cores that the hub had")
    if netem:
        with _wrong("--netem"):
            the_line(plan)
    if html_path:
        _ask_for_charts()
    need_writable(json_path, "--json")
    need_writable(html_path, "--html")
    ours = os.sched_getaffinity(0)
    hub_cores = cores(hub_cpu, "--hub-cpu", ours) if hub_cpu is not None else ours
    guest_cpus = guest_cores(ours, cpu, hub_cores)
    _pin(cpu)
    place = found(plan, address, port, hub_pids) if not serve else None
    setting = Setting(place, tuple(hub_cores), tuple(guest_cpus), netem, echo, realtime)
    with interruptible():
        result = play(plan, setting, console)
    from loadtest.reporting.terminal import show

    show(result, console)
    if json_path:
        _write(json_path, result.to_json() + "\n")
    if html_path:
        _write_html([result], html_path)
    sys.exit(exit_code(result))


def exit_code(result: Result) -> int:
    """What a run's figures mean to a script."""
    if result.interrupted:
        return EXIT_INTERRUPTED
    if not result.usable:
        return EXIT_UNUSABLE
    return 0 if result.passed else EXIT_FAULTS


@loadtest.command(
    "scenarios",
    short_help="List the ready-made scenarios, or print one.",
    epilog="\b\nExamples:\n  tuttihub loadtest scenarios choir-300",
)
@click.argument("name", required=False)
def scenarios_(name: str | None) -> None:
    """List the ready-made scenarios, or print one as TOML, to begin one's own with."""
    from loadtest.scenario import library

    if name is None:
        table = Table(box=box.SIMPLE, show_edge=False)
        for title in ("name", "clients", "seconds", "what it is"):
            table.add_column(title, justify="right" if title in ("clients", "seconds") else "left")
        for each in library.names():
            found = library.ready(each)
            table.add_row(each, str(found.clients), f"{found.seconds:g}", found.title)
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
        return
    with _wrong("NAME"):
        click.echo(library.text(name), nl=False)


_RESULT = click.Path(exists=True, dir_okay=False, path_type=Path)


@loadtest.command(epilog="\b\nExamples:\n  tuttihub loadtest compare before.json after.json")
@click.argument("files", nargs=-1, required=True, type=_RESULT, metavar="A.json B.json [...]")
@click.option("--html", "html_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the report of all, one page with plots, here.")  # fmt: skip
def compare(files: tuple[Path, ...], html_path: Path | None) -> None:
    """Put runs side by side: what became better, what worse."""
    from loadtest.reporting.compare import compare as put_side_by_side
    from loadtest.reporting.result import load

    if len(files) < 2:
        raise click.UsageError("compare: two files at least")
    with _wrong("FILES"):
        results = [load(path) for path in files]
    Console().print(put_side_by_side(results))
    if html_path:
        _write_html(results, html_path)


@loadtest.command(
    short_help="Make one HTML page of what runs have found.",
    epilog="\b\nExamples:\n  tuttihub loadtest report run.json -o run.html\n"
    "  tuttihub loadtest report capacity.json -o capacity.html",
)
@click.argument("files", nargs=-1, required=True, type=_RESULT, metavar="A.json [...]")
@click.option("-o", "--output", required=True, help="The page.",
              type=click.Path(dir_okay=False, path_type=Path))  # fmt: skip
def report(files: tuple[Path, ...], output: Path) -> None:
    """Make one HTML page of a run's JSON; of several, with their cost against the clients; of a
    capacity measurement's."""
    from loadtest.capacity import page
    from loadtest.reporting.result import load

    need_writable(output, "--output")
    _ask_for_charts()
    if any(page.is_capacity(path) for path in files):
        if len(files) > 1:
            raise click.UsageError("report: a capacity measurement has a page of its own")
        with _wrong("FILES"):
            text = page.render(files[0])
        _write(output, text)
        return
    with _wrong("FILES"):
        results = [load(path) for path in files]
    _write_html(results, output)


def _write_html(results: list[Result], path: Path) -> None:
    _ask_for_charts()
    from loadtest.reporting.html import render

    _write(path, render(results))


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise Unplayable(f"{path}: {error.strerror}") from error


def _ask_for_charts() -> None:
    """Say before a long run, not after it, that its page cannot be drawn."""
    from loadtest.reporting.html import MissingExtra, need_charts

    try:
        need_charts()
    except MissingExtra as error:
        raise Unplayable(str(error)) from None


@contextlib.contextmanager
def _wrong(what: str) -> Iterator[None]:
    """Errors of the block are the user's: exit code 2, and what is wrong."""
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=what) from error


def _resolved(host: str) -> str:
    """Its numeric address."""
    from loadtest.conduct.handshake import resolve

    try:
        return resolve(host)[1]
    except OSError as error:
        raise click.BadParameter(f"{host}: {error}", param_hint="--host") from error


def _damage(plan: Scenario, port: int) -> str:
    """What a scenario would do to a hub that runs already, and how it may."""
    kinds = ", ".join(dict.fromkeys(str(fault.kind) for fault in plan.faults))
    return (
        f"{plan.name} breaks things on purpose ({kinds}), and would break them for everybody on "
        f"the hub of port {port}. With --serve it gets a hub of its own; if that hub is yours, "
        "and nobody plays on it, --break-it"
    )


def guest_cores(ours: Collection[int], generator: int | None, hub: Collection[int]) -> list[int]:
    """Where hostile guests run: beside the generator and, if there is room, beside the hub.

    generator: its core; None: it has none of its own.
    """
    others = set(ours) - {generator}
    return sorted(others - set(hub) or others)


def _scenario(name: str | None, changes: dict[str, Any], address: str) -> Scenario:
    """The plan that was asked for, with the command line's changes.

    address: of the hub, numeric; only those of 127.x.y.z are reached from addresses like them.
    """
    from loadtest.scenario.library import find
    from loadtest.scenario.loader import override

    with _wrong("SCENARIO"):
        plan = Scenario() if name is None else find(name)
    if not address.startswith("127."):
        if changes.get("sources") == str(Sources.ADDRESSES):
            problem = f"{Sources.ADDRESSES}: for hubs at 127.x.y.z only, not {address}"
            raise click.BadParameter(problem, param_hint="--sources")
        changes["sources"] = str(Sources.PORTS)
    try:
        return override(plan, **changes)
    except ValueError as error:
        change, _, problem = str(error).removeprefix("change: ").partition(": ")
        raise click.BadParameter(problem, param_hint=f"--{change.replace('_', '-')}") from error


def _pin(cpu: int | None) -> None:
    if cpu is None:
        return
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise click.BadParameter(f"{cpu}: {error}", param_hint="--cpu") from error
