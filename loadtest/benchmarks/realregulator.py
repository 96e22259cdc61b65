"""What the real JackTrip client makes of losses, beside the hub's concealment of the same ones.

    python -m loadtest.benchmarks.realregulator
    python -m loadtest.benchmarks.realregulator --without speech,vowels --queue 8

A real `jacktrip -C --bufstrategy 3` on a `jackd -d dummy` is fed by ``loadtest.benchmarks.feeder``
with the materials and losses of ``loadtest.benchmarks.concealment``, one after the other; a sound
card records its JACK port, one block a cycle. Real packets come out bit by bit, so that each block
is known, or known to be made up. What the machine disturbs is not judged: gaps near a late
cycle, or near a block made up although no packet was lost. The hub's own code, and the model
of the client, are judged by the very gaps that remain.

At a gap the client's queue often slips: what follows is heard earlier or later than before, and
before it predicts anything it repeats a packet. Its figures are the best of up to three: in time
with what was before, with the repetition, or with what comes after.

All of the client's threads run in real time, below JACK's, lest other programs count against it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import concealment, flaws, materials, record
from loadtest.benchmarks.concealment import (
    FRAMES,
    PATTERNS,
    WAYS,
    BenchmarkError,
    Concealed,
    Lost,
    Row,
    Sound,
    average,
    select,
    signed,
)
from loadtest.benchmarks.render import where
from loadtest.conduct import servers
from loadtest.conduct.musicians import musician
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import ServerError

KIND = "regulator"
MODULE = "loadtest.benchmarks.realregulator"
BEGIN, END = "<!-- regulator:begin -->", "<!-- regulator:end -->"
CLIENT = "client"
OURS = ("burg", "burg-bridging", "regulator-1.7.0")
TITLES = {name: WAYS[name].title for name in OURS}
DRAWS = {1: 2, 5: 1, 20: 1}
"""Fewer than offline: this takes the time that it takes to hear."""
QUEUE = "30"
"""Milliseconds: more than this machine's other programs hold anybody up."""
LEAD_S, PAUSE_S, TAIL_S = 6.0, 0.3, 1.0
NOISE_RMS = 0.05
EXACT = 3.0 / 32768
"""What a packet that is passed on may differ by: it is rounded twice."""
REACH = 40
"""Packets that its queue may slip by at once."""
AFTERMATH = 24
"""Packets within which a made up block is a loss's doing."""
LATE = 1.5
"""Periods between two cycles of JACK from which on the machine is at fault."""
PRIORITY = "4"
WINDOW = 4096
"""Frames around a gap that are looked at."""

