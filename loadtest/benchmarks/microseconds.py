"""Where each microsecond of a client-period goes, in the hub.

    python -m loadtest.benchmarks.microseconds
    python -m loadtest.benchmarks.microseconds --cases 50x1,250x50 --seconds 4 --no-page

The hub runs on one core and the generator on another, at 48 kHz, 128 frames, stereo, 16 bit, -p2,
arrivals spread over the period; a case is CLIENTSxSHARING, where SHARING clients have a receiver.
Each has a hub of its own and one window of three parts: CPU by kind of process, from the
scheduler's own account; then perf's samples of the hub's core; then, with few clients, strace's
counts of a receiver's and the mixer's system calls. CPU is that of the first part, and how it
divides is what the samples of the second say. In between somebody who was ready to run has
waited for the core: that is the scheduler's account, too.

It takes root (perf, strace, real time) and a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from loadtest.benchmarks import kept, record, sampling, symbols, whole
from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.whole import SCALE, TUTTIHUB, Case
from loadtest.commandline import interruptible, pinned
from loadtest.conduct import procfs, servers
from loadtest.conduct.director import Director, Stage
from loadtest.conduct.servers import Server, ServerError
from loadtest.conduct.session import Session, SessionError
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.progress import Quiet
from loadtest.scenario.model import SECOND_NS, Scenario

MODULE = "loadtest.benchmarks.microseconds"
KIND = "microseconds"
FEW = 50
"""Beyond, strace stops the hub for longer than it has time."""
COUNTED_S = 1.5
"""System calls are counted for so long."""
HOTTEST = 15
LEAST_US = 0.5
"""Kinds of process that take less have no hot functions."""
_QUIET_S = 0.3
"""Between the parts of a window."""
_PERF_S = 1.0
"""perf's own start and end."""
MIXER, RECEIVER = "tutti-mixer", "tutti-rx"


@dataclass(frozen=True, slots=True)
class Load:
    """How many clients, and how many of them a receiver serves."""

    clients: int
    sharing: int

    @property
    def label(self) -> str:
        return f"{self.clients}x{self.sharing}"


LOADS = (Load(1, 1), Load(50, 1), Load(250, 1), Load(1, 50), Load(50, 50), Load(250, 50))


@dataclass(frozen=True, slots=True)
class Row:
    """What was found at one load. Times are µs a client-period unless named otherwise, by kind of
    process, whose names are the hub's.

    Attributes:
        usable, reasons: whether the generator was in time, and why not.
        ticks, missed: of the whole window, perf and strace included.
        cpu_us: by the scheduler's account.
        waited_us: ready to run, while another had the core.
        switches: context switches a client-period, voluntary and not.
        parts_us: ``cpu_us``, divided as the samples are.
        samples: of the hub's processes; core_samples: of its core, idle ones and others too.
        hot_us: the functions that took most of ``cpu_us``, whatever part they belong to.
        calls: system calls a client-period, of one receiver and the mixer; empty: not counted.
    """

    clients: int
    sharing: int
    usable: bool
    reasons: list[str]
    ticks: int
    missed: int
    cpu_us: dict[str, float]
    waited_us: dict[str, float]
    switches: dict[str, list[float]]
    parts_us: dict[str, dict[str, float]]
    samples: int
    core_samples: int
    hot_us: dict[str, dict[str, float]] = field(default_factory=dict)
    calls: dict[str, dict[str, float]] = field(default_factory=dict)


