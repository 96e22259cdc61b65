"""How lost packets sound: the hub's concealment beside JackTrip's, offline, as a table.

    python -m loadtest.benchmarks.concealment
    python -m loadtest.benchmarks.concealment --without speech,vowels --seconds 2

Packets of known sounds are dropped, one at a time or in bursts; what each way of concealment
makes of it is compared with what was sent (``flaws``). The hub's own is computed by its
kernels in a process of their own (``tests/kernels/conceal_losses.py``, for this package never
calls the hub's code); JackTrip's by a model of the documented behaviour (``regulator``).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import materials, record, regulator
from loadtest.benchmarks.flaws import Flaws, judge
from loadtest.benchmarks.render import where
from shared.limits import Underrun

ROOT = Path(__file__).resolve().parents[2]
KIND = "concealment"
MODULE = "loadtest.benchmarks.concealment"
PLAYER = "tests.kernels.conceal_losses"
PAGE = ROOT / "docs" / "concealment.md"
BEGIN, END = "<!-- concealment:begin -->", "<!-- concealment:end -->"

FRAMES = 128
LATER_PACKETS = 3
"""There when one is due, with ``-q 4``."""
DRAWS = {1: 8, 5: 3, 20: 1}
"""Patterns drawn for each percentage of loss: the rarer, the more."""
BURST = 8
"""Packets of the longest burst."""
SPARED = 12
"""Packets before the first loss: a model needs a past."""

Sound = npt.NDArray[np.float64]
Lost = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Way:
    """A way of concealment.

    Attributes:
        title: in tables.
        method, ahead: of the hub's; JackTrip's have a version of the Regulator, or none for
            the default buffer.
    """

    title: str
    method: Underrun | None = None
    ahead: int = 0
    version: regulator.Version | None = None


WAYS = {
    "zero": Way("zero", Underrun.ZERO),
    "wavetable": Way("wavetable", Underrun.WAVETABLE),
    "burg": Way("Burg, nothing queued", Underrun.BURG),
    "burg-bridging": Way("Burg, bridging (`-q 4`)", Underrun.BURG, LATER_PACKETS),
    "jacktrip-default": Way("JackTrip's default buffer (model)"),
    "regulator-1.7.0": Way("Regulator 1.7.0 (model)", version=regulator.VERSIONS["1.7.0"]),
    "regulator-2.7.2": Way("Regulator 2.7.2 (model)", version=regulator.VERSIONS["2.7.2"]),
}
PATTERNS = ("single", "bursts")


class BenchmarkError(RuntimeError):
    """The comparison cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way with one material and one kind of loss.

    Attributes:
        way, material, percent, pattern: which.
        gaps, snr_db, lsd_db, click_db: see ``flaws``.
    """

    way: str
    material: str
    percent: int
    pattern: str
    gaps: int
    snr_db: float
    lsd_db: float
    click_db: float


@dataclass(frozen=True, slots=True)
class Concealed:
    """A file of them."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row]
    schema: int = record.SCHEMA
    kind: str = KIND


def losses(percent: int, pattern: str, packets: int, seed: int) -> Lost:
    """Which packets are lost: about so many, one at a time or in bursts of 1..BURST.

    Packets come between two gaps, at least one; the last few come, too.
    """
    rng = np.random.default_rng([percent, PATTERNS.index(pattern), seed])
    lost = np.zeros(packets, bool)
    size = 1.0 if pattern == "single" else (1 + BURST) / 2
    between = size * (100 - percent) / percent
    at = SPARED + int(rng.uniform(0, between))
    while True:
        burst = 1 if pattern == "single" else int(rng.integers(1, BURST + 1))
        if at + burst + SPARED > packets:
            return lost
        lost[at : at + burst] = True
        at += burst + 1 + int(rng.geometric(1 / between) - 1 if between > 1 else 0)


