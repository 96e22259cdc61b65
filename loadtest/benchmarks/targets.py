"""Everything that the hub is to reach, measured in one run.

    python -m loadtest.benchmarks.targets
    python -m loadtest.benchmarks.targets --parts cost,joins --seconds 4 --no-page

==========  ===================================================================================
cost        the bare echo and the hub, a process a client and shared, with 50, 250 and 400
            clients and with drift correction on; the hub with two clients
original    JackTrip's hub and ours with 24 in a full mix
joins       one after another with 300 connected, and 300 within one second
start       a hub's start, its kernels cached and not
shared      a search of capacity, all sharing receivers
alone       and one with a process a client
==========  ===================================================================================

Servers are pinned to one core and the generator to another, as by ``benchmarks.whole``; a hub's
start has all cores. What a part has found stays in the file of the day until it is measured anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from loadtest.benchmarks import record, whole
from loadtest.benchmarks.record import RecordError, WholeRow
from loadtest.benchmarks.whole import ECHO, JACKTRIP, ORIGINAL, SCALE, TUTTIHUB, Case, Settings
from loadtest.capacity.measure import Bench
from loadtest.capacity.measure import Case as Searched
from loadtest.capacity.search import Rules, Search
from loadtest.commandline import interruptible, pinned
from loadtest.conduct import servers
from loadtest.conduct.servers import ServerError
from loadtest.conduct.session import SessionError
from loadtest.reporting.plain import ShapeError, from_plain, to_plain
from loadtest.reporting.result import Spread
from loadtest.scenario.model import Hub, Scenario, Section, Service
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.targets"
KIND = "targets"
ALONE, SHARED, AUTO = "a process each", "shared", "auto"
OPTIONS = {
    ALONE: ("--clients-per-worker", "1"),
    SHARED: ("--clients-per-worker", "50"),
}
FIRST = {ALONE: 64, SHARED: 150}
"""Clients that a search begins with."""
DRIFT = ("--drift", "on")
CONNECTED, FEWER, STORM = 300, 100, 300
FEW_MORE = 30
"""Who join one after another while CONNECTED, or FEWER, are there."""
LEVEL = Service(missed_ticks=-1, return_loss=2e-3, wrong=2e-3, findings=-1)
"""Of the searches: this machine stands still now and then, and no hub ticks meanwhile."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server under load.

    Attributes:
        receivers: ALONE, SHARED, or empty for other servers.
        drift: as the hub was told.
        row: what was found.
    """

    receivers: str
    drift: str
    row: WholeRow


@dataclass(frozen=True, slots=True)
class JoinRow:
    """Clients that join while others are connected.

    Attributes:
        connected: who were there; newcomers: who came; over_s: spread over so long.
        joined: of them, in the end.
        join_ms: from TCP connect to first audio back.
        served_s: until the last of them had audio, since the first began.
        usable, reasons: whether the generator was in time.
        receivers: AUTO or SHARED.
    """

    connected: int
    newcomers: int
    over_s: float
    joined: int
    join_ms: Spread
    served_s: float
    usable: bool
    reasons: list[str]
    receivers: str = AUTO


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """A search: what holds, what fails (0: nothing did), and how it ended."""

    receivers: str
    clients: int
    fails: int
    ending: str
    probes: int
    seconds: float


@dataclass(slots=True)
class Targets:
    """A file: rows by part; start_s: "warm" and "cold"."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    cost: list[ServerRow] = field(default_factory=list)
    original: list[ServerRow] = field(default_factory=list)
    joins: list[JoinRow] = field(default_factory=list)
    start_s: dict[str, float] = field(default_factory=dict)
    capacity: list[CapacityRow] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    schema: int = record.SCHEMA
    kind: str = KIND


def _server(
    table: str, server: str, clients: int, settings: Settings, receivers: str = "",
    drift: tuple[str, ...] = (),
) -> ServerRow:  # fmt: skip
    mode, queue, rate = settings.mode, settings.queue, settings.join_rate
    if table == ORIGINAL:
        mode, queue = int(PatchMode.FULL_MIX), whole.ORIGINAL_QUEUE
        rate = min(whole.SLOW_JOIN_RATE, rate)
    if server == ECHO:
        mode = int(PatchMode.LOOPBACK)
    case = Case(table, server, clients, mode, queue, rate, (*OPTIONS.get(receivers, ()), *drift))
    return ServerRow(receivers, drift[-1] if drift else "auto", whole.measure(case, settings))


