"""The page about latency: its table and its picture, made from the newest recorded result.

python -m loadtest.benchmarks.latencypage           writes docs/latency.md and the picture
python -m loadtest.benchmarks.latencypage --check   exit code 1 when the page is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loadtest.benchmarks import record
from loadtest.benchmarks.record import Latency, LatencyRow, RecordError
from loadtest.benchmarks.render import RenderError, insert, markdown, where
from loadtest.reporting import charts

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PICTURE = DOCS / "latency.md", DOCS / "pictures" / "latency.png"
BEGIN, END = "<!-- latency:begin -->", "<!-- latency:end -->"
NAMES = {"tuttihub": "tuttihub", "jacktrip": "JackTrip"}
PARTS = (
    ("sound card, in", "#c8c8c8"),
    ("client sends", charts.PURPLE),
    ("wire, both", charts.INK),
    ("hub's buffer", charts.VERMILLION),
    ("hub's tick", charts.YELLOW),
    ("client's buffer", charts.SKY),
    ("sound card, out", "#c8c8c8"),
)
_SHOWN = ("sender", "buffer", "tick", "client")
BUDGETS_MS = {"2": 6.0, "auto": 4.5}
"""Through the hub, p50, by `-q`, on a clean network."""
BUDGET_FRAMES = 128
_LEAST_LABEL_MS = 0.35
"""A narrower part of a bar has no figure in it."""


def parts_ms(row: LatencyRow) -> list[float]:
    """The parts of a bar, in the order of ``PARTS``."""
    stages = row.stages_ms()
    return [
        row.period_ms,
        stages["sender"],
        stages["up"] + stages["down"],
        stages["buffer"],
        stages["tick"],
        stages["client"],
        row.period_ms,
    ]


def content(latency: Latency | None) -> str:
    """What stands between the page's markers."""
    if latency is None:
        return "It has not been measured yet: `python -m loadtest.benchmarks.latency` does."
    rows = [row for row in latency.rows if row.takes]
    head = [
        "frames", "`-q`", "hub", "client sends", "hub's buffer", "hub's tick", "client's buffer",
        "port to port", "in each take", "with two cards", "through the hub, p50 / p99", "heard",
    ]  # fmt: skip
    dates = sorted({str(run["date"])[:10] for run in latency.provenance.get("added_to", [])})
    kept = f" (some rows by earlier runs, of {' and '.join(dates)})" if dates else ""
    text = (
        f"Measured {where(latency.provenance)}{kept}: one channel of 16 bit at "
        f"{record.RATE_HZ / 1000:g} kHz, `-q` alike at the hub and at both clients, "
        f"{_takes(rows)} of {latency.settings.get('seconds', 0):g} s each. Milliseconds:"
    )
    picture = "![Stacked bars of the same figures](pictures/latency.png)"
    table = markdown(head, [_line(row) for row in rows], left=3)
    return "\n\n".join([picture, text, table, *_budgets(rows)])


def _takes(rows: Sequence[LatencyRow]) -> str:
    """How often a configuration was measured."""
    counts = sorted({len(row.takes) for row in rows})
    if counts in ([], [1]):
        return f"{len(counts)} take"
    return f"{' or '.join(map(str, counts))} takes"


def _budgets(rows: Sequence[LatencyRow]) -> list[str]:
    """What the hub may take, and whether it holds."""
    found = [
        f"{budget_ms:.1f} ms at `-q {row.queue}`: {_held(row, budget_ms)}"
        for row in rows
        if row.hub == "tuttihub" and row.frames == BUDGET_FRAMES
        and (budget_ms := BUDGETS_MS.get(row.queue)) is not None
    ]  # fmt: skip
    if not found:
        return []
    return [
        f"The budgets of the project for what a packet may take through the hub (p50, "
        f"{BUDGET_FRAMES} frames, clean network): at most {'; '.join(found)}."
    ]


