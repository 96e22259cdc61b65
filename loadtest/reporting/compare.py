"""Runs side by side: what became better, what worse, what is noise.

The first run is what the others are compared with. Figures of the same run made twice differ;
what differs by less than a figure's own noise is not called better or worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loadtest.reporting.result import Cost, Result
from loadtest.reporting.words import Verdict, grouped, memory, micros, share, verdict

COMPARED = ("hub", "sections", "faults", "seconds", "burst", "seed")
"""What of a scenario must be the same for figures to be comparable."""

SPLIT_NOISE = 0.5
"""CPU divides into user and system by Linux's clock, and periods meet that at few moments: two runs
of the same had 35 and 62 % of it in user space."""


class Change(StrEnum):
    """How a figure changed."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "within noise"
    NEUTRAL = "neutral"
    """A figure that is neither good nor bad, or missing."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one run.

    Attributes:
        ratio: to the first run's; None: it has none.
    """

    text: str
    ratio: float | None = None
    change: Change = Change.NEUTRAL

    @property
    def ratio_text(self) -> str:
        """As '×1.02'; empty: it has none."""
        return "" if self.ratio is None else f"×{self.ratio:.3g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of all runs."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is compared; less is better.

    Attributes:
        of: takes it from a result; None: not there.
        shown: as text.
        noise: relative difference that two runs of the same may have.
        floor: absolute difference that they may have.
    """

    name: str
    of: Callable[[Result], float | None]
    shown: Callable[[float], str]
    noise: float = 0.0
    floor: float = 0.0


def _rate(count: float, of: float) -> float | None:
    return count / of if of else None


def _hub(of: Callable[[Cost], float | None]) -> Callable[[Result], float | None]:
    return lambda result: of(result.hub) if result.hub else None


def _if(count: int, value: float) -> float | None:
    return value if count else None


FIGURES = (
    Figure("return loss", lambda r: _rate(r.lost + r.shortfall, r.expected), share, 0.5, 2e-6),
    Figure("wrong or silent", lambda r: _rate(r.wrong + r.silent, r.checked), share, 0.5, 2e-6),
    Figure("voices missing", lambda r: _rate(r.missing, r.voices_expected), share, 0.5, 2e-6),
    Figure("duplicates", lambda r: r.duplicates, grouped, 0.5),
    Figure("latency p50", lambda r: _if(r.latency.count, r.latency.p50), micros, 0.05, 100),
    Figure("latency p99", lambda r: _if(r.latency.count, r.latency.p99), micros, 0.10, 200),
    Figure("latency max", lambda r: _if(r.latency.count, r.latency.max), micros, 0.5, 1000),
    Figure("spacing p50", lambda r: _if(r.spacing.count, r.spacing.p50), micros, 0.25, 10),
    Figure("spacing p99", lambda r: _if(r.spacing.count, r.spacing.p99), micros, 0.25, 50),
    Figure("longest gap", lambda r: r.gap_ms, lambda v: f"{v:.4g} ms", 0.5, 3),
    Figure("join p50", lambda r: _if(r.join_ms.count, r.join_ms.p50), lambda v: f"{v:.4g} ms",
           0.25, 3),
    Figure("join p99", lambda r: _if(r.join_ms.count, r.join_ms.p99), lambda v: f"{v:.4g} ms",
           0.3, 5),
    Figure("missed ticks", lambda r: r.counters.counts.get("missed") if r.counters else None,
           grouped, 0.5),
    Figure("CPU a client-period", _hub(lambda hub: hub.cpu_us), micros, 0.05, 0.2),
    Figure("– in user", _hub(lambda hub: hub.user_us), micros, SPLIT_NOISE, 0.2),
    Figure("– in system", _hub(lambda hub: hub.system_us), micros, SPLIT_NOISE, 0.2),
    Figure("CPU in all, cores", _hub(lambda hub: hub.cores), lambda v: f"{v:.3g}", 0.05, 0.01),
    Figure("switches a client-period", _hub(lambda hub: hub.voluntary + hub.involuntary),
           lambda v: f"{v:.3g}", 0.10, 0.02),
    Figure("private memory a client", _hub(lambda hub: hub.private_kib_a_client), memory, 0.02, 16),
    Figure("– a receiver", _hub(lambda hub: hub.private_kib_a_receiver), memory, 0.02, 16),
    Figure("– in all", _hub(lambda hub: hub.private_kib), memory, 0.02, 512),
    Figure("shared memory a client", _hub(lambda hub: hub.shared_kib_a_client), memory, 0.05, 64),
    Figure("generator late p99", lambda r: _if(r.lateness.count, r.lateness.p99), micros, 0.3, 20),
)  # fmt: skip
_COLOURS = {Change.BETTER: "green", Change.WORSE: "red", Change.SAME: "dim", Change.NEUTRAL: ""}
_SIGNS = {Change.BETTER: "▼ better", Change.WORSE: "▲ worse", Change.SAME: "≈", Change.NEUTRAL: ""}


def rows_of(results: Sequence[Result]) -> tuple[list[Row], list[str]]:
    """The table, and what speaks against comparing these runs.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(results) < 2:
        raise ValueError(f"{len(results)} result: two at least can be compared")
    rows = [
        Row("verdict", [Cell(_verdict(result)) for result in results]),
        Row("clients", [Cell(grouped(result.joined)) for result in results]),
    ]
    for figure in FIGURES:
        values = [figure.of(result) for result in results]
        if any(value is not None for value in values):
            rows.append(Row(figure.name, [_cell(figure, values[0], value, n == 0)
                                          for n, value in enumerate(values)]))  # fmt: skip
    return rows, warnings(results)


