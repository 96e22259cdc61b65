"""A hub beyond its core: is a crowd refused in time, is work left out in order, and does it help?

    python -m loadtest.benchmarks.overfull
    python -m loadtest.benchmarks.overfull --only crowd --no-page

The hub runs on one core, the generator on another, and nothing is pretended: virtual clients are as
many as fill the core, and everything they hear is examined. Five plays:

=========  ====================================================================================
door       as the hub is by itself: a crowd comes one by one, more than the core carries
crowd      everybody is let in (``--admit-load off``), and leaves again
mixes      the hub carries all who are there until each gets a mix of its own, a row of all
           sources; the rows say what the patch says, so that what is heard stays known
halt       the hub has little time to spare, and something else takes its core for a tenth of a
           second; nothing is left out (``--shed-load off``), it has to find back by itself
stumbles   so it does four times a second, for less than a period
=========  ====================================================================================

Once a second the hub is asked for its state, as whoever watches it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from hub import client
from loadtest.benchmarks import kept, record, whole
from loadtest.benchmarks.kept import Kept
from loadtest.commandline import interruptible, pinned
from loadtest.conduct import servers
from loadtest.conduct.director import Director, Stage
from loadtest.conduct.servers import ServerError
from loadtest.conduct.session import Session, SessionError
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.progress import Quiet
from loadtest.reporting.result import Result
from loadtest.scenario.model import Hub, Scenario, Section
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.overfull"
KIND = "overfull"
BEGIN_S = 5.0
"""When the crowd begins to come, or mixes are given."""
TROUBLES = ("lost", "wrong", "silent")
"""Packets of a listener that are not as they should be."""
TOLERATED = 0.01
"""Of what is due in a moment, the share that may be not right."""
SETTLED_S = 3.0
"""After the last step a client's queue has been through what came before it."""


@dataclass(frozen=True, slots=True)
class Play:
    """What is done to a hub.

    Attributes:
        there: clients that stay; crowd: that come, over so many seconds, and leave at leave_s.
        mixes: those who stay get rows of their own.
        halt_s: for so long the hub's core is taken from it at BEGIN_S, and so many halts in all.
        options: of the hub.
    """

    name: str
    seconds: float
    there: int
    crowd: int = 0
    over_s: float = 0.0
    leave_s: float = 0.0
    mixes: bool = False
    halt_s: float = 0.0
    halts: int = 1
    options: tuple[str, ...] = ()


ALONE, SHARED = ("--clients-per-worker", "1"), ("--clients-per-worker", "50")
PLAYS = (
    Play("door", 52.0, 60, 220, 40.0, 51.0, options=(*ALONE, "--admit-load", "0.8")),
    Play("crowd", 80.0, 60, 220, 5.0, 40.0, options=ALONE),
    Play("mixes", 60.0, 330, mixes=True, options=SHARED),
    Play("halt", 20.0, 300, halt_s=0.1, options=(*SHARED, "--shed-load", "off")),
    Play("stumbles", 20.0, 300, halt_s=0.002, halts=40, options=(*SHARED, "--shed-load", "off")),
)
HALT_EVERY_S = 0.251
HALT = """
import os, sys, time
cpu, halt_s, halts, every_s = int(sys.argv[1]), *map(float, sys.argv[2:])
os.sched_setaffinity(0, {cpu})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
for _ in range(int(halts)):
    until = time.monotonic() + halt_s
    while time.monotonic() < until:
        pass
    ended = time.monotonic()
    time.sleep(every_s - halt_s)
print(ended)
"""
"""Takes a core for so long, so many times, and says when it had it last."""