def waited_ns(pids: Sequence[int]) -> dict[int, int]:
    """How long each process has been ready to run without running, since its start."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            tasks = (procfs.PROC / str(pid) / "task").iterdir()
            found[pid] = sum(int((task / "schedstat").read_text().split()[1]) for task in tasks)
    return found


@dataclass(slots=True)
class _Seen:
    """What was read in a window."""

    before: procfs.Snapshot | None = None
    after: procfs.Snapshot | None = None
    waited: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    kinds: dict[int, str] = field(default_factory=dict)
    images: list[symbols.Image] = field(default_factory=list)
    samples: list[sampling.Seen] = field(default_factory=list)
    calls: dict[str, dict[str, int]] = field(default_factory=dict)


class _Observer(Director):
    """Looks at the hub while it plays."""

    def __init__(self, scenario: Scenario, stage: Stage, plan: _Plan) -> None:
        super().__init__(scenario, stage)
        self._plan = plan

    async def run(self) -> None:
        plan, seen = self._plan, self._plan.seen
        await self._wait_for(_QUIET_S)
        pids = procfs.tree(*self.stage.hub_pids)
        waited = waited_ns(pids)
        seen.before = procfs.snapshot(pids)
        await self._wait_for(_QUIET_S + plan.seconds)
        seen.after = procfs.snapshot(pids)
        seen.waited = waited, waited_ns(pids)
        seen.kinds = {pid: sample.kind for pid, sample in seen.after.processes.items()}
        with contextlib.suppress(OSError, StopIteration):
            seen.images = symbols.images(self._one(MIXER))
        file = plan.folder / "perf.data"
        await self._done(sampling.record_command(plan.hub_cpu, plan.seconds, file))
        if plan.counts:
            await asyncio.gather(*(self._count(kind) for kind in (MIXER, RECEIVER)))

    def _one(self, kind: str) -> int:
        return next(pid for pid, each in self._plan.seen.kinds.items() if each == kind)

    async def _done(self, command: list[str]) -> None:
        process = await _started(command)
        _, complaint = await process.communicate()
        if process.returncode:
            self.problems.append(f"{command[0]}: {complaint.decode(errors='replace').strip()}")

    async def _count(self, kind: str) -> None:
        file = self._plan.folder / f"calls-{kind}"
        # on the hub's own core: it has it whenever the one that is traced has stopped
        core = self._plan.hub_cpu
        process = await _started(
            ["taskset", "-c", str(core), *sampling.strace_command(self._one(kind), file)]
        )
        await asyncio.sleep(COUNTED_S)
        process.send_signal(sampling.ENDING)
        await process.communicate()
        with contextlib.suppress(OSError):
            self._plan.seen.calls[kind] = sampling.calls(file.read_text())


async def _started(command: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )


@dataclass(slots=True)
class _Plan:
    """What an observer is to do, and what it has seen."""

    seconds: float
    hub_cpu: int
    counts: bool
    folder: Path
    seen: _Seen = field(default_factory=_Seen)

    @property
    def window_s(self) -> float:
        counting_s = COUNTED_S + 1.0 if self.counts else 0.0
        return 2 * self.seconds + 2 * _QUIET_S + _PERF_S + counting_s


def measure(load: Load, settings: whole.Settings) -> Row:
    """One load, with a hub of its own.

    Raises:
        ServerError, SessionError: it could not be played.
        OSError, subprocess.CalledProcessError: perf is missing, or could not be read.
    """
    options = ("--clients-per-worker", str(load.sharing))
    case = Case(
        SCALE, TUTTIHUB, load.clients, settings.mode, settings.queue, settings.join_rate, options
    )
    with tempfile.TemporaryDirectory(prefix="tuttihub-load-") as name:
        plan = _Plan(settings.seconds, settings.hub_cpu, load.clients <= FEW, Path(name))
        scenario = whole.scenario(case, replace(settings, seconds=plan.window_s))
        with servers.tuttihub(scenario.hub, cpus={settings.hub_cpu}) as server:
            row = _play(load, scenario, server, plan)
    return row


def _play(load: Load, scenario: Scenario, server: Server, plan: _Plan) -> Row:
    session = Session(
        scenario,
        host=server.host,
        port=server.port,
        hub_pids=server.pids,
        control=server.control,
        realtime=True,
        progress=Quiet(),
        director=lambda scenario, stage: _Observer(scenario, stage, plan),
    )
    outcome = session.run()
    if outcome.interrupted:
        raise KeyboardInterrupt
    result, seen = evaluate(outcome), plan.seen
    if seen.before is None or seen.after is None or result.problems:
        raise SessionError(f"{load.label}: nothing was seen: {'; '.join(result.problems)}")
    seen.samples = sampling.read(plan.folder / "perf.data")
    names = symbols.names_in(seen.images, symbols.objects())
    counts = result.counters.counts if result.counters else {}
    period_ns = scenario.sections[0].format.period_ns
    units = load.clients * (seen.after.at_ns - seen.before.at_ns) / period_ns
    usage = procfs.usage(seen.before, seen.after)
    cpu_us = {kind: round(use.cpu_us / units, 3) for kind, use in usage.items()}
    parts, sampled, on_core = divided(seen, names)
    return Row(
        clients=load.clients,
        sharing=load.sharing,
        usable=result.usable,
        reasons=result.reasons,
        ticks=counts.get("ticks", 0),
        missed=counts.get("missed", 0),
        cpu_us=cpu_us,
        waited_us=_waited(seen, units),
        switches={
            kind: [round(use.voluntary / units, 3), round(use.involuntary / units, 3)]
            for kind, use in usage.items()
        },
        parts_us={
            kind: _shares(parts.get(kind, Counter()), us) for kind, us in cpu_us.items() if us
        },
        samples=sampled,
        core_samples=on_core,
        hot_us={kind: _hot(seen, kind, names, us) for kind, us in cpu_us.items() if us >= LEAST_US},
        calls=_calls(load, seen, COUNTED_S * SECOND_NS / period_ns),
    )  # fmt: skip


def divided(seen: _Seen, names: symbols.Names) -> tuple[dict[str, Counter[str]], int, int]:
    """Samples by kind of process and part; how many there are of the hub, and of its core."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    ours = 0
    for one in seen.samples:
        if (kind := seen.kinds.get(one.pid)) is not None:
            parts[kind][sampling.part_of(one, names.at)] += 1
            ours += 1
    return parts, ours, len(seen.samples)


