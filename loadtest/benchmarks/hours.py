"""An hour with a client whose clock is off: does its queue stay what it is, without a click?

    python -m loadtest.benchmarks.hours
    python -m loadtest.benchmarks.hours --hours 24 --ppm 300 --no-page --output /tmp/day.json

The hub's own receiving kernels, with the mixer's reading, at synthetic times and so faster than
they pass; in processes of their own (``tests/kernels/hub_hours.py``), for this package never calls
the hub's code. The client plays a sine, packets come up to 1 ms late at random, and where it says
so the network holds all of them back for 40 ms once a minute. A click is a sample that is not
what the two before it foresee: were a single frame left out or played twice, by −23 dB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RATE_HZ, HourRow, Hours
from loadtest.benchmarks.render import insert, markdown, where

Doubles = npt.NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]
MODULE, HUB = "loadtest.benchmarks.hours", "tests.kernels.hub_hours"
PAGE = ROOT / "docs" / "networks.md"
BEGIN, END = "<!-- hours:begin -->", "<!-- hours:end -->"
FRAMES = 128
PPM = (50.0, 300.0)
QUEUES = ("4", "auto")
JITTER_MS, STALL_MS, STALL_EVERY_S = 1.0, 40.0, 60.0
LOCK_S = 30.0
"""Until a clock is followed and what it was off by before is worn off."""
AFTER_S = 2
"""Seconds that a stall explains, with the one in which it begins."""
FIGURES = (
    "deviation", "shortest", "longest", "margin", "following", "ratio", "starved", "late", "gaps",
    "overflows", "restarts",
)  # fmt: skip
"""Columns of what the hub's process returns."""
_OFFSET = 5000.0
_MS = RATE_HZ / 1e3


class HourError(RuntimeError):
    """The hub's kernels could not be run."""


def way(
    ppm: float, stalls: bool, seconds: float, seed: int
) -> tuple[Doubles, Doubles, npt.NDArray[np.int64]]:
    """When packets leave the client and when they come, (n,) hub frames; and the seconds in
    which a stall begins."""
    rng = np.random.default_rng([seed, 4])
    count = int(seconds * RATE_HZ / FRAMES)
    sent: Doubles = _OFFSET + np.arange(count, dtype=np.float64) * (FRAMES / (1 + ppm * 1e-6))
    came: Doubles = sent + rng.uniform(0, JITTER_MS * _MS, len(sent))
    starts = np.arange(STALL_EVERY_S * 0.75, seconds - 2 * AFTER_S, STALL_EVERY_S)
    starts = (starts + rng.uniform(-9, 9, len(starts))) if stalls else starts[:0]
    for start in starts * RATE_HZ:
        held = slice(*np.searchsorted(came, (start, start + STALL_MS * _MS)))
        came[held] = start + STALL_MS * _MS
    return sent, np.maximum.accumulate(came), starts.astype(np.int64)


def measure(ppm: float, queue: str, stalls: bool, seconds: float, seed: int) -> HourRow:
    """One client's hours.

    Raises:
        HourError: the hub's kernels could not be run.
    """
    sent, came, stalled = way(ppm, stalls, seconds, seed)
    with tempfile.TemporaryDirectory(prefix="tuttihub-hours-") as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, arrivals=came, sent=sent, ppm=ppm, rate_hz=RATE_HZ,
                 queue=0 if queue == "auto" else int(queue))  # fmt: skip
        try:
            subprocess.run(
                [sys.executable, "-m", HUB, str(given), str(found)], cwd=ROOT, check=True
            )
        except subprocess.CalledProcessError as error:
            raise HourError(f"{HUB} ended with {error.returncode}") from error
        with np.load(found) as made:
            end = {name: int(made[name]) for name in made.files if name != "seconds"}
            course = made["seconds"]
    return judged(ppm, queue, seconds, course, end, stalled)


def judged(
    ppm: float,
    queue: str,
    seconds: float,
    course: Doubles,
    end: dict[str, int],
    stalled: npt.NDArray[np.int64],
) -> HourRow:
    """What the seconds of one client's stay come to.

    Args:
        course: (s, len(FIGURES)), a row a second.
        end: its counters in the end.
        stalled: seconds in which a stall begins.
    """
    figure = dict(zip(FIGURES, course.T, strict=True))
    calm = np.ones(len(course), np.bool_)
    calm[-1] = False  # nothing comes after it
    for after in range(AFTER_S):
        calm[np.minimum(stalled + after, len(course) - 1)] = False
    whole = calm.copy()
    whole[0] = False  # it begins with a fade
    known = calm & (np.arange(len(course)) >= LOCK_S)
    grew = {
        name: np.diff(figure[name], prepend=0.0)
        for name in ("late", "gaps", "overflows", "restarts")
    }
    off_ppm = np.abs(1e6 * figure["ratio"][known] - ppm)
    return HourRow(
        ppm=ppm,
        queue=queue,
        stalls=len(stalled),
        hours=round(seconds / 3600, 3),
        packets=end["packets"],
        followed_s=int(np.argmax(figure["following"] > 0)),
        late=end["late"],
        late_calm=int(grew["late"][calm].sum()),
        gaps=int(figure["gaps"][-2]),
        gaps_calm=int(grew["gaps"][calm].sum()),
        skips=end["overflows"],
        restarts=end["restarts"],
        starved=int(figure["starved"].sum()),
        click_db=round(20 * float(np.log10(max(figure["deviation"][whole].max(), 1e-9))), 1),
        shortest_ms=round(float(figure["shortest"][known].min()) / _MS, 3),
        longest_ms=round(float(figure["longest"][known].max()) / _MS, 3),
        ratio_off_ppm=round(float(off_ppm.max()), 3),
    )