def cost(settings: Settings) -> Iterator[ServerRow]:
    """Neighbours are to be compared."""
    for clients in (50, 250, 400):
        yield _server(SCALE, ECHO, clients, settings)
        yield _server(SCALE, TUTTIHUB, clients, settings, SHARED)
        if clients < 400:
            yield _server(SCALE, TUTTIHUB, clients, settings, ALONE)
            yield _server(SCALE, TUTTIHUB, clients, settings, SHARED, DRIFT)
    yield _server(SCALE, TUTTIHUB, 50, settings, ALONE, DRIFT)
    yield _server(SCALE, TUTTIHUB, 2, settings, ALONE)
    yield _server(SCALE, TUTTIHUB, 2, settings, SHARED)


def original(settings: Settings) -> Iterator[ServerRow]:
    """JackTrip's own hub and ours."""
    yield _server(ORIGINAL, JACKTRIP, 24, settings)
    yield _server(ORIGINAL, TUTTIHUB, 24, settings, ALONE)
    yield _server(ORIGINAL, TUTTIHUB, 24, settings, SHARED)


def join_scenario(connected: int, newcomers: int, over_s: float, receivers: str = AUTO) -> Scenario:
    """So many come within so long, to a hub that so many play on."""
    return Scenario(
        name="joins",
        seconds=1.0 + over_s + 4.0,
        join_rate=50.0,
        hub=Hub(mode=PatchMode.FAN_OUT_NO_SELF, queue="2", options=OPTIONS.get(receivers, ())),
        sections=(
            Section(name="there", clients=connected),
            Section(name="new", clients=newcomers, join_at_s=1.0, join_over_s=over_s),
        ),
    )


def joins(settings: Settings) -> Iterator[JoinRow]:
    """Newcomers to a full hub, and all at once."""
    for connected, newcomers, over_s, receivers in (
        (CONNECTED, FEW_MORE, 6.0, AUTO), (CONNECTED, FEW_MORE, 6.0, SHARED),
        (FEWER, FEW_MORE, 6.0, SHARED), (1, STORM, 1.0, AUTO), (1, STORM, 1.0, SHARED),
    ):  # fmt: skip
        plan = join_scenario(connected, newcomers, over_s, receivers)
        with servers.tuttihub(plan.hub, cpus={settings.hub_cpu}) as server:
            result = whole.play(plan, server)
        there, new = result.sections
        log = result.joins_log
        heard = [
            (at_s, at_s + waited / 1000)
            for client, at_s, waited in zip(
                log["client"], log["at_s"], log["join_ms"], strict=True
            )
            if client >= there.clients and waited >= 0
        ]  # fmt: skip
        served = max(end for _, end in heard) - min(at for at, _ in heard) if heard else 0.0
        yield JoinRow(
            connected, newcomers, over_s, len(heard), new.join_ms, round(served, 3), result.usable,
            result.reasons, receivers,
        )  # fmt: skip


@contextlib.contextmanager
def _kernels_in(folder: str | None) -> Iterator[None]:
    """Have servers look for their kernels elsewhere."""
    before = os.environ.get("NUMBA_CACHE_DIR")
    if folder is not None:
        os.environ["NUMBA_CACHE_DIR"] = folder
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("NUMBA_CACHE_DIR")
        if before is not None:
            os.environ["NUMBA_CACHE_DIR"] = before


def start() -> dict[str, float]:
    """Seconds from a hub's command until it says that it is ready, on all cores."""
    cores, found = range(os.cpu_count() or 1), {}
    for name, takes in (("warm", 3), ("cold", 1)):
        with tempfile.TemporaryDirectory(prefix="tuttihub-load-") as folder:
            times = []
            with _kernels_in(folder if name == "cold" else None):
                for _ in range(takes):
                    times.append(_start_s(cores))
            found[name] = round(min(times), 2)
    return found


def _start_s(cores: range) -> float:
    """Of one hub, by its log's first and last lines' own times where they are read."""
    with tempfile.TemporaryDirectory(prefix="tuttihub-load-") as folder:
        log = Path(folder) / "log"
        began = time.monotonic()
        with servers.tuttihub(Hub(), cpus=cores, log_path=log) as _:
            return time.monotonic() - began