def _shares(counts: Counter[str], us: float) -> dict[str, float]:
    """A kind's CPU, divided as its samples are."""
    whole_count = counts.total()
    if not whole_count:
        return {"not sampled": us}
    return {part: round(us * count / whole_count, 3) for part, count in counts.most_common()}


def _hot(seen: _Seen, kind: str, names: symbols.Names, us: float) -> dict[str, float]:
    counts = Counter(
        sampling.function_of(one, names.at)
        for one in seen.samples
        if seen.kinds.get(one.pid) == kind
    )
    return {
        name: round(us * count / counts.total(), 3) for name, count in counts.most_common(HOTTEST)
    }


def _waited(seen: _Seen, units: float) -> dict[str, float]:
    before, after = seen.waited
    total: Counter[str] = Counter()
    for pid, ns in after.items():
        total[seen.kinds.get(pid, procfs.ENDED)] += ns - before.get(pid, 0)
    return {kind: round(ns / 1000 / units, 3) for kind, ns in total.items()}


def _calls(load: Load, seen: _Seen, periods: float) -> dict[str, dict[str, float]]:
    """Calls a client-period; the receiver that was looked at serves its share alone. The mixer
    sleeps once a tick, and misses some while it is traced."""
    ticks = seen.calls.get(MIXER, {}).get("clock_nanosleep", 0) or periods
    units = {MIXER: load.clients * ticks, RECEIVER: min(load.clients, load.sharing) * periods}
    return {
        kind: {name: round(count / units[kind], 3) for name, count in found.items()}
        for kind, found in seen.calls.items()
    }


class Loads(click.ParamType[tuple[Load, ...]]):
    """A list such as 50x1,250x50."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Load, ...]:
        if isinstance(value, tuple):
            return value
        found = []
        for word in str(value).split(","):
            clients, _, sharing = word.partition("x")
            if not (clients.isdigit() and sharing.isdigit()):
                self.fail(f"{word!r} is not CLIENTSxSHARING such as 250x50", param, ctx)
            if not (1 <= int(clients) <= 1024 and 1 <= int(sharing) <= 64):
                self.fail(f"{word!r}: 1..1024 clients, 1..64 a receiver", param, ctx)
            found.append(Load(int(clients), int(sharing)))
        return tuple(found)


@click.command(context_settings={"show_default": True})
@click.option("--cases", "loads", type=Loads(), default=",".join(each.label for each in LOADS),
              help="CLIENTSxSHARING: SHARING clients a receiver.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=5.0,
              help="Of CPU's account, and again of samples.")  # fmt: skip
@click.option("--hub-cpu", type=int, default=min(os.sched_getaffinity(0)), help="The hub's core.")
@click.option("--load-cpu", type=int, default=max(os.sched_getaffinity(0)),
              help="The generator's core.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/microseconds-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the tables of docs/limits.md.")
def main(
    loads: tuple[Load, ...],
    seconds: float,
    hub_cpu: int,
    load_cpu: int,
    output: Path | None,
    page: bool,
) -> None:
    """Measure where the hub's time goes."""
    from loadtest.benchmarks import limitspage

    settings = whole.Settings(seconds=seconds, hub_cpu=hub_cpu, load_cpu=load_cpu, join_rate=50.0)
    with interruptible(), pinned(load_cpu):
        try:
            whole.warm_up(settings)
            rows = []
            for load in loads:
                rows.append(measure(load, settings))
                click.echo(told(rows[-1]))
        except (ServerError, SessionError, OSError, subprocess.CalledProcessError) as error:
            raise click.ClickException(str(error)) from error
    kept.finish(KIND, Kept(record.made_by(MODULE), rows, {"seconds": seconds}), output, click.echo)
    if page:
        limitspage.bring_page_up_to_date()


def told(row: Row) -> str:
    """One line for the terminal."""
    kinds = ", ".join(f"{kind} {us:.2f}" for kind, us in row.cpu_us.items() if us >= 0.005)
    text = (
        f"{row.clients} clients, {row.sharing} a receiver: {sum(row.cpu_us.values()):.2f} µs a "
        f"client-period ({kinds}), {row.samples} samples, {row.missed} of {row.ticks} ticks missed"
    )
    return text if row.usable else f"{text}; not usable: {'; '.join(row.reasons)}"


if __name__ == "__main__":
    main()