Blocks = npt.NDArray[np.float64]
Packets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draw:
    """A material with its losses, and which packet of the whole run is its first."""

    material: str
    percent: int
    pattern: str
    sound: Sound
    lost: Lost
    first: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap that may be judged, and what was heard there.

    Attributes:
        first, last: packets of the draw, one beyond.
        heard: with WINDOW frames on each side, once for each alignment.
        slipped: packets by which what follows is too early; negative: too late.
    """

    first: int
    last: int
    heard: tuple[Sound, ...]
    slipped: int


def programme(kind: str, seconds: float) -> tuple[Sound, Lost, list[Draw]]:
    """All draws of a material in a row, noise without losses before, between and after."""
    rng = np.random.default_rng(len(kind))
    sound = materials.make(kind)
    packets = int(seconds * materials.RATE_HZ) // FRAMES
    sound = sound[: packets * FRAMES]

    def calm(length_s: float) -> tuple[Sound, Lost]:
        count = int(length_s * materials.RATE_HZ) // FRAMES
        return rng.normal(0, NOISE_RMS, count * FRAMES), np.zeros(count, bool)

    parts, draws = [calm(LEAD_S)], []
    for percent, count in DRAWS.items():
        for pattern in PATTERNS:
            for number in range(count):
                lost = concealment.losses(percent, pattern, packets, number)
                first = sum(len(each) for _, each in parts)
                draws.append(Draw(kind, percent, pattern, sound, lost, first))
                parts += [(sound, lost), calm(PAUSE_S)]
    parts.append(calm(TAIL_S))
    return (
        np.concatenate([each for each, _ in parts]),
        np.concatenate([each for _, each in parts]),
        draws,
    )


def record_client(sound: Sound, lost: Lost, queue: str) -> tuple[Blocks, npt.NDArray[np.int64]]:
    """What the client plays, (cycles, FRAMES), and when JACK called for it.

    Raises:
        ServerError: something is missing, or did not start.
    """
    packets = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    cpus = range(os.cpu_count() or 1)
    realtime = ("chrt", "-f", PRIORITY) if os.geteuid() == 0 and shutil.which("chrt") else ()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuttihub-load-")))
        log = folder / "feeder.log"
        log.write_bytes(b"")
        np.save(folder / "sound.npy", packets)
        np.save(folder / "lost.npy", lost)
        port, udp = PORTS.take(), PORTS.take(2)
        feeder = stack.enter_context(
            servers.running(
                [
                    sys.executable, "-m", "loadtest.benchmarks.feeder", "--port", str(port),
                    "--udp-port", str(udp), "--frames", str(FRAMES),
                    str(folder / "sound.npy"), str(folder / "lost.npy"),
                ],
                cpus, log,
            )
        )  # fmt: skip
        servers.wait_ready(feeder, log, lambda: "ready" in log.read_text(), servers.JACK_START_S)
        client = stack.enter_context(
            musician(
                folder, "client", hub_port=port, udp_port=udp + 1, period=FRAMES, queue=queue,
                options=("--bufstrategy", "3"), before=realtime,
            )
        )  # fmt: skip
        card = client.listens(len(packets))
        card.start()
        found = card.result(len(packets) / materials.RATE_HZ + 30.0)
    return found["recorded"].reshape(-1, FRAMES).astype(np.float64), found["times_ns"]


def identified(blocks: Blocks, packets: Blocks) -> Packets:
    """Which packet each block is; −1: none, it was made up, or is silence.

    A packet is looked for where the last one that was found says, first.
    """
    found = np.full(len(blocks), -1, np.int64)
    ahead: int | None = None
    for number, block in enumerate(blocks):
        if ahead is None:
            if not block.any():
                continue
            away = np.abs(packets - block).max(axis=1)
            best = int(away.argmin())
            if away[best] < EXACT:
                found[number], ahead = best, best - number
            continue
        for slip in sorted(range(-REACH, REACH + 1), key=abs):
            packet = number + ahead + slip
            if 0 <= packet < len(packets) and np.abs(packets[packet] - block).max() < EXACT:
                found[number], ahead = packet, ahead + slip
                break
    return found


def disturbed(found: Packets, lost: Lost, times_ns: npt.NDArray[np.int64]) -> Lost:
    """Which packets are near something that is no loss's doing."""
    ahead = found - np.arange(len(found))
    known = np.flatnonzero(found >= 0)
    if not len(known):
        return np.ones(len(lost), bool)
    # the packet that each block would be, by the last that is known
    latest = known[np.clip(np.searchsorted(known, np.arange(len(found)), "right") - 1, 0, None)]
    due = np.clip(np.arange(len(found)) + ahead[latest], 0, len(lost) - 1)
    odd = found < 0
    odd[known[1:]] |= np.diff(ahead[known]) != 0
    since = np.convolve(lost, np.ones(AFTERMATH))[: len(lost)] > 0
    since |= np.roll(lost, -1) | np.roll(lost, -2)
    fault = odd & ~since[due]
    fault[: known[0]] = False
    period_ns = 1e9 * FRAMES / materials.RATE_HZ
    fault[1:] |= np.diff(times_ns) > LATE * period_ns
    near = np.zeros(len(lost), bool)
    for packet in due[fault]:
        near[max(packet - AFTERMATH, 0) : packet + AFTERMATH] = True
    near[: due[known[0]]] = True
    return near


def gaps(draw: Draw, blocks: Blocks, found: Packets, near: Lost) -> tuple[list[Gap], int]:
    """The gaps of a draw that may be judged, and how many may not."""
    judged, left_out = [], 0
    flat = blocks.ravel()
    for first, last in flaws.gaps_of(draw.lost):
        start, end = draw.first + first, draw.first + last
        before = np.flatnonzero((found >= start - AFTERMATH) & (found < start))
        # the packet after the gap is what the way back is made of
        after = np.flatnonzero((found > end) & (found <= end + AFTERMATH))
        if near[start - 1 : end + 1].any() or not len(before):
            left_out += 1
            continue
        # The client may repeat the last packet: its first time is in time, its second is late.
        newest = before[found[before].argmax()]
        ahead = int(found[newest] - newest)
        repeated = int(found[before[-1]] - before[-1])
        ahead_after = int(found[after[0]] - after[0]) if len(after) else ahead
        heard = []
        for each in dict.fromkeys((ahead, repeated, ahead_after)):
            at = (start - each) * FRAMES
            part = flat[max(at - WINDOW, 0) : at + (last - first) * FRAMES + WINDOW]
            heard.append(np.pad(part, (max(WINDOW - at, 0), 0)))
        judged.append(Gap(first, last, tuple(heard), ahead_after - ahead))
    return judged, left_out


