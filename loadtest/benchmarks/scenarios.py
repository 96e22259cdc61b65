"""All ready-made scenarios in a row, each against a hub of its own, and what is kept of them.

    python -m loadtest.benchmarks.scenarios                          as `make bench-scenarios`
    python -m loadtest.benchmarks.scenarios --only choir-300 --size choir-300=300

The hub runs on one core and the generator on another. Ensembles are scaled and windows shortened
to what two cores and a few minutes can carry (``SHORT``); every file says how large and how long it
was. When all have been played, those in which the generator was late are played again, while there
is time. Each leaves ``loadtest/results/scenarios/NAME.json``, and docs/loadtest.md has a table.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from loadtest.benchmarks import record, scenariotable, whole
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.render import RenderError
from loadtest.commandline import interruptible, pinned, write_whole
from loadtest.playing import HubEnded, Setting, Unplayable, play
from loadtest.reporting.result import Result, Timeline
from loadtest.reporting.words import verdict_sentence
from loadtest.scenario import library
from loadtest.scenario.loader import override, scale
from loadtest.scenario.model import Scenario, ScenarioError

FOLDER = record.RESULTS / "scenarios"
MAX_BYTES = 60_000
"""Of a kept result."""
MAX_EVENTS, MAX_FINDINGS = 60, 40
_OVERHEAD_S = 6.0
"""A hub's start and end, and what a run does before and after its window."""


@dataclass(frozen=True, slots=True)
class Short:
    """What two cores and a few minutes can carry of a scenario.

    Attributes:
        clients: in all; 0: as it is.
        seconds: of its window; all that it does on purpose has happened by then.
    """

    clients: int
    seconds: float


SHORT: Mapping[str, Short] = {
    "rehearsal-30": Short(0, 11),
    "mixed-formats": Short(0, 11),
    "followed-clocks": Short(0, 20),
    "flaky-wifi": Short(0, 17),
    "rolling-churn": Short(0, 27),
    "storm-join": Short(60, 9),
    "hostile": Short(0, 29),
    "casualties": Short(0, 23),
    "choir-300": Short(60, 10),
    "hour-of-drift": Short(0, 120),
}
"""In the order in which they are played and shown."""


def plan(name: str, size: int = 0, at_most_s: float = 0.0) -> Scenario:
    """A ready-made scenario as it is played here.

    Args:
        size: clients in all; 0: as ``SHORT`` has it.
        at_most_s: of its window; 0: as ``SHORT`` has it.

    Raises:
        ScenarioError: there is none of this name, or it cannot have that size.
    """
    made = library.ready(name)
    short = SHORT.get(name, Short(0, made.seconds))
    if clients := size or short.clients:
        made = scale(made, clients)
    seconds = min(short.seconds, at_most_s) if at_most_s else short.seconds
    return override(made, seconds=seconds)


def expected_s(plans: Iterable[Scenario]) -> float:
    """How long it takes to play them once."""
    return sum(
        each.seconds + each.settle_s + each.clients / max(each.join_rate, 1.0) + _OVERHEAD_S
        for each in plans
    )


def compact(result: Result) -> Result:
    """What is kept of a result: everything but client by client and second by second, so that the
    terminal, the page and the comparison still can show it."""
    kept = replace(
        result,
        sections=[replace(each, distributions={}) for each in result.sections],
        timeline=Timeline(
            result.timeline.bin_s, result.timeline.totals, playing=result.timeline.playing[-50:]
        ),
        events=[each for each in result.events if each.kind not in ("join", "leave")][:MAX_EVENTS],
        findings=[replace(each, listeners=each.listeners[:8])
                  for each in result.findings[:MAX_FINDINGS]],
        problems=result.problems[:MAX_EVENTS],
        columns={},
        joins_log={},
    )  # fmt: skip
    if kept.counters is not None:
        kept.counters = replace(kept.counters, by_client={})
    while len(kept.to_json().encode()) > MAX_BYTES and any(kept.timeline.totals.values()):
        # twice as long a bin for half as many numbers
        kept.timeline = replace(
            kept.timeline,
            bin_s=2 * kept.timeline.bin_s,
            totals={name: _in_pairs(counts) for name, counts in kept.timeline.totals.items()},
        )
    return kept


def _in_pairs(counts: list[int]) -> list[int]:
    return [sum(counts[n : n + 2]) for n in range(0, len(counts), 2)]