def _held(row: LatencyRow, budget_ms: float) -> str:
    """A row's median, and whether a budget holds: in all of its takes, or only in their median."""
    medians = sorted(take.hub_p50_ms for take in row.takes)
    median_ms = row.median("hub_p50_ms")
    if len(medians) == 1:
        return f"{median_ms:.2f}, {'held' if median_ms <= budget_ms else '**not held**'}"
    each = ", ".join(f"{each_ms:.2f}" for each_ms in medians)
    verdict = "held" if median_ms <= budget_ms else "**not held**"
    over = sum(each_ms > budget_ms for each_ms in medians)
    if over and median_ms <= budget_ms:
        verdict = f"held in the median, **not in {over} of {len(medians)} takes**"
    return f"{median_ms:.2f} ({each}), {verdict}"


def _line(row: LatencyRow) -> list[str]:
    stages, ports = row.stages_ms(), [take.port_ms for take in row.takes]
    total = sum(stages.values())
    return [
        str(row.frames),
        row.queue,
        NAMES.get(row.hub, row.hub),
        *(f"{stages[name]:.2f}" if stages[name] else "–" for name in _SHOWN),
        f"**{total:.1f}**",
        f"{min(ports):.1f} to {max(ports):.1f}",
        f"{total + 2 * row.period_ms:.1f}",
        f"{row.median('hub_p50_ms'):.2f} / {row.median('hub_p99_ms'):.2f}",
        f"{100 * row.median('heard'):.1f} %",
    ]


def picture(rows: Sequence[LatencyRow], path: Path) -> None:
    """Draw a bar for each configuration, the two hubs of one beside each other."""
    shown = [row for row in rows if row.takes]
    style = charts.STYLE | {"figure.facecolor": "white", "axes.facecolor": "white"}
    with mpl.rc_context(style | {"grid.color": "#dddddd", "axes.grid.axis": "x"}):
        made = Figure(figsize=(charts.WIDTH_INCHES, 1.3 + 0.3 * len(shown)), layout="constrained")
        FigureCanvasAgg(made)
        axes = made.subplots()
        places: list[float] = []
        labels: list[str] = []
        place, before = 0.0, (0, "")
        for row in shown:
            if places and (row.frames, row.queue) != before:
                place += 0.5
            before = row.frames, row.queue
            left = 0.0
            for (name, colour), width in zip(PARTS, parts_ms(row), strict=True):
                axes.barh(
                    place, width, 0.86, left, color=colour, label=name if not places else None
                )
                if width >= _LEAST_LABEL_MS:
                    axes.text(left + width / 2, place, f"{width:.1f}", ha="center", va="center",
                              fontsize=8)  # fmt: skip
                left += width
            axes.text(left + 0.1, place, f"{left:.1f}", va="center", fontweight="bold")
            places.append(place)
            labels.append(f"{row.frames} frames, -q {row.queue}, {NAMES.get(row.hub, row.hub)}")
            place += 1.0
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_xlabel("ms from a sound at one musician's card to the other's")
        made.legend(loc="outside upper center", ncols=len(PARTS), fontsize=8, handlelength=1.2)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, dpi=110)


def rendered(page: Path = PAGE, results: Path = record.RESULTS) -> str:
    """The page as it should be.

    Raises:
        RenderError: it has no markers.
        RecordError: a result cannot be read.
    """
    return insert(page.read_text(), content(record.newest(Latency, results)), BEGIN, END)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when it is out of date.")
def main(check: bool) -> None:
    """Write the page about latency from the newest result."""
    try:
        wanted, latency = rendered(), record.newest(Latency)
    except (RenderError, RecordError) as error:
        raise click.ClickException(str(error)) from error
    if check:
        if wanted != PAGE.read_text():
            click.echo("docs/latency.md is not what loadtest/results say", err=True)
            sys.exit(1)
        return
    PAGE.write_text(wanted)
    if latency is not None:
        picture(latency.rows, PICTURE)


if __name__ == "__main__":
    main()
