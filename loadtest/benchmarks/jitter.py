"""How deep a jitter buffer should be: late packets against mean depth, rule by rule.

    python -m loadtest.benchmarks.jitter
    python -m loadtest.benchmarks.jitter --seconds 120 --output /tmp/jitter.json --no-page

Each rule (``estimators``) runs over each trace (``arrivals``) with several values of its
parameter: a curve. The hub's own clock and depth run in a process of their own
(``tests/kernels/hub_depth.py``), for this package never calls the hub's code; the window and
the plain histogram judge lateness by the same line of reference as the hub's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import estimators, record
from loadtest.benchmarks.arrivals import FRAMES, RATE_HZ, Trace, everyone
from loadtest.benchmarks.render import where
from loadtest.reporting.charts import STYLE, looks, share_label

Doubles = npt.NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]
KIND, MODULE, HUB = "jitter", "loadtest.benchmarks.jitter", "tests.kernels.hub_depth"
PAGE, PICTURE = ROOT / "docs" / "jitter.md", ROOT / "docs" / "pictures" / "jitter.png"
BEGIN, END = "<!-- jitter:begin -->", "<!-- jitter:end -->"
SHARES = (1 / 200, 1 / 500, 1 / 1000, 1 / 2000, 1 / 3000, 1 / 5000, 1 / 10_000)
MEMORIES_S = (10.0, 20.0, 60.0)
CHOSEN = ("hub", 20.0, 1 / 3000)
EFFORTS = (50, 500, 60_000, 120_000, 200_000, 300_000)
"""N of autoN; 500 is what auto stands for."""
HEADROOMS_MS = (-1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
"""N of autoN; −1: auto."""
PHASES = (0.125, 0.375, 0.625, 0.875)
"""Of JackTrip's callbacks, in periods after a packet that comes in time; the mean is shown."""
TARGET = 1 / 2000
ALL = "all"
_OFFSET = 5000.0
_SHOWN = (
    ("hub", 20.0, "hub: forgets in 20 s"),
    ("hub", 60.0, "hub: forgets in 60 s"),
    ("window", 20.0, "window of 20 s"),
    ("histogram", 20.0, "histogram, steps unknown"),
    ("autoqueue", 0.0, "JackTrip, auto queue"),
    ("regulator", 0.0, "JackTrip, Regulator"),
)
_PLAIN = {"grid.color": "#dddddd", "axes.edgecolor": "#777777", "figure.facecolor": "white"}


@dataclass(frozen=True, slots=True)
class Row:
    """A rule on a trace, with one value of its parameter.

    Attributes:
        trace: name; "all": the mean of all.
        rule: "hub", "window", "histogram", "autoqueue" or "regulator".
        memory_s: of the first three; 0 elsewhere.
        parameter: share of late packets asked for; N of autoN, −1: plain auto.
        late: share of packets that came too late, or of periods without sound to play.
        depth_ms: mean of what passes between a punctual packet's coming and its play-out.
    """

    trace: str
    rule: str
    memory_s: float
    parameter: float
    late: float
    depth_ms: float


def path_delay(trace: Trace) -> Doubles:
    """What a punctual packet takes at that time: the least of each second; (n,), frames."""
    block = RATE_HZ // FRAMES
    starts = np.arange(0, len(trace.delay), block)
    least = np.minimum.reduceat(trace.delay, starts)
    return np.repeat(least, block)[: len(trace.delay)]


