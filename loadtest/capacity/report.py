"""What a capacity measurement found: its file and its tables.

The file is one JSON object::

    schema, kind         1, "capacity"
    provenance           machine, versions, command, date
    searches             one a case: {case, label, rules, found, limit, probes}; found and
                         limit are null while it is not finished
    model                coefficients of each side's costs with their deviations; null: none
    mixer_ends           by format in words: clients with which the mixer, one process, is full
    assumptions          of the predictions, in words
    predictions          other core counts and network cards

It is written after every probe, so that an interrupted measurement can go on from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.capacity.fit import FitError, Model, fit, observe
from loadtest.capacity.limits import Limit
from loadtest.capacity.measure import Case, Target
from loadtest.capacity.model import CARDS, Assumptions, Prediction, mixer_end, predictions
from loadtest.capacity.probe import Probe
from loadtest.capacity.search import Found, Rules
from loadtest.commandline import write_whole
from loadtest.scenario.model import Service

SCHEMA = 1
KIND = "capacity"


class CapacityFileError(ValueError):
    """A file does not hold a measurement that this release can go on with."""


@dataclass(slots=True)
class Searched:
    """One case: its probes so far, and what was found in the end.

    Attributes:
        version: of the server.
        floor_us: what a bare echo of the same packets costs a client-period, with as many clients
            as hold; 0: not measured.
    """

    case: Case
    rules: Rules
    probes: list[Probe] = field(default_factory=list)
    found: Found | None = None
    limit: Limit | None = None
    version: str = ""
    floor_us: float = 0.0

    def to_json(self) -> dict[str, Any]:
        found = self.found.to_json() if self.found else None
        if found is not None:
            del found["probes"]
        return {
            "case": self.case.to_json(),
            "label": self.case.label,
            "version": self.version,
            "rules": asdict(self.rules),
            "found": found,
            "limit": self.limit.to_json() if self.limit else None,
            "floor_us": self.floor_us,
            "probes": [probe.to_json() for probe in self.probes],
        }


@dataclass(slots=True)
class Capacity:
    """A whole measurement.

    Attributes:
        cores: other machines to predict for.
        model_note: why there is no model, if there is none.
        others: searches of the file that this measurement goes on with, but was not asked for, as
            they stand there; they stay.
    """

    searches: list[Searched]
    cores: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    assumptions: Assumptions = field(default_factory=Assumptions)
    provenance: dict[str, Any] = field(default_factory=dict)
    model: Model | None = None
    model_note: str = ""
    predictions: list[Prediction] = field(default_factory=list)
    mixer_ends: dict[str, int] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)

    def conclude(self) -> None:
        """Fit the model to all probes of tuttihub, and predict for other machines."""
        ours = [each for each in self.searches if each.case.target is Target.TUTTIHUB]
        seen = [one for each in ours for one in observe(each.case.format, each.probes)]
        try:
            self.model = fit(seen)
        except FitError as error:
            self.model_note = str(error)
            return
        self.predictions = predictions(
            self.model,
            [each.case.format for each in ours],
            self.cores,
            CARDS,
            self.assumptions,
            measured_cores=len(ours[0].case.hub_cpus),
        )
        self.mixer_ends = {
            each.case.format_label: mixer_end(self.model, each.case.format, self.assumptions)
            for each in ours
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "provenance": self.provenance,
            "searches": [*(each.to_json() for each in self.searches), *self.others],
            "model": self.model.to_json() if self.model else None,
            "model_note": self.model_note,
            "mixer_ends": self.mixer_ends,
            "assumptions": self.assumptions.lines(),
            "predictions": [each.to_json() for each in self.predictions],
        }

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_whole(path, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")


def earlier_probes(path: Path, case: Case, rules: Rules) -> list[Probe]:
    """Probes that a file holds of the same case, and of the same length; none without a file.

    Those that were not usable are left out: another minute may be a better one.

    Raises:
        CapacityFileError: it holds the case with probes of another length, is another kind of
            file, or damaged.
    """
    values = _read(path)
    if values is None:
        return []
    try:
        for each in values["searches"]:
            if each["case"] != plain(case.to_json()):
                continue
            then = each["rules"]["seconds"], each["rules"]["screen_s"]
            if then != (rules.seconds, rules.screen_s):
                raise CapacityFileError(
                    f"{path}: holds {case.label} with probes of {then[0]:g} s, not of "
                    f"{rules.seconds:g} s: --seconds {then[0]:g}, or another file"
                )
            probes = [Probe.from_json(probe) for probe in each["probes"]]
            return [probe for probe in probes if probe.usable]
    except CapacityFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CapacityFileError(f"{path}: damaged: {error!r}") from error
    return []


def other_searches(path: Path, cases: Iterable[Case]) -> list[dict[str, Any]]:
    """The searches of a file that are of none of these cases, as they stand there.

    Raises:
        CapacityFileError: it is another kind of file.
    """
    values = _read(path) or {"searches": []}
    asked = [plain(case.to_json()) for case in cases]
    return [each for each in values["searches"] if each["case"] not in asked]


def need_same_machine(path: Path, here: dict[str, Any]) -> None:
    """Refuse to go on with what was measured elsewhere; no file is no hindrance.

    here: this measurement's provenance.

    Raises:
        CapacityFileError: the machine or the versions differ, or it is another kind of file.
    """
    values = _read(path)
    if values is None:
        return
    there = values.get("provenance")
    if not isinstance(there, dict):
        raise CapacityFileError(f"{path}: damaged: no provenance")
    now, then = _identity(plain(here)), _identity(there)
    changes = [
        f"{name}: {then.get(name, 'unknown')!r} there, {value!r} here"
        for name, value in now.items()
        if then.get(name) != value
    ]
    if changes:
        raise CapacityFileError(
            f"{path}: measured on another machine or with other versions, so that its probes "
            f"cannot be gone on with: {'; '.join(changes)}"
        )


def _identity(provenance: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for probes to be comparable; memory in GiB, it wobbles."""
    values: dict[str, Any] = {}
    for part in ("machine", "versions"):
        found = provenance.get(part)
        values |= found if isinstance(found, dict) else {}
    memory = values.pop("memory_kib", 0)
    return values | {"memory_gib": round(memory / 2**20) if isinstance(memory, int) else 0}