def compare(results: Sequence[Result]) -> RenderableType:
    """The table for a terminal.

    Raises:
        ValueError: there are fewer than two results.
    """
    rows, against = rows_of(results)
    table = Table(box=box.SIMPLE_HEAD, title="less is better; × is the ratio to the first",
                  title_justify="left", title_style="dim")  # fmt: skip
    table.add_column("", style="bold", no_wrap=True)
    for n, result in enumerate(results):
        name = f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[n % 26]}: {result.label}"
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(row.name, *(_rich(cell) for cell in row.cells))
    lines = [Text(f"! {line}", style="yellow") for line in against]
    return Group(table, *lines)


def _rich(cell: Cell) -> Text:
    text = Text(cell.text)
    if cell.ratio is not None or cell.change is not Change.NEUTRAL:
        note = " ".join(filter(None, (cell.ratio_text, _SIGNS[cell.change])))
        text.append(f"  {note}", style=_COLOURS[cell.change])
    return text


def _cell(figure: Figure, base: float | None, value: float | None, first: bool) -> Cell:
    if value is None:
        return Cell("–")
    text = figure.shown(value)
    if first or base is None:
        return Cell(text)
    ratio = value / base if base else None
    return Cell(text, ratio, _change(figure, base, value))


def _change(figure: Figure, base: float, value: float) -> Change:
    if abs(value - base) <= max(figure.floor, figure.noise * max(abs(base), abs(value))):
        return Change.SAME
    return Change.BETTER if value < base else Change.WORSE


def warnings(results: Sequence[Result]) -> list[str]:
    """Reasons not to trust a comparison, a sentence each; we compare all the same."""
    first, lines = results[0], []
    for n, other in enumerate(results[1:], 2):
        differing = [
            name for name in COMPARED if first.scenario.get(name) != other.scenario.get(name)
        ]
        if differing:
            lines.append(
                f"run {n} played another scenario than run 1 "
                f"({first.label} / {other.label}: {', '.join(differing)} differ)"
            )
        for name in ("cpu", "cores", "kernel"):
            ours = first.provenance.get("machine", {}).get(name)
            theirs = other.provenance.get("machine", {}).get(name)
            if ours != theirs:
                lines.append(f"run {n} was made on another machine ({name} {theirs}, not {ours})")
                break
    for n, result in enumerate(results, 1):
        if not result.usable:
            lines.append(f"run {n} says nothing of its hub: {'; '.join(result.reasons)}")
    return lines


def _verdict(result: Result) -> str:
    if verdict(result) is Verdict.PASSED and result.clean:
        return "passed, clean"
    return str(verdict(result))