@dataclass(frozen=True, slots=True)
class Second:
    """What the hub said of itself.

    Attributes:
        at_s: since the window opened. clients: that play.
        ticks, missed: since the last time.
        used: shares of resources; realtime: of what real-time processes may use of a core.
        left_out: what was. refused: so far.
    """

    at_s: float
    clients: int
    ticks: int
    missed: int
    used: dict[str, float]
    realtime: float
    left_out: list[str]
    refused: dict[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """When what was left out changed, and to what."""

    at_s: float
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a play.

    Attributes:
        came: of the crowd, who were let in.
        paused_s: seconds in which the kernel has paused real-time processes.
        steps: of what was left out. gone_s: when each client was gone that was let go.
        seconds: what the hub said.
        bad: by second, of the packets due to those who stay, the share that was lost or not right.
        halted_s: when the core was given back for the last time; 0: it was not taken.
        bad_until_s: when more than TOLERATED of them was for the last time; 0: never.
        usable, reasons: whether the generator was in time.
    """

    name: str
    there: int
    crowd: int
    came: int
    paused_s: int
    steps: list[Change]
    gone_s: list[float]
    seconds: list[Second]
    bad: list[float]
    usable: bool
    reasons: list[str] = field(default_factory=list)
    halted_s: float = 0.0
    bad_until_s: float = 0.0


def plan(play: Play) -> Scenario:
    """What is played."""
    there = Section(name="there", clients=play.there)
    crowd = Section(
        name="crowd", clients=max(play.crowd, 1), join_at_s=BEGIN_S, join_over_s=play.over_s,
        leave_at_s=max(play.leave_s, BEGIN_S + 1.0), leave_over_s=2.0, optional=True,
    )  # fmt: skip
    return Scenario(
        name=play.name,
        seconds=play.seconds,
        join_rate=40.0,
        tutti_every=0,  # in which one late packet of anybody's would spoil everybody's sound
        hub=Hub(
            mode=PatchMode.FAN_OUT_NO_SELF, queue="2",
            options=("--shed-load", "0.95", *play.options),
        ),
        sections=(there, crowd) if play.crowd else (there,),
    )  # fmt: skip


class _Watcher(Director):
    """Asks the hub every second, and gives mixes or takes the core."""

    def __init__(
        self, scenario: Scenario, stage: Stage, endpoint: str, play: Play, hub_cpu: int
    ) -> None:
        super().__init__(scenario, stage)
        self._endpoint, self._play, self._hub_cpu = endpoint, play, hub_cpu
        self.seconds: list[Second] = []
        self.steps: list[Change] = []
        self.gone_s: list[float] = []
        self.paused_s = 0
        self.halted_s = 0.0
        self._ticks = (0, 0)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(each) for each in (self._ask(), self._listen())]
            if self._play.mixes:
                watching.append(group.create_task(self._give_mixes()))
            if self._play.halt_s > 0:
                watching.append(group.create_task(self._halt()))
            await super().run()
            await self._wait_for(self.scenario.seconds - 0.5)
            for task in watching:
                task.cancel()

    async def _listen(self) -> None:
        async with client.HubClient(self._endpoint) as hub, hub.events("shed", "leave") as stream:
            async for told in stream:
                at_s, left_out = round(self._now_s(), 2), getattr(told.event, "left_out", None)
                if left_out is not None:
                    self.steps.append(Change(at_s, list(left_out)))
                elif getattr(told.event, "reason", "") == "overload":
                    self.gone_s.append(at_s)

    async def _ask(self) -> None:
        at_s = 0.0
        while True:
            await self._wait_for(at_s := max(at_s + 1.0, self._now_s()))
            if (status := await self.stage.status()) is not None:
                self._note_second(status)

    def _note_second(self, status: dict[str, Any]) -> None:
        hub = status["hub"]
        load, before = hub["overload"], self._ticks
        self._ticks = hub["mixer"]["ticks"], hub["mixer"]["missed"]
        self.paused_s = load["realtime_paused"]
        if not any(before):
            return
        self.seconds.append(Second(
            at_s=round(self._now_s(), 2),
            clients=len(status["clients"]),
            ticks=self._ticks[0] - before[0],
            missed=self._ticks[1] - before[1],
            used=load["used"],
            realtime=load["realtime_used"],
            left_out=load["sheds"],
            refused=hub["hellos_refused"],
        ))  # fmt: skip

    async def _halt(self) -> None:
        await self._wait_for(BEGIN_S)
        words = map(str, (self._hub_cpu, self._play.halt_s, self._play.halts, HALT_EVERY_S))
        halt = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HALT, *words, stdout=asyncio.subprocess.PIPE
        )
        try:
            told, _ = await halt.communicate()
        finally:
            if halt.returncode is None:
                halt.kill()
        if halt.returncode != 0:
            raise SessionError("the hub's core could not be taken: this needs SCHED_FIFO")
        self.halted_s = round(self._now_s() - (time.monotonic() - float(told)), 3)

    async def _give_mixes(self) -> None:
        """Rows that say what the patch says."""
        await self._wait_for(BEGIN_S)
        names = [f"there {k + 1}" for k in range(self.scenario.clients)]
        rows = (1.0 - np.eye(len(names))).tolist()
        async with client.HubClient(self._endpoint, 10.0) as hub:
            await hub.request("matrix", listeners=names, sources=names, gains=rows)


def measure(play: Play, hub_cpu: int, log: Path | None = None) -> Row:
    """One play.

    Raises:
        ServerError, SessionError: it could not be played.
    """
    scenario, made = plan(play), list[_Watcher]()
    with servers.tuttihub(scenario.hub, cpus={hub_cpu}, log_path=log) as server:
        endpoint = server.control or ""

        def watcher(scenario: Scenario, stage: Stage) -> _Watcher:
            made.append(_Watcher(scenario, stage, endpoint, play, hub_cpu))
            return made[-1]

        outcome = Session(
            scenario, host=server.host, port=server.port, hub_pids=server.pids,
            control=server.control, realtime=True, progress=Quiet(), director=watcher,
        ).run()  # fmt: skip
    if outcome.interrupted:
        raise KeyboardInterrupt
    result = evaluate(outcome)
    (seen,) = made
    return Row(
        name=play.name,
        there=play.there,
        crowd=play.crowd,
        came=sum(section.joined for section in result.sections if section.name == "crowd"),
        paused_s=seen.paused_s,
        steps=seen.steps,
        gone_s=seen.gone_s,
        seconds=seen.seconds,
        bad=bad_shares(result, play.there),
        usable=result.usable,
        reasons=result.reasons,
        halted_s=seen.halted_s,
        bad_until_s=bad_until_s(result, play.there, ends_s(play)),
    )


def _shares(result: Result, there: int, bins: int) -> list[float]:
    """By so many of the timeline's bins, of what was due to the first so many clients, what was
    not right."""
    timeline = result.timeline
    bad = np.sum([timeline.matrix(kind)[:there].sum(axis=0, dtype=float) for kind in TROUBLES], 0)
    whole_bins = [bad[k : k + bins].sum() for k in range(0, len(bad) - bins + 1, bins)]
    due = there * bins * timeline.bin_s / (128 / 48000)
    return [round(min(each / due, 1.0), 5) for each in whole_bins]


def bad_shares(result: Result, there: int) -> list[float]:
    """By second, of what was due to the first so many clients, what was not right."""
    return _shares(result, there, max(1, round(1.0 / result.timeline.bin_s)))


def bad_until_s(result: Result, there: int, end_s: float) -> float:
    """When more than TOLERATED of it was not right for the last time before end_s; 0: never."""
    bin_s = result.timeline.bin_s
    shares = _shares(result, there, 1)[: round(end_s / bin_s)]
    bad = [k for k, share in enumerate(shares, 1) if share > TOLERATED]
    return round(bad[-1] * bin_s, 3) if bad else 0.0


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a play: of ticks, those missed; of packets to those who stay, those not right."""

    from_s: float
    to_s: float
    missed: float
    bad: float


def span(row: Row, from_s: float, to_s: float) -> Span:
    """What was heard, and missed, between two times."""
    within = [each for each in row.seconds if from_s <= each.at_s < to_s]
    ticks, missed = sum(each.ticks for each in within), sum(each.missed for each in within)
    bad = row.bad[int(from_s) : max(int(to_s), int(from_s) + 1)]
    return Span(from_s, to_s, missed / max(ticks + missed, 1), sum(bad) / max(len(bad), 1))


def relief_s(row: Row) -> float:
    """When the hub had done all that it did: its last step on, or the last client let go."""
    at_s, left_out = [BEGIN_S, row.halted_s, *row.gone_s], 0
    for step in row.steps:
        if len(step.left_out) > left_out:
            at_s.append(step.at_s)
        elif not row.crowd:
            break  # what comes back and goes again is its search for the limit
        left_out = len(step.left_out)
    return max(at_s)


def spans(row: Row, end_s: float) -> list[Span]:
    """Before, until relief, and from then on while the load is still there."""
    relieved_s = min(relief_s(row) + SETTLED_S, end_s)
    return [
        span(row, 1.0, BEGIN_S), span(row, BEGIN_S, relieved_s), span(row, relieved_s, end_s),
    ]  # fmt: skip


def play_of(row: Row) -> Play:
    """What was played."""
    return next(each for each in PLAYS if each.name == row.name)


def ends_s(play: Play) -> float:
    """When the load is taken away, or the play ends."""
    return play.leave_s if play.crowd else play.seconds - 1.0


@click.command(context_settings={"show_default": True})
@click.option("--only", type=click.Choice([play.name for play in PLAYS]), multiple=True,
              help="This play; several are possible.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1, 10), default=2,
              help="Of each, until the generator was in time.")  # fmt: skip
@click.option("--hub-cpu", type=int, default=min(os.sched_getaffinity(0)), help="The hub's core.")
@click.option("--load-cpu", type=int, default=max(os.sched_getaffinity(0)),
              help="The generator's core.")  # fmt: skip
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="The hub's log.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/overfull-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the table of docs/limits.md.")
def main(
    only: Sequence[str], attempts: int, hub_cpu: int, load_cpu: int, log: Path | None,
    output: Path | None, page: bool,
) -> None:  # fmt: skip
    """Have a hub do more than its core can."""
    from loadtest.benchmarks import limitspage

    path = output or record.path_for(KIND)
    rows: dict[str, Row] = {}
    with contextlib.suppress(record.RecordError):
        rows = {row.name: row for row in kept.read(KIND, Row, path).rows}
    with interruptible(), pinned(load_cpu):
        try:
            whole.warm_up(whole.Settings(hub_cpu=hub_cpu, load_cpu=load_cpu))
            for play in PLAYS:
                if only and play.name not in only:
                    continue
                for _ in range(attempts):
                    rows[play.name] = row = measure(play, hub_cpu, log)
                    click.echo(told(row))
                    if row.usable:
                        break
        except (ServerError, SessionError) as error:
            raise click.ClickException(str(error)) from error
    ordered = [rows[play.name] for play in PLAYS if play.name in rows]
    kept.finish(KIND, Kept(record.made_by(MODULE), ordered), path, click.echo)
    if page:
        limitspage.bring_page_up_to_date()


def told(row: Row) -> str:
    """For the terminal."""
    last = row.seconds[-1]
    steps = [(each.at_s, each.left_out) for each in row.steps]
    parts = "; ".join(
        f"{each.from_s:.0f}..{each.to_s:.0f} s: {100 * each.missed:.2g} % missed, "
        f"{100 * each.bad:.2g} % not right"
        for each in spans(row, ends_s(play_of(row)))
    )
    doubt = "" if row.usable else f" (not usable: {'; '.join(row.reasons)})"
    return (
        f"{row.name}: {row.came} of {row.crowd} came, refused {last.refused}, let go "
        f"{len(row.gone_s)}, paused {row.paused_s} s, steps {steps}; {parts}{doubt}"
    )


if __name__ == "__main__":
    main()