def measure(made: Scenario, hub_cpu: int, console: Console) -> Result:
    """Play one against a hub of its own.

    Raises:
        Unplayable, HubEnded: there was no run.
        KeyboardInterrupt: it was cut short.
    """
    setting = Setting(None, (hub_cpu,), (hub_cpu,), netem=False, echo=False, realtime=True)
    result = play(made, setting, Console(quiet=True))
    if result.interrupted:
        raise KeyboardInterrupt
    console.print(f"{made.name}, {made.clients} clients, {made.seconds:g} s: "
                  f"{verdict_sentence(result)}", highlight=False)  # fmt: skip
    return result


def keep(result: Result, folder: Path, name: str) -> Path:
    """Write what is kept of a result."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, compact(result).to_json() + "\n")
    return path


def run(
    plans: list[Scenario], hub_cpu: int, budget_s: float, folder: Path, console: Console
) -> Iterator[tuple[str, str]]:
    """Play all once, then those that were unusable again and again, while there is time. Each is
    kept as soon as it has been played; a usable one is never replaced by one that is not.

    Yields: names of those of which there is nothing to keep, and why.
    """
    began = time.monotonic()
    todo, first = plans, True
    while todo:
        again: list[Scenario] = []
        for made in todo:
            left_s = budget_s - (time.monotonic() - began)
            if not first and expected_s([made]) > left_s:
                continue
            try:
                result = measure(made, hub_cpu, console)
            except (Unplayable, HubEnded) as error:
                yield made.name, error.message.splitlines()[0]
                continue
            if not result.usable:
                again.append(made)
            if first or result.usable:
                keep(result, folder, made.name)
        todo, first = again, False


class Size(click.ParamType[tuple[str, int]]):
    """NAME=CLIENTS."""

    name = "name=clients"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        if name not in library.names() or not number.isdigit():
            self.fail(
                f"{value!r} is not NAME=CLIENTS, such as choir-300=60; names: "
                f"{', '.join(library.names())}",
                param, ctx,
            )  # fmt: skip
        return name, int(number)


@click.command(context_settings={"show_default": True})
@click.option("--only", multiple=True, type=click.Choice(sorted(library.names())),
              help="This scenario; several are possible.")  # fmt: skip
@click.option("--size", "sizes", multiple=True, type=Size(), help="So many clients in a scenario.")
@click.option("--at-most", "at_most_s", type=click.FloatRange(1, 3600), default=None,
              help="Seconds of each window.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0, 600), default=6.0,
              help="Within which unusable ones are played again.")  # fmt: skip
@click.option("--hub-cpu", type=int, default=whole.Settings().hub_cpu, help="Core of the hubs.")
@click.option("--load-cpu", type=int, default=whole.Settings().load_cpu,
              help="Core of the generator.")  # fmt: skip
@click.option("--render/--no-render", "write_table", default=True,
              help="Write the table of docs/loadtest.md.")  # fmt: skip
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER,
              show_default="loadtest/results/scenarios", help="For the JSON files.")  # fmt: skip
def main(
    only: tuple[str, ...],
    sizes: tuple[tuple[str, int], ...],
    at_most_s: float | None,
    minutes: float,
    hub_cpu: int,
    load_cpu: int,
    write_table: bool,
    folder: Path,
) -> None:
    """Play all ready-made scenarios, and write their table in docs/loadtest.md."""
    console = whole.console()
    chosen = [name for name in scenariotable.ordered(library.names()) if not only or name in only]
    wanted = dict(sizes)
    try:
        plans = [plan(name, wanted.get(name, 0), at_most_s or 0.0) for name in chosen]
    except ScenarioError as error:
        raise click.UsageError(str(error)) from error
    console.print(f"{len(plans)} scenarios, about {expected_s(plans) / 60:.1f} min")
    with interruptible(), pinned(load_cpu):
        failed = dict(run(plans, hub_cpu, 60 * minutes, folder, console))
    for name, why in failed.items():
        console.print(f"[red]{name}: {why}", highlight=False)
    if write_table:
        try:
            scenariotable.PAGE.write_text(scenariotable.rendered(results=folder))
        except (RecordError, RenderError) as error:
            raise click.ClickException(str(error)) from error
        console.print(f"table written to docs/{scenariotable.PAGE.name}")
    if failed:
        raise click.ClickException(f"nothing to keep of {', '.join(failed)}")


if __name__ == "__main__":
    main()
