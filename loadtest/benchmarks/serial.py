"""What of the hub is done by one process whatever the number of cores, and where each part ends.

    python -m loadtest.benchmarks.serial

A hub with one transmit lane and shared receivers on one core, and so many clients on it: what the
mixer does a tick (the lane renders and sends), what the supervisor does a second, what one more
join costs supervisor, zygote and stem, and what a scrape of the metrics costs. Two numbers of
clients make a line each, and the line says with how many clients a core of its own would be full.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from loadtest.benchmarks import kept, record, whole
from loadtest.benchmarks.kept import Kept
from loadtest.commandline import Numbers, interruptible, pinned
from loadtest.conduct import procfs, servers
from loadtest.conduct.director import Director, Stage
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import ServerError
from loadtest.conduct.session import Session, SessionError
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.progress import Quiet
from loadtest.scenario.model import Hub, Scenario, Section
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.serial"
KIND = "serial"
NEWCOMERS, SCRAPES = 20, 10
_STEADY_S, _JOINING_S, _SCRAPING_S = 3.0, 3.0, 4.0
_BEGIN_S, _JOIN_S = 0.3, 3.5
MIXER, LANE, SUPERVISOR = "tutti-mixer", "tutti-lane", "tuttihub"


@dataclass(frozen=True, slots=True)
class Row:
    """With so many clients.

    Attributes:
        usable: whether the generator was in time.
        tick_us: CPU of a period, by kind of process.
        join_us: CPU of a join, by kind; scrape_us: of a scrape, of the supervisor.
        supervisor_us_s: CPU of the supervisor, a second, with nothing asked of it.
        scrape_bytes: of an answer.
    """

    clients: int
    usable: bool
    tick_us: dict[str, float]
    supervisor_us_s: float
    join_us: dict[str, float]
    scrape_us: float
    scrape_bytes: int


def plan(clients: int, metrics_port: int) -> Scenario:
    """A steady part, joins, then scrapes."""
    return Scenario(
        name="serial",
        seconds=_JOIN_S + _JOINING_S + _SCRAPING_S + 0.5,
        join_rate=50.0,
        hub=Hub(
            mode=PatchMode.FAN_OUT_NO_SELF, queue="2",
            options=("--clients-per-worker", "50", "--transmit-lanes", "1",
                     "--metrics", f"127.0.0.1:{metrics_port}"),
        ),
        sections=(
            Section(name="there", clients=clients),
            Section(name="new", clients=NEWCOMERS, join_at_s=_JOIN_S, join_over_s=1.0),
        ),
    )  # fmt: skip


class _Observer(Director):
    """Looks at the hub's processes at the bounds of the window's parts.

    Attributes:
        looks: before and after the steady part, the joins, the scrapes.
        answered: bytes of the last scrape.
    """

    def __init__(self, scenario: Scenario, stage: Stage, port: int) -> None:
        super().__init__(scenario, stage)
        self._port = port
        self.looks: list[procfs.Snapshot] = []
        self.answered = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._observe())

    async def _observe(self) -> None:
        for at_s in (_BEGIN_S, _BEGIN_S + _STEADY_S, _JOIN_S + _JOINING_S):
            await self._wait_for(at_s)
            self._look()
        for _ in range(SCRAPES):
            self.answered = await scraped(self._port)
        self._look()

    def _look(self) -> None:
        self.looks.append(procfs.snapshot(procfs.tree(*self.stage.hub_pids)))


async def scraped(port: int) -> int:
    """Bytes of an answer of the metrics' endpoint.

    Raises:
        OSError: nobody answers.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    size = len(await reader.read(-1))
    writer.close()
    return size


def measure(clients: int, hub_cpu: int) -> Row:
    """One hub.

    Raises:
        ServerError, SessionError: it could not be played.
    """
    scenario = plan(clients, port := PORTS.take())
    made: list[_Observer] = []

    def observer(scenario: Scenario, stage: Stage) -> _Observer:
        made.append(_Observer(scenario, stage, port))
        return made[-1]

    with servers.tuttihub(scenario.hub, cpus={hub_cpu}) as server:
        outcome = Session(
            scenario, host=server.host, port=server.port, hub_pids=server.pids,
            control=server.control, realtime=True, progress=Quiet(), director=observer,
        ).run()  # fmt: skip
    if outcome.interrupted:
        raise KeyboardInterrupt
    if not made or len(made[0].looks) < 4:
        raise SessionError(f"{clients} clients: the window was too short for the hub")
    before, steady, joined, scraped_ = made[0].looks
    rates = _us(before, steady)
    seconds = (steady.at_ns - before.at_ns) / 1e9
    period_s = scenario.sections[0].format.period_ns / 1e9
    return Row(
        clients=clients,
        usable=evaluate(outcome).usable,
        tick_us={kind: round(us / seconds * period_s, 2) for kind, us in rates.items()},
        supervisor_us_s=round(rates.get(SUPERVISOR, 0.0) / seconds, 1),
        join_us={
            kind: round(max(0.0, us) / NEWCOMERS, 1)
            for kind, us in _beyond(steady, joined, rates, seconds).items()
            if kind not in (MIXER, LANE, "tutti-rx")
        },
        scrape_us=round(_ticked(before, steady, joined, scraped_) / SCRAPES, 1),
        scrape_bytes=made[0].answered,
    )  # fmt: skip