def _best(draw: Draw, gap: Gap) -> tuple[float, float, float] | None:
    """Figures of a gap as the client filled it, in the best of the alignments."""
    start, end = gap.first * FRAMES, gap.last * FRAMES
    sound = np.pad(draw.sound, WINDOW)[start : end + 2 * WINDOW]
    each = [
        flaws.of_gap(sound, heard, WINDOW, WINDOW + end - start, FRAMES)
        for heard in gap.heard if len(heard) == len(sound)
    ]  # fmt: skip
    return max((one for one in each if one is not None), default=None)


@dataclass(slots=True)
class Found:
    """Figures of all gaps of a kind, by way; and what was not judged."""

    by_way: dict[str, list[tuple[float, float, float]]]
    slipped: int = 0
    left_out: int = 0


def measure(kind: str, seconds: float, queue: str) -> tuple[list[Row], list[dict[str, int | str]]]:
    """Rows of one material, and of each kind of loss how many gaps slipped or were left out.

    Raises:
        materials.MaterialError: it cannot be made here.
        ServerError: something did not start.
        BenchmarkError: nothing was heard, or the hub's player died.
    """
    sound, lost, draws = programme(kind, seconds)
    blocks, times_ns = record_client(sound, lost, queue)
    found = identified(blocks, sound.reshape(-1, FRAMES))
    near = disturbed(found, lost, times_ns)
    all_found: dict[tuple[int, str], Found] = {}
    with concealment.player() as process:
        for draw in draws:
            mine = all_found.setdefault(
                (draw.percent, draw.pattern), Found({name: [] for name in (*OURS, CLIENT)})
            )
            judged, left_out = gaps(draw, blocks, found, near)
            mine.left_out += left_out
            ours = {
                name: concealment.heard(WAYS[name], draw.sound, draw.lost, process) for name in OURS
            }
            for gap in judged:
                its = _best(draw, gap)
                if its is None:
                    continue  # silence
                mine.by_way[CLIENT].append(its)
                mine.slipped += gap.slipped != 0
                for name, heard in ours.items():
                    each = flaws.of_gap(
                        draw.sound, heard, gap.first * FRAMES, gap.last * FRAMES, FRAMES
                    )
                    assert each is not None
                    mine.by_way[name].append(each)
    rows: list[Row] = []
    trouble: list[dict[str, int | str]] = []
    for (percent, pattern), each_found in all_found.items():
        trouble.append(
            {"material": kind, "percent": percent, "pattern": pattern,
             "slipped": each_found.slipped, "left_out": each_found.left_out}
        )  # fmt: skip
        for name, figures in each_found.by_way.items():
            if not figures:
                raise BenchmarkError(f"{kind}, {percent} % {pattern}: no gap could be judged")
            mean = flaws.mean(figures)
            rows.append(
                Row(name, kind, percent, pattern, mean.gaps, round(mean.snr_db, 2),
                    round(mean.lsd_db, 2), round(mean.click_db, 1))
            )  # fmt: skip
    return rows, trouble


def title(way: str, queue: str) -> str:
    """Of a way, in tables."""
    return TITLES.get(way, f"**JackTrip 1.7.0 itself**, `--bufstrategy 3 -q {queue}`")


def _cell(rows: Sequence[Row], way: str, percent: int, pattern: str) -> str:
    chosen = select(rows, way=way, percent=percent, pattern=pattern)
    figures = (average(chosen, name) for name in ("snr_db", "lsd_db", "click_db"))
    return " / ".join(signed(each) for each in figures)


def table(rows: Sequence[Row], queue: str) -> Table:
    """Means over all materials, for the terminal."""
    view = Table(title="the real client: SNR / distance / clicks, dB", box=box.SIMPLE)
    view.add_column("way")
    for percent in DRAWS:
        for pattern in PATTERNS:
            view.add_column(f"{percent} % {pattern}", justify="right")
    for way in (*OURS, CLIENT):
        cells = [_cell(rows, way, p, q) for p in DRAWS for q in PATTERNS]
        view.add_row(title(way, queue), *cells)
    return view


def behind(rows: Sequence[Row]) -> list[str]:
    """Where ours is not ahead of the client, in the mean over the materials; a line each."""
    found = []
    for way in ("burg", "burg-bridging"):
        for percent in DRAWS:
            for pattern in PATTERNS:
                for figure, sign in (("snr_db", 1), ("lsd_db", -1), ("click_db", -1)):
                    ours, its = (
                        average(select(rows, way=each, percent=percent, pattern=pattern), figure)
                        for each in (way, CLIENT)
                    )
                    if sign * (ours - its) < 0:
                        found.append(
                            f"{way} {ours:.1f}, client {its:.1f}: {percent} % {pattern}, {figure}"
                        )
    return found