@contextmanager
def player() -> Iterator[subprocess.Popen[bytes]]:
    """The process that plays with the hub's kernels.

    Raises:
        BenchmarkError: it is not there.
    """
    if not (ROOT / (PLAYER.replace(".", "/") + ".py")).exists():
        raise BenchmarkError(f"{PLAYER}: is not there; the hub's code is heard from a checkout")
    process = subprocess.Popen(
        [sys.executable, "-m", PLAYER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(60)


def heard(way: Way, sound: Sound, lost: Lost, process: subprocess.Popen[bytes]) -> Sound:
    """What a way makes of a loss.

    Raises:
        BenchmarkError: the player has died.
    """
    if way.version is not None:
        return regulator.regulated(sound, lost, FRAMES, way.version)
    if way.method is None:
        return regulator.zeroed(sound, lost, FRAMES)
    try:
        return _played(way, sound, lost, process.stdin, process.stdout)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{PLAYER} has ended: {error}") from error


def _played(way: Way, sound: Sound, lost: Lost, sink: Any, source: Any) -> Sound:
    assert way.method is not None
    for each in (np.array([int(way.method), way.ahead]), sound.astype(np.float32), lost):
        send(sink, each)
    answer = receive(source)
    if answer is None:
        raise ValueError("no answer")
    return np.asarray(answer, np.float64)


def send(sink: BinaryIO, array: npt.NDArray[Any]) -> None:
    """Write an array into a pipe: how many bytes, and those."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    sink.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
    sink.flush()


def receive(source: BinaryIO) -> npt.NDArray[Any] | None:
    """Read an array from a pipe; None at its end."""
    head = source.read(8)
    if not head:
        return None
    return np.asarray(np.load(io.BytesIO(source.read(int.from_bytes(head, "little")))))


def measure(kinds: Sequence[str], ways: Sequence[str], seconds: float) -> Iterator[Row]:
    """All rows of some materials, in the order of the arguments.

    Raises:
        materials.MaterialError: one cannot be made here.
        BenchmarkError: see ``player`` and ``heard``.
    """
    packets = int(seconds * materials.RATE_HZ) // FRAMES
    with player() as process:
        for kind in kinds:
            sound = materials.make(kind)[: packets * FRAMES]
            for percent, draws in DRAWS.items():
                for pattern in PATTERNS:
                    drawn = [losses(percent, pattern, packets, n) for n in range(draws)]
                    drawn = [lost for lost in drawn if lost.any()]
                    for name in ways:
                        found = [
                            judge(sound, heard(WAYS[name], sound, lost, process), lost, FRAMES)
                            for lost in drawn
                        ]
                        yield _row(name, kind, percent, pattern, [f for f in found if f])


def _row(way: str, material: str, percent: int, pattern: str, found: Sequence[Flaws]) -> Row:
    """Mean of several draws, each gap counting alike."""
    if not found:
        raise BenchmarkError(f"{material}: no sound where {percent} % are lost: try more seconds")
    gaps = np.array([each.gaps for each in found])
    share = gaps / gaps.sum()
    click = sum(10 ** (each.click_db / 10) * s for each, s in zip(found, share))
    return Row(
        way, material, percent, pattern, int(gaps.sum()),
        round(float(sum(each.snr_db * s for each, s in zip(found, share))), 2),
        round(float(sum(each.lsd_db * s for each, s in zip(found, share))), 2),
        round(float(10 * np.log10(click)), 1),
    )  # fmt: skip


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Rows whose fields are these."""
    return [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]


def average(rows: Sequence[Row], figure: str) -> float:
    """Mean of a figure over rows; every material counts alike."""
    return float(np.mean([getattr(row, figure) for row in rows]))


def behind(rows: Sequence[Row]) -> list[str]:
    """Where Burg is not ahead of the Regulator, a line each; in the mean, and row by row."""
    found = []
    theirs = [way for way in WAYS if way.startswith("regulator") and select(rows, way=way)]
    for ours in ("burg", "burg-bridging"):
        for other in theirs:
            for percent in DRAWS:
                for pattern in PATTERNS:
                    mine = select(rows, way=ours, percent=percent, pattern=pattern)
                    its = select(rows, way=other, percent=percent, pattern=pattern)
                    for figure, sign in (("snr_db", 1), ("lsd_db", -1), ("click_db", -1)):
                        if not mine or not its:
                            continue
                        place = f"{percent} % {pattern}, {figure}"
                        a, b = average(mine, figure), average(its, figure)
                        if sign * (a - b) < 0:
                            found.append(f"MEAN {ours} {a:.1f}, {other} {b:.1f}: {place}")
                        for one, two in zip(mine, its):
                            a, b = getattr(one, figure), getattr(two, figure)
                            if sign * (a - b) < 0:
                                found.append(
                                    f"{ours} {a:.1f}, {other} {b:.1f}: {one.material}, {place}"
                                )
    return found


def table(rows: Sequence[Row]) -> Table:
    """Means over all materials, for the terminal."""
    view = Table(title="concealment: SNR / distance / clicks, dB", box=box.SIMPLE)
    view.add_column("way")
    for percent in DRAWS:
        for pattern in PATTERNS:
            view.add_column(f"{percent} % {pattern}", justify="right")
    for name, way in WAYS.items():
        if select(rows, way=name):
            view.add_row(way.title, *(_cell(rows, name, p, q) for p in DRAWS for q in PATTERNS))
    return view


def _cell(rows: Sequence[Row], way: str, percent: int, pattern: str) -> str:
    chosen = select(rows, way=way, percent=percent, pattern=pattern)
    figures = (average(chosen, name) for name in ("snr_db", "lsd_db", "click_db"))
    return " / ".join(signed(each) for each in figures)


def signed(value: float) -> str:
    """A figure with one decimal and a minus sign that is one."""
    return f"{value:.1f}".replace("-", "−")


def markdown(made: Concealed) -> str:
    """All tables of a file."""
    rows, settings = made.rows, made.settings
    parts = [
        f"Made {where(made.provenance)}: packets of {FRAMES} frames at 48 kHz, "
        f"{settings['seconds']:g} s of each material, "
        f"{sum(row.gaps for row in select(rows, way='burg'))} gaps for each way of concealment.",
        "Means over all materials: SNR / log-spectral distance / clicks, dB. More SNR, less of "
        "the others is better.",
        grid(
            "concealment",
            [f"{p} % {q}" for p in DRAWS for q in PATTERNS],
            [
                (way.title, [_cell(rows, name, p, q) for p in DRAWS for q in PATTERNS])
                for name, way in WAYS.items()
                if select(rows, way=name)
            ],
        ),
    ]
    kinds = list(dict.fromkeys(row.material for row in rows))
    for figure, title in (
        ("snr_db", "SNR over the gaps, dB"),
        ("lsd_db", "Log-spectral distance, dB"),
        ("click_db", "Clicks at the seams, dB"),
    ):
        for pattern in PATTERNS:
            lines = []
            for percent in DRAWS:
                for name, way in WAYS.items():
                    chosen = select(rows, way=name, percent=percent, pattern=pattern)
                    cells = [signed(getattr(row, figure)) for row in chosen]
                    if chosen:
                        mean = f"**{signed(average(chosen, figure))}**"
                        lines.append((f"{percent} %: {way.title}", [*cells, mean]))
            losses_are = "one packet at a time" if pattern == "single" else f"bursts of 1–{BURST}"
            parts += [f"{title}, {losses_are}:", grid("loss", [*kinds, "mean"], lines)]
    return "\n\n".join(parts)


def grid(corner: str, heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of a page."""
    out = [f"| {corner} | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    return "\n".join([*out, *(f"| {name} | {' | '.join(cells)} |" for name, cells in lines)])


def insert(text: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with other content between two markers.

    Raises:
        BenchmarkError: they are not there, once each.
    """
    if text.count(begin) != 1 or text.count(end) != 1:
        raise BenchmarkError(f"{PAGE.name}: {begin} and {end} must be there, once each")
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    return f"{head}{begin}\n{content}\n{end}{tail}"


def read(path: Path) -> Concealed:
    """Read a file.

    Raises:
        BenchmarkError: it is none.
    """
    try:
        plain = json.loads(path.read_text())
        rows = [Row(**row) for row in plain["rows"]]
        return Concealed(plain["provenance"], plain["settings"], rows, kind=plain["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path}: {error}") from error


def to_text(made: Concealed) -> str:
    """As JSON, a line a row."""
    rows = ",\n  ".join(json.dumps(asdict(row)) for row in made.rows)
    head = {"schema": made.schema, "kind": made.kind, "provenance": made.provenance,
            "settings": made.settings}  # fmt: skip
    members = [f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in head.items()]
    return "{\n" + ",\n".join(members) + f',\n "rows": [\n  {rows}\n ]\n}}\n'


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=materials.SECONDS, help="Of each material, at most that.")
@click.option("--without", default="", help="Materials to leave out, by comma.  [default: none]")
@click.option("--ways", default=",".join(WAYS), help="Which, by comma.", show_default="all")
@click.option("--page/--no-page", "write_page", default=True, help="Write the page's tables.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/concealment-DATE.json]")  # fmt: skip
def main(seconds: float, without: str, ways: str, write_page: bool, output: Path | None) -> None:
    """Compare ways of concealment by what they make of the same losses."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    left_out = set(filter(None, without.split(",")))
    chosen = list(filter(None, ways.split(",")))
    for name in [*(left_out - set(materials.MAKERS)), *(set(chosen) - set(WAYS))]:
        raise click.BadParameter(f"{name!r} is none of {', '.join([*materials.MAKERS, *WAYS])}")
    kinds = [kind for kind in materials.MAKERS if kind not in left_out]
    rows = []
    try:
        for row in measure(kinds, chosen, min(seconds, materials.SECONDS)):
            rows.append(row)
            if row.way == chosen[-1]:
                console.print(f"{row.material}, {row.percent} % {row.pattern}: {row.gaps} gaps")
    except (materials.MaterialError, BenchmarkError) as error:
        raise click.ClickException(str(error)) from error
    console.print(table(rows))
    console.print("\n".join(behind(rows)) or "Burg is ahead everywhere", highlight=False)
    made = Concealed(
        record.made_by(MODULE), {"seconds": seconds, "frames": FRAMES, "draws": DRAWS}, rows
    )
    path = output or record.path_for(KIND)
    path.write_text(to_text(made))
    console.print(f"written to {path}")
    if write_page and PAGE.exists():
        PAGE.write_text(insert(PAGE.read_text(), markdown(made)))
        console.print(f"tables written to {os.path.relpath(PAGE, ROOT)}")


if __name__ == "__main__":
    main()
