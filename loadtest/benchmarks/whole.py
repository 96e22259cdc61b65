"""Whole servers under load: tuttihub, a bare echo, and JackTrip's own hub, one after another.

    python -m loadtest.benchmarks.whole --clients 1,10,100 --original 2,8 --seconds 5

The server runs on one core and the generator on another. Two tables are measured: *scale*,
tuttihub beside the echo on the same load (fan-out-no-self), and *original*, tuttihub beside
``jacktrip -S`` with a ``jackd -d dummy`` (full mix). All traffic stays on 127.0.0.0/8, and every
server is ended by its pid, or ends with this process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RecordError, Whole, WholeRow, figures
from loadtest.commandline import Numbers, interruptible, pinned
from loadtest.conduct import servers
from loadtest.conduct.servers import Server, ServerError
from loadtest.conduct.session import Session, SessionError
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.progress import Quiet
from loadtest.reporting.result import Result
from loadtest.scenario.model import Format, Hub, Scenario, ScenarioError, Section
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.whole"
SCALE, ORIGINAL = "scale", "original"
TUTTIHUB, ECHO, JACKTRIP = "tuttihub", "echo", "jacktrip"
SLOW_JOIN_RATE = 5.0
"""Handshakes a second at most beside JackTrip, whose hub patches each newcomer by hand."""
_OVERHEAD_S = 7.0
"""A server's start and end, and what a run does before its first client and after its last."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and how.

    Attributes:
        clients: numbers of clients beside the echo; original: beside JackTrip.
        seconds: measured window of each run.
        mode, queue: of tuttihub beside the echo (the original's are full mix and `-q4`).
        frames, bits, channels, rate_hz: of all packets.
        burst: all packets of a period at once.
        join_rate: handshakes a second.
        attempts: runs of each at most, until the generator was in time; minutes: within which
            one is run again at all.
        hub_cpu, load_cpu: cores of the servers and of the generator.
    """

    clients: tuple[int, ...] = (1, 10, 50, 100, 200, 300)
    original: tuple[int, ...] = (2, 8, 16, 24)
    seconds: float = 10.0
    mode: int = 2
    queue: str = "2"
    frames: int = 128
    bits: int = 16
    channels: int = 2
    rate_hz: int = 48000
    burst: bool = False
    join_rate: float = 25.0
    attempts: int = 3
    minutes: float = 8.0
    hub_cpu: int = 0
    load_cpu: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One server with so many clients; options: more of a tuttihub's."""

    table: str
    server: str
    clients: int
    mode: int
    queue: str
    join_rate: float
    options: tuple[str, ...] = ()


ORIGINAL_QUEUE = "4"


def cases(settings: Settings) -> list[Case]:
    """All that is to be measured, in order: neighbours are to be compared."""
    slow = min(SLOW_JOIN_RATE, settings.join_rate)
    found = []
    for number in settings.clients:
        for server in (ECHO, TUTTIHUB):
            mode = int(PatchMode.LOOPBACK) if server == ECHO else settings.mode
            found.append(Case(SCALE, server, number, mode, settings.queue, settings.join_rate))
    for number in settings.original:
        for server in (JACKTRIP, TUTTIHUB):
            mode = int(PatchMode.FULL_MIX)
            found.append(Case(ORIGINAL, server, number, mode, ORIGINAL_QUEUE, slow))
    return found


def expected_s(settings: Settings) -> float:
    """How long it takes when every first attempt is usable."""
    return _expected_s(cases(settings), settings)


def _expected_s(todo: Iterable[Case], settings: Settings) -> float:
    return sum(_OVERHEAD_S + settings.seconds + case.clients / case.join_rate for case in todo)


def scenario(case: Case, settings: Settings) -> Scenario:
    """What is played.

    Raises:
        ScenarioError: a setting is out of range.
    """
    form = Format(
        frames=settings.frames, rate_hz=settings.rate_hz, bits=settings.bits,
        sends=settings.channels, wants=settings.channels,
    )  # fmt: skip
    return Scenario(
        name="benchmark",
        seconds=settings.seconds,
        join_rate=case.join_rate,
        burst=settings.burst,
        hub=Hub(
            mode=PatchMode(case.mode), period=settings.frames, rate_hz=settings.rate_hz,
            queue=case.queue, options=case.options,
        ),
        sections=(Section(clients=case.clients, format=form),),
    )  # fmt: skip


def started(case: Case, plan: Scenario, cpu: int) -> AbstractContextManager[Server]:
    """The case's server, once entered."""
    match case.server:
        case "echo":
            return servers.echo(case.clients, cpus={cpu})
        case "jacktrip":
            return servers.jacktrip(plan.hub, cpus={cpu})
        case _:
            return servers.tuttihub(plan.hub, cpus={cpu})


def play(plan: Scenario, server: Server) -> Result:
    """One run against a server that listens.

    Raises:
        SessionError: it could not be done at all.
        KeyboardInterrupt: it was cut short.
    """
    session = Session(
        plan,
        host=server.host,
        port=server.port,
        hub_pids=server.pids,
        control=server.control,
        realtime=True,
        progress=Quiet(),
    )
    outcome = session.run()
    if outcome.interrupted:
        raise KeyboardInterrupt
    return evaluate(outcome)


def measure(case: Case, settings: Settings, another: Callable[[], bool] = lambda: True) -> WholeRow:
    """Run a case until the generator was in time, with a fresh server each time.

    another: whether there is time to run it again.
    """
    plan = scenario(case, settings)
    row: dict[str, Any] = {
        "table": case.table, "server": case.server, "clients": case.clients, "mode": case.mode,
        "queue": case.queue,
    }  # fmt: skip
    found: dict[str, Any] = {}
    for attempt in range(1, max(1, settings.attempts) + 1):
        if attempt > 1 and not another():
            break
        row["attempts"] = attempt
        try:
            with started(case, plan, settings.hub_cpu) as server:
                row["version"] = server.version
                found = figures(play(plan, server))
        except (ServerError, SessionError) as error:
            found = {"failed": str(error).splitlines()[0], "problems": str(error).splitlines()[1:6]}
            continue
        if found["usable"]:
            break
    return WholeRow(**row, **found)


def warm_up(settings: Settings) -> None:
    """Let hub, echo and generator compile what they need, before anything is measured.

    Raises:
        ServerError, SessionError: not even this can be done.
    """
    small = Settings(
        seconds=0.2, frames=settings.frames, bits=settings.bits, channels=settings.channels,
        rate_hz=settings.rate_hz,
    )  # fmt: skip
    for server in (ECHO, TUTTIHUB):
        case = Case(SCALE, server, 1, int(PatchMode.LOOPBACK), "2", 25.0)
        plan = scenario(case, small)
        with started(case, plan, settings.hub_cpu) as ready:
            play(plan, ready)


def run(settings: Settings, console: Console) -> Whole:
    """Measure everything, telling how it goes.

    Raises:
        ServerError, SessionError: not even a warm-up can be done.
    """
    rows = []
    with pinned(settings.load_cpu):
        console.print("compiling, or loading what is compiled")
        warm_up(settings)
        todo = cases(settings)
        until = time.monotonic() + max(settings.minutes * 60, expected_s(settings))
        for number, case in enumerate(todo, 1):

            def another(rest: float = _expected_s(todo[number - 1 :], settings)) -> bool:
                return time.monotonic() + rest < until

            rows.append(measure(case, settings, another))
            console.print(f"{number:3d} of {len(todo)}  {told(rows[-1])}", highlight=False)
    return Whole(record.made_by(MODULE, seed=1), asdict(settings), rows)


def told(row: WholeRow) -> str:
    """One line for the terminal while it goes on."""
    text = f"{row.server} with {row.clients}: "
    if row.failed:
        return f"{text}failed: {row.failed}"
    text += f"{row.cpu_us:.1f} µs a client-period, {row.lost + row.shortfall} lost"
    if row.wrong or row.silent or row.missing:
        text += f", {row.wrong} wrong, {row.silent} silent, {row.missing} missing"
    if not row.usable:
        text += f"; not usable after {row.attempts} attempts: {'; '.join(row.reasons)}"
    elif row.attempts > 1:
        text += f"; attempt {row.attempts}"
    return text


def table(rows: list[WholeRow]) -> Table:
    """All rows, a line each; the README has the whole of it."""
    view = Table(title="µs of CPU a client-period", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for name in (
        "server", "mode", "clients", "CPU", "user +\nsystem", "switches", "in→out ms\np50 / p99",
        "spacing\np99 µs", "join ms\np99", "lost", "wrong", "ticks\nmissed",
        "KiB a\nclient", "usable",
    ):  # fmt: skip
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        heard = row.latency
        view.add_row(
            row.server,
            str(row.mode),
            str(row.clients),
            f"{row.cpu_us:.2f}",
            f"{row.user_us:.1f} + {row.system_us:.1f}",
            f"{row.voluntary + row.involuntary:.2f}",
            f"{heard.p50 / 1000:.2f} / {heard.p99 / 1000:.2f}" if heard.count else "–",
            f"{row.spacing.p99:.0f}",
            f"{row.join_ms.p99:.0f}",
            str(row.lost + row.shortfall),
            str(row.wrong + row.silent),
            "–" if row.ticks_missed is None else str(row.ticks_missed),
            f"{row.private_kib_a_client:.0f}" if row.private_kib_a_client > 0 else "–",
            "failed" if row.failed else "yes" if row.usable else "no",
        )
    return view


_CLIENTS = Numbers(1, 1024, empty=True)


def options(function: Any) -> Any:
    """The options that make up ``Settings``."""
    default, cores = Settings(), os.sched_getaffinity(0)
    for decorate in reversed(
        (
            click.option("--clients", type=_CLIENTS, default=_text(default.clients),
                         help="Numbers of clients beside the echo."),
            click.option("--original", type=_CLIENTS, default=_text(default.original),
                         help="Numbers of clients beside JackTrip; '' for none."),
            click.option("--seconds", type=click.FloatRange(0.1, 3600), default=default.seconds,
                         help="Measured window of each run."),
            click.option("--mode", type=click.Choice(["1", "2", "4"]), default=str(default.mode),
                         help="tuttihub's patch mode beside the echo."),
            click.option("--queue", default=default.queue, help="Its queue, packets."),
            click.option("--frames", type=int, default=default.frames, help="A packet."),
            click.option("--bits", type=click.Choice(["8", "16", "24", "32"]),
                         default=str(default.bits), help="A sample."),
            click.option("--channels", type=click.IntRange(1, 16), default=default.channels),
            click.option("--rate", "rate_hz", type=int, default=default.rate_hz, help="Hz."),
            click.option("--burst/--spread", default=default.burst,
                         help="All packets of a period at once."),
            click.option("--join-rate", type=click.FloatRange(0.1, 10000),
                         default=default.join_rate, help="Handshakes a second."),
            click.option("--attempts", type=click.IntRange(1, 20), default=default.attempts,
                         help="Runs of each, until the generator was in time."),
            click.option("--minutes", type=click.FloatRange(0, 600), default=default.minutes,
                         help="Within which runs are repeated."),
            click.option("--hub-cpu", type=int, default=min(cores), help="Core of the servers."),
            click.option("--load-cpu", type=int, default=max(cores),
                         help="Core of the generator."),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def _text(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def settings_of(values: dict[str, Any]) -> Settings:
    """What the options said."""
    return Settings(**{**values, "mode": int(values["mode"]), "bits": int(values["bits"])})


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def measure_and_keep(
    settings: Settings, output: Path | None, out: Console, into: Whole | None = None
) -> Path:
    """Measure, show and write.

    into: a record that gets the new rows; else they are the whole of it.

    Raises:
        click.ClickException: it could not be done at all.
    """
    if into is not None:
        try:  # before anything is measured in vain
            record.merged(into, Whole(record.made_by(MODULE, seed=1), asdict(settings), []))
        except RecordError as error:
            raise click.ClickException(str(error)) from error
    minutes = expected_s(settings) / 60
    out.print(f"{len(cases(settings))} runs, about {minutes:.0f} min; more when some are repeated")
    try:
        whole = run(settings, out)
    except ScenarioError as error:
        raise click.UsageError(str(error)) from error
    except (ServerError, SessionError) as error:
        raise click.ClickException(str(error)) from error
    out.print(table(whole.rows))
    path = output or record.path_for(record.WHOLE)
    record.write(whole if into is None else record.merged(into, whole), path)
    out.print(f"written to {path}")
    return path


@click.command(context_settings={"show_default": True})
@options
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/whole-DATE.json]")  # fmt: skip
def main(output: Path | None, **values: Any) -> None:
    """Measure whole servers under load."""
    with interruptible():
        measure_and_keep(settings_of(values), output, console())


if __name__ == "__main__":
    main()