def table(rows: Sequence[HourRow]) -> Table:
    """A line a stay."""
    view = Table(box=box.SIMPLE, padding=(0, 0, 0, 1))
    for name in (
        "ppm", "-q", "stalls", "followed s", "packets", "late", "elsewhere", "gaps", "elsewhere",
        "skips", "anew", "starved", "click dB", "waits ms", "ratio off",
    ):  # fmt: skip
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        view.add_row(
            f"{row.ppm:+g}", row.queue, str(row.stalls), str(row.followed_s), str(row.packets),
            str(row.late), str(row.late_calm), str(row.gaps), str(row.gaps_calm), str(row.skips),
            str(row.restarts), str(row.starved), f"{row.click_db:.0f}",
            f"{row.shortest_ms:.2f} to {row.longest_ms:.2f}", f"{row.ratio_off_ppm:.2f}",
        )  # fmt: skip
    return view


def _groups(rows: Iterable[HourRow]) -> list[list[HourRow]]:
    """Rows that differ by the sign of the clock's error only."""
    found: dict[tuple[bool, float, str], list[HourRow]] = {}
    for row in rows:
        found.setdefault((row.stalls > 0, abs(row.ppm), row.queue), []).append(row)
    return [found[key] for key in sorted(found)]


def content(hours: Hours) -> str:
    """What stands between the page's markers."""
    head = [
        "network", "client's clock", "`-q`", "late packets", "gaps", "skips", "click",
        "a packet waits",
    ]  # fmt: skip
    body, groups = [], _groups(hours.rows)
    for rows in groups:
        one = rows[0]
        stalls = sum(row.stalls for row in rows)
        late, gaps = (
            f"{sum(counts)} ({sum(calm)})" if stalls else f"{sum(counts)}"
            for counts, calm in (
                ([row.late for row in rows], [row.late_calm for row in rows]),
                ([row.gaps for row in rows], [row.gaps_calm for row in rows]),
            )
        )
        body.append([
            f"1 ms of jitter, {stalls} stalls" if stalls else "1 ms of jitter",
            f"±{abs(one.ppm):g} ppm", one.queue, late, gaps,
            str(sum(row.skips + row.restarts + row.starved for row in rows)),
            f"{max(row.click_db for row in rows):.0f} dB".replace("-", "−"),
            f"{min(row.shortest_ms for row in rows):.1f} to "
            f"{max(row.longest_ms for row in rows):.1f} ms",
        ])  # fmt: skip
    hours_each = hours.rows[0].hours
    packets = sum(row.packets for row in groups[0])
    text = (
        f"Simulated {where(hours.provenance)}: {hours_each:g} h with a client that is so much "
        f"fast and {hours_each:g} h with one that is so much slow, {packets} packets a line. In "
        f"brackets: how many of them no stall explains (which are those until {AFTER_S} s after "
        f"one). "
        f"Click and times are of the rest; a click is the greatest deviation from the client's "
        f"sine, of which one frame too many would make −23 dB:"
    )
    return "\n\n".join([text, markdown(head, body, left=1)])


@click.command(context_settings={"show_default": True})
@click.option("--hours", default=1.0, help="Of each client.")
@click.option("--ppm", multiple=True, type=float, default=PPM,
              help="That clocks are off by; the last one without stalls, too.")  # fmt: skip
@click.option("--seed", default=1, help="Of all that is random.")
@click.option("--page/--no-page", "write_page", default=True, help="Write the page's table.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
              show_default="loadtest/results/hours-DATE.json")  # fmt: skip
def main(
    hours: float, ppm: tuple[float, ...], seed: int, write_page: bool, output: Path | None
) -> None:
    """Have clients stay for hours whose clocks are off."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[HourRow] = []
    made = record.made_by(MODULE, seed=seed)
    try:
        for stalls in (False, True):
            for off_by in ppm if stalls else ppm[-1:]:
                for queue in QUEUES:
                    for sign in (-1, 1):
                        rows.append(measure(sign * off_by, queue, stalls, 3600 * hours, seed))
                console.print(table(rows[-2 * len(QUEUES) :]))
    except HourError as error:
        raise click.ClickException(str(error)) from error
    found = Hours(made, {"hours": hours, "frames": FRAMES, "jitter_ms": JITTER_MS,
                         "stall_ms": STALL_MS, "stall_every_s": STALL_EVERY_S}, rows)  # fmt: skip
    path = output or record.path_for(record.HOURS)
    record.write(found, path)
    console.print(f"written to {path}")
    if write_page:
        PAGE.write_text(insert(PAGE.read_text(), content(found), BEGIN, END))
        console.print(f"table written to {PAGE.name}")


if __name__ == "__main__":
    main()