def markdown(made: Concealed) -> str:
    """The tables of a file."""
    rows, settings = made.rows, made.settings
    queue = str(settings["queue"])
    kinds = list(dict.fromkeys(row.material for row in rows))
    gaps_judged = sum(row.gaps for row in select(rows, way=CLIENT))
    slipped = sum(int(each["slipped"]) for each in settings["trouble"])
    left_out = sum(int(each["left_out"]) for each in settings["trouble"])
    bursts = [each for each in settings["trouble"] if each["pattern"] == "bursts"]
    share = sum(int(e["slipped"]) for e in bursts) / sum(
        row.gaps for row in select(rows, way=CLIENT, pattern="bursts")
    )
    parts = [
        f"Made {where(made.provenance)}: packets of {FRAMES} frames at 48 kHz, "
        f"{settings['seconds']:g} s of each material for each draw of losses; "
        f"the same {gaps_judged} gaps for each line. In "
        f"{slipped} of them the client's queue slipped, in {100 * share:.0f} % of the bursts; "
        f"{left_out} more were near something that no loss had caused, and are not judged.",
        "Means over all materials: SNR / log-spectral distance / clicks, dB.",
        concealment.grid(
            "concealment",
            [f"{p} % {q}" for p in DRAWS for q in PATTERNS],
            [
                (title(way, queue), [_cell(rows, way, p, q) for p in DRAWS for q in PATTERNS])
                for way in (*OURS, CLIENT)
            ],
        ),
        "By material, one packet at a time: SNR / log-spectral distance / clicks, dB.",
    ]
    for pattern in PATTERNS:
        if pattern != PATTERNS[0]:
            parts.append(f"By material, bursts of 1–{concealment.BURST}:")
        lines = []
        for percent in DRAWS:
            for way in ("burg-bridging", CLIENT):
                chosen = select(rows, way=way, percent=percent, pattern=pattern)
                cells = [_cell([row], way, percent, pattern) for row in chosen]
                name = "tuttihub, `-q 4`" if way != CLIENT else "JackTrip 1.7.0"
                lines.append((f"{percent} %: {name}", cells))
        parts.append(concealment.grid("loss", kinds, lines))
    return "\n\n".join(parts)


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=materials.SECONDS, help="Of each material, at most that.")
@click.option("--without", default="", help="Materials to leave out, by comma.  [default: none]")
@click.option("--queue", default=QUEUE, help="Of the client: milliseconds, or 'auto'.")
@click.option("--page/--no-page", "write_page", default=True, help="Write the page's tables.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/regulator-DATE.json]")  # fmt: skip
def main(seconds: float, without: str, queue: str, write_page: bool, output: Path | None) -> None:
    """Let a real client conceal losses, and compare what it plays with what the hub would."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    left_out = set(filter(None, without.split(",")))
    for name in left_out - set(materials.MAKERS):
        raise click.BadParameter(f"{name!r} is none of {', '.join(materials.MAKERS)}")
    rows: list[Row] = []
    trouble: list[dict[str, int | str]] = []
    try:
        for kind in (each for each in materials.MAKERS if each not in left_out):
            found, its_trouble = measure(kind, min(seconds, materials.SECONDS), queue)
            rows += found
            trouble += its_trouble
            console.print(
                f"{kind}: {sum(row.gaps for row in select(found, way=CLIENT))} gaps, "
                f"{sum(int(each['slipped']) for each in its_trouble)} slipped, "
                f"{sum(int(each['left_out']) for each in its_trouble)} not judged"
            )
    except (materials.MaterialError, BenchmarkError, ServerError) as error:
        raise click.ClickException(str(error)) from error
    console.print(table(rows, queue))
    console.print("\n".join(behind(rows)) or "the hub is ahead in every mean", highlight=False)
    settings = {"seconds": seconds, "frames": FRAMES, "queue": queue, "draws": DRAWS,
                "trouble": trouble}  # fmt: skip
    made = Concealed(record.made_by(MODULE, realtime=True), settings, rows, kind=KIND)
    path = output or record.path_for(KIND)
    path.write_text(concealment.to_text(made))
    console.print(f"written to {path}")
    page = concealment.PAGE
    if write_page and page.exists():
        page.write_text(concealment.insert(page.read_text(), markdown(made), BEGIN, END))
        console.print(f"tables written to {page.name}")


if __name__ == "__main__":
    main()