def _us(before: procfs.Snapshot, after: procfs.Snapshot) -> dict[str, float]:
    return {kind: use.cpu_us for kind, use in procfs.usage(before, after).items()}


def _ticked(
    before: procfs.Snapshot, steady: procfs.Snapshot, joined: procfs.Snapshot,
    scraped_: procfs.Snapshot,
) -> float:  # fmt: skip
    """CPU of the scrapes by Linux's clock, which knows of threads that have ended: a scrape has
    one of its own."""

    def used(first: procfs.Snapshot, second: procfs.Snapshot) -> float:
        use = procfs.usage(first, second)[SUPERVISOR]
        return use.user_us + use.system_us

    rate = used(before, steady) / (steady.at_ns - before.at_ns)
    return max(0.0, used(joined, scraped_) - rate * (scraped_.at_ns - joined.at_ns))


def _beyond(
    before: procfs.Snapshot, after: procfs.Snapshot, rates: dict[str, float], seconds: float
) -> dict[str, float]:
    """CPU by kind beyond what the steady part would have taken in that time."""
    lasted_s = (after.at_ns - before.at_ns) / 1e9
    return {
        kind: us - rates.get(kind, 0.0) * lasted_s / seconds
        for kind, us in _us(before, after).items()
    }


@dataclass(frozen=True, slots=True)
class Part:
    """A serial part: µs of each `unit`, a + b × clients, and where it ends.

    Attributes:
        name, unit: what it is, and of what time or event.
        base_us, client_us: the line through the two numbers of clients.
        limit_us: what a unit may take.
    """

    name: str
    unit: str
    base_us: float
    client_us: float
    limit_us: float

    @property
    def ends(self) -> int | None:
        """Clients with which it takes all it may; None: no end is seen, as it does not grow."""
        if self.client_us <= 0:
            return None
        return max(0, int((self.limit_us - self.base_us) / self.client_us))


FREE, REALTIME = 0.8, 0.95
"""Of a core's time what is to be used, and what the kernel lets real-time processes have."""
SCRAPE_S = 0.1
"""A scrape may hold the supervisor's loop, and so joins and commands, for so long."""
JOINS, JOINS_S = 300, 2.0
"""So many are to be let in within so long."""
PERIOD_US = 128 / 48000 * 1e6


def parts(rows: Sequence[Row]) -> list[Part]:
    """The lines through the least and the most clients; none of fewer than two numbers."""
    if len(rows) < 2:
        return []
    few, many = min(rows, key=lambda row: row.clients), max(rows, key=lambda row: row.clients)

    def line(name: str, unit: str, one: float, other: float, limit_us: float) -> Part:
        slope = (other - one) / (many.clients - few.clients)
        return Part(name, unit, one - slope * few.clients, slope, limit_us)

    core_us = PERIOD_US * FREE * REALTIME
    return [
        line("mixer, lanes send", "a period", few.tick_us.get(MIXER, 0.0),
             many.tick_us.get(MIXER, 0.0), core_us),
        line("one lane", "a period", few.tick_us.get(LANE, 0.0), many.tick_us.get(LANE, 0.0),
             core_us),
        line("supervisor, nothing asked", "a second", few.supervisor_us_s, many.supervisor_us_s,
             1e6 * FREE),
        line("scrape of the metrics", "a scrape", few.scrape_us, many.scrape_us, SCRAPE_S * 1e6),
        line("join: supervisor, zygote and stem", "a join", sum(few.join_us.values()),
             sum(many.join_us.values()), JOINS_S * 1e6 * FREE / JOINS),
    ]  # fmt: skip


@click.command(context_settings={"show_default": True})
@click.option("--clients", type=Numbers(1, 1000), default="20,120", help="Two numbers or more.")
@click.option("--hub-cpu", type=int, default=min(os.sched_getaffinity(0)), help="The hub's core.")
@click.option("--load-cpu", type=int, default=max(os.sched_getaffinity(0)),
              help="The generator's core.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/serial-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the tables of docs/limits.md.")
def main(
    clients: tuple[int, ...], hub_cpu: int, load_cpu: int, output: Path | None, page: bool
) -> None:
    """Measure what one process has to do for all clients."""
    from loadtest.benchmarks import limitspage

    rows = []
    with interruptible(), pinned(load_cpu):
        try:
            whole.warm_up(whole.Settings(hub_cpu=hub_cpu, load_cpu=load_cpu))
            for number in clients:
                rows.append(measure(number, hub_cpu))
                click.echo(str(rows[-1]))
        except (ServerError, SessionError) as error:
            raise click.ClickException(str(error)) from error
    kept.finish(KIND, Kept(record.made_by(MODULE), rows), output, click.echo)
    if page:
        limitspage.bring_page_up_to_date()


if __name__ == "__main__":
    main()