def capacity(settings: Settings, receivers: str, tell: Callable[[str], None]) -> CapacityRow:
    """The largest number that holds, in steps of 15 %."""
    case = Searched(
        queue=settings.queue, hub_options=OPTIONS[receivers], hub_cpus=(settings.hub_cpu,),
        service=LEVEL,
    )  # fmt: skip
    rules = Rules(start=FIRST[receivers], seconds=5.0, screen_s=5.0, step_share=0.15, most=24)

    def told(text: str, probe: Any) -> None:
        tell(text if probe is None else f"  {probe.clients}: passed {probe.passed}")

    found = Search(Bench(case), rules, progress=told).run()
    return CapacityRow(
        receivers, found.clients, found.fails or found.beyond, str(found.ending),
        len(found.probes), rules.seconds,
    )  # fmt: skip


def write(found: Targets, path: Path) -> None:
    """Keep it, a line a row."""
    plain = to_plain(found)
    members = []
    for name, value in plain.items():
        if isinstance(value, list):
            lines = ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value)
            members.append(f' "{name}": [\n  {lines}\n ]')
        else:
            members.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    path.write_text("{\n" + ",\n".join(members) + "\n}\n")


def read(path: Path) -> Targets:
    """A kept file.

    Raises:
        RecordError: it is none.
    """
    try:
        return from_plain(Targets, json.loads(path.read_text()))
    except (OSError, ValueError, ShapeError) as error:
        raise RecordError(f"{path}: {error}") from error


def newest(folder: Path = record.RESULTS) -> Targets | None:
    """The latest that is kept.

    Raises:
        RecordError: a file of that name is none.
    """
    found = [read(path) for path in folder.glob(f"{KIND}-*.json")]
    return max(found, key=lambda each: str(each.provenance.get("date", "")), default=None)


PARTS = ("cost", "original", "joins", "start", "shared", "alone")


class Parts(click.ParamType[tuple[str, ...]]):
    """A list of parts."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(str(value).split(","))
        for word in words:
            if word not in PARTS:
                self.fail(f"{word!r} is none of {', '.join(PARTS)}", param, ctx)
        return words


def measure(parts: tuple[str, ...], settings: Settings, kept: Targets, path: Path) -> None:
    """Measure some parts and put them into what is kept, after each.

    Raises:
        ServerError, SessionError: something could not be done at all.
    """
    whole.warm_up(settings)
    for part in parts:
        match part:
            case "cost" | "original":
                rows = []
                for one in (cost if part == "cost" else original)(settings):
                    rows.append(one)
                    click.echo(f"{one.receivers or '–'}, drift {one.drift}: {whole.told(one.row)}")
                setattr(kept, part, rows)
            case "joins":
                kept.joins = []
                for each in joins(settings):
                    kept.joins.append(each)
                    click.echo(str(asdict(each)))
            case "start":
                with pinned_to_all():
                    kept.start_s = start()
                click.echo(str(kept.start_s))
            case "shared" | "alone":
                found = capacity(settings, SHARED if part == "shared" else ALONE, click.echo)
                others = [each for each in kept.capacity if each.receivers != found.receivers]
                kept.capacity = [*others, found]
        kept.made[part] = str(kept.provenance.get("date", ""))[:16]
        write(kept, path)


@contextlib.contextmanager
def pinned_to_all() -> Iterator[None]:
    """This thread on all cores until the end of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@click.command(context_settings={"show_default": True})
@click.option("--parts", type=Parts(), default=",".join(PARTS), help="What is measured.")
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=6.0,
              help="Measured window of each server.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1, 10), default=2,
              help="Runs of each, until the generator was in time.")  # fmt: skip
@click.option("--hub-cpu", type=int, default=min(os.sched_getaffinity(0)), help="The hub's core.")
@click.option("--load-cpu", type=int, default=max(os.sched_getaffinity(0)),
              help="The generator's core.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/targets-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the tables of docs/limits.md.")
def main(
    parts: tuple[str, ...],
    seconds: float,
    attempts: int,
    hub_cpu: int,
    load_cpu: int,
    output: Path | None,
    page: bool,
) -> None:
    """Measure what the hub is to reach, and what it does reach."""
    from loadtest.benchmarks import limitspage

    settings = Settings(
        seconds=seconds, attempts=attempts, hub_cpu=hub_cpu, load_cpu=load_cpu, join_rate=50.0
    )
    path = output or record.path_for(KIND)
    made = record.made_by(MODULE)
    kept = replace(read(path), provenance=made) if path.exists() else Targets(made, {})
    kept.settings = {"seconds": seconds, "frames": settings.frames, "bits": settings.bits}
    with interruptible(), pinned(load_cpu):
        try:
            measure(parts, settings, kept, path)
        except (ServerError, SessionError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"written to {path}")
    if page:
        limitspage.bring_page_up_to_date()


if __name__ == "__main__":
    main()