def read(path: Path) -> dict[str, Any]:
    """A file's values.

    Raises:
        CapacityFileError: it is not there, or another kind of file.
    """
    values = _read(path)
    if values is None:
        raise CapacityFileError(f"{path}: is not there")
    return values


def _read(path: Path) -> dict[str, Any] | None:
    """A file's values; None: there is no file.

    Raises:
        CapacityFileError: it is another kind of file.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CapacityFileError(f"{path}: {error}") from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise CapacityFileError(f"{path}: not a capacity measurement")
    if values.get("schema") != SCHEMA:
        raise CapacityFileError(f"{path}: schema {values.get('schema')!r}; {SCHEMA} can be read")
    return values


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """As it is after a way through a file: tuples are lists there."""
    result: dict[str, Any] = json.loads(json.dumps(values))
    return result


def show(capacity: Capacity, console: Console) -> None:
    """All tables."""
    console.print(_found_table(capacity.searches))
    for each in capacity.searches:
        if each.found is not None:
            console.print(f"[bold]{escape(each.case.label)}[/]: {escape(each.found.meaning)}")
        if each.limit is not None:
            console.print(f"  gave out: {each.limit.resource}. {escape(each.limit.text)}")
            for other in each.limit.others:
                console.print(f"  also: {escape(other)}")
    if capacity.model is None:
        console.print(f"no model: {capacity.model_note}")
        return
    console.print(_model_table(capacity.model))
    console.print(_prediction_table(capacity.predictions))
    for label, clients in capacity.mixer_ends.items():
        console.print(f"The mixer, one process, would be full with {clients} clients: {label}")
    console.print("Assumed, not measured:")
    for line in capacity.assumptions.lines():
        console.print(f"  {escape(line)}")
    for line in dict.fromkeys(text for each in capacity.predictions for text in each.warnings):
        console.print(f"  [yellow]* {escape(line)}")


def _found_table(searches: Sequence[Searched]) -> Table:
    level = ", ".join(dict.fromkeys(level_words(each.case.service) for each in searches))
    view = Table(
        title="clients that hold the service level", box=box.SIMPLE, padding=(0, 0, 0, 1),
        caption=f"the level: {level}; what the machine's own halts explain is taken off",
    )  # fmt: skip
    for name in (
        "server", "frames", "ch", "holds", "fails", "passed", "µs a client-\nperiod", "echo",
        "hub\ncores", "in→out ms\np50 / p99", "spacing\np99 µs", "KiB a\nclient", "halted\nms",
        "probes", "gives out first",
    ):  # fmt: skip
        view.add_column(name, justify="left" if name in ("server", "gives out first") else "right")
    for each in searches:
        found = each.found
        if found is None:
            continue
        passed, failed = found.votes(found.clients, each.rules.seconds)
        best = [
            probe for probe in found.probes
            if probe.clients == found.clients and probe.usable and probe.passed
        ]  # fmt: skip
        row = [
            str(each.case.target), str(each.case.frames), str(each.case.channels),
            str(found.clients), str(found.fails or "–"), f"{passed} of {passed + failed}",
        ]  # fmt: skip
        if best:
            figures = best[-1].figures
            row += [
                f"{sum(figures.cpu_us.values()):.2f}",
                f"{each.floor_us:.2f}" if each.floor_us else "–",
                f"{figures.cores():.2f}",
                f"{figures.latency_p50_us / 1000:.2f} / {figures.latency_p99_us / 1000:.2f}"
                if figures.latency_p99_us
                else "–",
                f"{figures.spacing_p99_us:.0f}",
                f"{figures.private_kib_a_client:.0f}" if figures.private_kib_a_client else "–",
                f"{figures.halted_ms:.0f}",
            ]
        else:
            row += ["–"] * 7
        limit = str(each.limit.resource) if each.limit else "–"
        view.add_row(*row, str(len(found.probes)), limit)
    return view


def level_words(service: Service) -> str:
    """A service level, as short as may be."""
    ticks = "any" if service.missed_ticks < 0 else str(service.missed_ticks)
    parts = [
        f"missed ticks {ticks}", f"return loss {service.return_loss:g}",
        f"spacing p99 {service.spacing_p99:g} periods", f"wrong {service.wrong:g}",
    ]  # fmt: skip
    if service.findings:
        parts.append("named faults " + ("any" if service.findings < 0 else f"{service.findings}"))
    if service.join_p99_ms:
        parts.append(f"join p99 {service.join_p99_ms:g} ms")
    if service.gap_ms:
        parts.append(f"longest gap {service.gap_ms:g} ms")
    return ", ".join(parts)


def _model_table(model: Model) -> Table:
    view = Table(
        title=f"the model: CPU of a period, µs (fitted to {model.observations} probes)",
        box=box.SIMPLE,
    )
    for name in ("part", "each", "µs", "±", "residual"):
        view.add_column(name, justify="left" if name in ("part", "each") else "right")
    for part, line in (("receive", model.receive), ("mix", model.mix), ("other", model.other)):
        for index, (name, (value, deviation)) in enumerate(
            line.to_json()["coefficients_us"].items()
        ):
            residual = f"{line.residual:.1%}" if index == 0 else ""
            view.add_row(
                part if index == 0 else "", name, f"{value:.4g}", f"{deviation:.2g}", residual
            )
    view.add_row("memory", "hub", f"{model.memory_kib / 1024:.1f} MiB", "", "")
    view.add_row("", "client", f"{model.memory_a_client_kib:.0f} KiB", "", "")
    return view


def _prediction_table(found: Sequence[Prediction]) -> Table:
    view = Table(title="prediction: clients (range), and what limits them", box=box.SIMPLE)
    cards = list(dict.fromkeys(each.card for each in found))
    for name in ("frames", "ch", "cores", "lanes"):
        view.add_column(name, justify="right")
    for card in cards:
        view.add_column(card.name)
    rows: dict[tuple[int, int, int, int], list[str]] = {}
    for each in found:
        key = (each.format.frames, each.format.sends, each.cores, each.lanes)
        mark = "*" if each.warnings else ""
        span = f" ({each.low}–{each.high})" if each.low != each.high else ""
        rows.setdefault(key, []).append(f"{each.clients}{mark}{span} {each.limit}")
    for key, cells in rows.items():
        view.add_row(*map(str, key), *cells)
    return view
