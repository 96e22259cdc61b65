"""Whether the capacity model is right about this machine's one and two cores.

    python -m loadtest.benchmarks.modelcheck

Fits the model to the newest kept search, once more plays to a hub on one core and on all of two,
and puts what it used beside what the model says it would. With two cores the generator has a part
of one of them, with the highest priority; what is left is what the hub had.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from loadtest.benchmarks import kept, record, whole
from loadtest.benchmarks.capacitytable import measurements
from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.whole import SCALE, TUTTIHUB, Case
from loadtest.capacity.fit import MIX_KINDS, RECEIVE_KINDS, FitError, Model, fit, observe
from loadtest.capacity.probe import Probe
from loadtest.commandline import interruptible, pinned
from loadtest.conduct import servers
from loadtest.conduct.servers import ServerError
from loadtest.conduct.session import SessionError
from loadtest.scenario.model import Format

MODULE = "loadtest.benchmarks.modelcheck"
KIND = "modelcheck"
QUEUE = "4"
"""Of the searches."""
CASES = ((1, 40), (1, 70), (2, 40), (2, 70), (2, 110))
"""Cores of the hub, and clients."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the hub used of a period, µs, beside what the model says.

    Attributes:
        generator: cores that the generator used; of two it shares one with the hub.
        usable: whether it was in time.
        missed: ticks, of `ticks`; lost: share of return packets.
    """

    cores: int
    clients: int
    receive_us: float
    mix_us: float
    other_us: float
    model_receive_us: float
    model_mix_us: float
    model_other_us: float
    generator: float
    usable: bool
    ticks: int
    missed: int
    lost: float

    @property
    def total_us(self) -> float:
        return self.receive_us + self.mix_us + self.other_us

    @property
    def off(self) -> float:
        """By what share the model says too much (+) or too little (−)."""
        said = self.model_receive_us + self.model_mix_us + self.model_other_us
        return said / self.total_us - 1


def off_by_one_core(rows: Sequence[Row], row: Row) -> float | None:
    """By what share the line through the least and the most clients on one core says too much or
    too little: what a day's speed of the machine does to the model is not in it. None: no line."""
    single = sorted((each for each in rows if each.cores == 1), key=lambda each: each.clients)
    if row.cores == 1 or len(single) < 2:
        return None
    few, many = single[0], single[-1]
    slope = (many.total_us - few.total_us) / (many.clients - few.clients)
    return (few.total_us + slope * (row.clients - few.clients)) / row.total_us - 1


def model_of(folder: Path = record.RESULTS) -> tuple[Model, str]:
    """The model of the newest file that can fit one, and that file's date.

    Raises:
        RecordError: there is none.
    """
    for values in measurements(folder):
        seen = []
        for each in values["searches"]:
            case = each["case"]
            if case["target"] == TUTTIHUB and len(case["hub_cpus"]) == 1:
                form = Format(
                    case["frames"], case["rate_hz"], case["bits"], case["channels"],
                    case["channels"],
                )  # fmt: skip
                seen += observe(form, (Probe.from_json(probe) for probe in each["probes"]))
        try:
            return fit(seen), str(values["provenance"].get("date", ""))[:10]
        except FitError:
            continue
    raise RecordError("no kept search can fit a model: `make bench-capacity` makes one")


def measure(model: Model, settings: whole.Settings) -> Iterator[Row]:
    """All cases that this machine has cores for.

    Raises:
        ServerError, SessionError: one could not be played.
    """
    for cores, clients in CASES:
        if cores > (os.cpu_count() or 1):
            continue
        case = Case(SCALE, TUTTIHUB, clients, settings.mode, QUEUE, settings.join_rate)
        scenario = whole.scenario(case, settings)
        cpus = {settings.hub_cpu} if cores == 1 else {settings.hub_cpu, settings.load_cpu}
        with servers.tuttihub(scenario.hub, cpus=cpus) as server:
            result = whole.play(scenario, server)
        if result.hub is None:
            raise SessionError(f"{clients} clients: the hub's costs could not be read")
        us = result.hub.cpu_us_by_kind
        costs = model.costs(scenario.sections[0].format, clients)
        counts = result.counters.counts if result.counters else {}
        receive, mix = (
            clients * sum(each for kind, each in us.items() if any(k in kind for k in kinds))
            for kinds in (RECEIVE_KINDS, MIX_KINDS)
        )
        yield Row(
            cores, clients, round(receive, 1), round(mix, 1),
            round(clients * sum(us.values()) - receive - mix, 1), round(costs.receive_us, 1),
            round(costs.mix_us, 1), round(costs.other_us, 1), result.own_load, result.usable,
            counts.get("ticks", 0), counts.get("missed", 0),
            round((result.lost + result.shortfall) / max(1, result.expected), 5),
        )  # fmt: skip


@click.command(context_settings={"show_default": True})
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=6.0, help="Of each run.")
@click.option("--hub-cpu", type=int, default=min(os.sched_getaffinity(0)), help="The hub's core.")
@click.option("--load-cpu", type=int, default=max(os.sched_getaffinity(0)),
              help="The generator's core, and the hub's second.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/modelcheck-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the tables of docs/limits.md.")
def main(seconds: float, hub_cpu: int, load_cpu: int, output: Path | None, page: bool) -> None:
    """Check the capacity model on one and two cores."""
    from loadtest.benchmarks import limitspage

    settings = whole.Settings(seconds=seconds, hub_cpu=hub_cpu, load_cpu=load_cpu, join_rate=50.0)
    rows = []
    with interruptible(), pinned(load_cpu):
        try:
            model, date = model_of()
            whole.warm_up(settings)
            for row in measure(model, settings):
                rows.append(row)
                click.echo(f"{row} off {row.off:+.0%}")
        except (RecordError, ServerError, SessionError) as error:
            raise click.ClickException(str(error)) from error
    found = Kept(record.made_by(MODULE), rows, {"model_date": date})
    kept.finish(KIND, found, output, click.echo)
    if page:
        limitspage.bring_page_up_to_date()


if __name__ == "__main__":
    main()