def hub_over(
    traces: Sequence[Trace], shares: Sequence[float], memories_s: Sequence[float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The hub's line of reference (T, n) and what it wants (T, M, P, n), frames.

    Raises:
        subprocess.CalledProcessError: the hub's kernels could not be run.
    """
    longest = max(len(trace.delay) for trace in traces)
    arrivals = np.full((len(traces), longest), np.nan)
    for row, trace in zip(arrivals, traces, strict=True):
        row[: len(trace.delay)] = trace.arrivals + _OFFSET
    with tempfile.TemporaryDirectory(prefix="tuttihub-jitter-") as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, arrivals=arrivals, targets=np.array(shares), frames=FRAMES,
                 memories_s=np.array(memories_s), rate_hz=RATE_HZ)  # fmt: skip
        subprocess.run([sys.executable, "-m", HUB, str(given), str(found)], cwd=ROOT, check=True)
        with np.load(found) as made:
            return made["reference"] - np.float32(_OFFSET), made["wanted"]


def measure(traces: Sequence[Trace]) -> list[Row]:
    """Every rule on every trace, and the means over all traces."""
    reference, wanted = hub_over(traces, SHARES, MEMORIES_S)
    rows: list[Row] = []
    for t, trace in enumerate(traces):
        count = len(trace.delay)
        line = reference[t, :count].astype(np.float64)
        rows += _by_line(trace, line, wanted[t, :, :, :count])
        rows += _jacktrip(trace)
    keys = dict.fromkeys((row.rule, row.memory_s, row.parameter) for row in rows)
    for rule, memory_s, parameter in keys:
        same = [r for r in rows if (r.rule, r.memory_s, r.parameter) == (rule, memory_s, parameter)]
        late, depth_ms = (
            float(np.mean([getattr(r, n) for r in same])) for n in ("late", "depth_ms")
        )
        rows.append(Row(ALL, rule, memory_s, parameter, _short(late), _short(depth_ms)))
    return rows


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _settle(trace: Trace) -> int:
    return min(int(estimators.SETTLE_S * RATE_HZ / FRAMES), len(trace.delay) // 2)


def _row(trace: Trace, rule: str, memory_s: float, parameter: float, result: Doubles) -> Row:
    punctual = float(path_delay(trace)[_settle(trace) :].mean())
    depth_ms = (float(result[1]) - punctual) * 1e3 / RATE_HZ
    return Row(trace.name, rule, memory_s, parameter, _short(float(result[0])), _short(depth_ms))


def _by_line(trace: Trace, line: Doubles, hub: npt.NDArray[np.float32]) -> Iterator[Row]:
    """The rules that judge lateness against a line of reference."""
    lateness, result = trace.delay - line, np.zeros(2)
    wanted = np.empty(len(line))
    packets_per_s = RATE_HZ / FRAMES
    for m, memory_s in enumerate(MEMORIES_S):
        for p, share in enumerate(SHARES):
            for rule in ("hub", "window", "histogram"):
                counts = np.zeros(estimators.BUCKETS)
                if rule == "hub":
                    wanted[:] = hub[m, p]
                elif rule == "window":
                    packets = int(memory_s * packets_per_s)
                    estimators.window(lateness, share, packets, RATE_HZ, counts, wanted)
                else:
                    forget = 1 - 1 / (memory_s * packets_per_s)
                    estimators.histogram(lateness, share, forget, RATE_HZ, counts, wanted)
                estimators.play(trace.delay, line, wanted, FRAMES, _settle(trace), result)
                yield _row(trace, rule, memory_s, share, result)


def _jacktrip(trace: Trace) -> Iterator[Row]:
    """JackTrip's two."""
    arrivals, settle = trace.arrivals, _settle(trace)
    found = np.zeros((len(PHASES), 2))
    for effort in EFFORTS:
        for n, phase in enumerate(PHASES):
            estimators.autoqueue(
                arrivals, FRAMES, RATE_HZ, effort, phase * FRAMES, settle, found[n]
            )
        yield _row(trace, "autoqueue", 0.0, effort, found.mean(axis=0))
    for headroom_ms in HEADROOMS_MS:
        for n, phase in enumerate(PHASES):
            estimators.regulator(
                arrivals, FRAMES, RATE_HZ, headroom_ms, phase * FRAMES, settle, np.zeros(2),
                found[n],
            )  # fmt: skip
        yield _row(trace, "regulator", 0.0, headroom_ms, found.mean(axis=0))


def to_text(rows: Sequence[Row], settings: dict[str, Any], provenance: dict[str, Any]) -> str:
    """A record as JSON, a line a row."""
    head = {"schema": record.SCHEMA, "kind": KIND, "provenance": provenance, "settings": settings}
    members = [
        f' "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in head.items()
    ]
    lines = ",\n  ".join(json.dumps(asdict(row)) for row in rows)
    return "{\n" + ",\n".join([*members, f' "rows": [\n  {lines}\n ]']) + "\n}\n"


def read(path: Path) -> list[Row]:
    """Rows of a record."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]]


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel a trace: late packets against mean depth, a curve a rule."""
    names = list(dict.fromkeys(row.trace for row in rows))
    with mpl.rc_context(STYLE | _PLAIN):
        made = Figure(figsize=(11, 5.8), layout="constrained")
        FigureCanvasAgg(made)
        panels = made.subplots(2, -(-len(names) // 2), sharey=True).flat
        for axes, name in zip(panels, names, strict=False):
            _panel(axes, [row for row in rows if row.trace == name], name)
        handles, labels = made.axes[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(path, dpi=100, facecolor="white", pil_kwargs={"optimize": True})


def _panel(axes: Axes, rows: Sequence[Row], name: str) -> None:
    """One trace; what was never late lies on the floor."""
    for (rule, memory_s, label), look in zip(_SHOWN, looks(len(_SHOWN)), strict=True):
        curve = sorted(
            (row.depth_ms, max(row.late, 1e-5))
            for row in rows
            if (row.rule, row.memory_s) == (rule, memory_s) and row.depth_ms < 40
        )
        axes.plot(*zip(*curve, strict=True), label=label, markersize=4, alpha=0.9, **look)
    for row in rows:
        if (row.rule, row.memory_s, row.parameter) == CHOSEN:
            axes.plot(row.depth_ms, max(row.late, 1e-5), "o", markersize=12, markerfacecolor="none",
                      markeredgecolor="black", clip_on=False)  # fmt: skip
    axes.axhline(TARGET, color="#777777", linewidth=1.2, linestyle=(0, (1, 2)))
    axes.set_title("mean of all" if name == ALL else name)
    axes.set_yscale("log")
    axes.set_ylim(0.9e-5, 1e-2)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: share_label(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("mean depth, ms")


def choices(rows: Sequence[Row]) -> list[tuple[str, dict[str, Row]]]:
    """The rows of the page's table: a rule as it would be used, and what it does on each trace."""
    used = (
        ("**hub: forgets in 20 s, aims at 1 in 3000**", CHOSEN),
        ("forgets in 60 s, 1 in 3000", ("hub", 60.0, 1 / 3000)),
        ("window of 20 s, 1 in 3000", ("window", 20.0, 1 / 3000)),
        ("histogram of 20 s, steps unknown", ("histogram", 20.0, 1 / 3000)),
        ("JackTrip `-q auto`", ("autoqueue", 0.0, 500)),
        ("JackTrip `--bufstrategy 3 -q auto`", ("regulator", 0.0, -1.0)),
    )
    return [
        (label, {r.trace: r for r in rows if (r.rule, r.memory_s, r.parameter) == key})
        for label, key in used
    ]


def _rarity(late: float) -> str:
    return "none" if late == 0 else f"1 in {round(1 / late)}"


def provenance_of(path: Path) -> dict[str, Any]:
    """When, of what and where a record was made."""
    found: dict[str, Any] = json.loads(path.read_text())["provenance"]
    return found


def markdown(rows: Sequence[Row], provenance: dict[str, Any]) -> str:
    """The page's table."""
    names = [name for name in dict.fromkeys(row.trace for row in rows) if name != ALL]
    lines = [f"Made {where(provenance)}:", ""]
    lines += ["| rule | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, found in choices(rows):
        cells = [f"{found[name].depth_ms:.1f} ms, {_rarity(found[name].late)}" for name in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def inserted(page: str, table: str) -> str:
    """A page with another table between its markers.

    Raises:
        ValueError: it has none.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table between {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def view(rows: Sequence[Row]) -> Table:
    """The same for the terminal."""
    names = list(dict.fromkeys(row.trace for row in rows))
    shown = Table(title="mean depth, ms, and late packets", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("rule", *names):
        shown.add_column(name)
    for label, found in choices(rows):
        cells = [f"{found[n].depth_ms:.1f}\n{_rarity(found[n].late)}" for n in names]
        shown.add_row(label.strip("*"), *cells)
    return shown


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=600.0, help="Of each trace that is made.")
@click.option("--seed", default=1, help="Of those traces.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/jitter-DATE.json]")  # fmt: skip
@click.option("--page/--no-page", default=True, help="Write the page's table and picture.")
def main(seconds: float, seed: int, output: Path | None, page: bool) -> None:
    """Compare rules for the depth of a jitter buffer."""
    os.environ.setdefault("MPLBACKEND", "agg")
    rows, made = measure(everyone(seconds, seed)), record.made_by(MODULE, seed=seed)
    Console(width=None if sys.stdout.isatty() else 140).print(view(rows))
    path = output or record.path_for(KIND)
    settings = {"seconds": seconds, "frames": FRAMES, "rate_hz": RATE_HZ}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(rows, settings, made))
    print(f"written to {path}")
    if page:
        draw(rows, PICTURE)
        PAGE.write_text(inserted(PAGE.read_text(), markdown(rows, made)))
        print(f"written to {PAGE} and {PICTURE}, {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
