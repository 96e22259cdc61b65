"""Where each millisecond goes, from one musician's JACK port to another's.

    python -m loadtest.benchmarks.latency --queues 2,auto --frames 128 --takes 3

Two real `jacktrip` clients, each on a `jackd -d dummy` of its own, as two musicians at home; a
hub between them, tuttihub or `jacktrip -S`; `-q` alike on both sides of each wire. One plays
noise, the other records it, and a sniffer on the loopback device sees the datagrams with the
kernel's times: so the way of every sample is known (``loadtest.benchmarks.stages``). All starts
anew for each take, since the phases of four clocks to each other make a period's difference.

It takes root (for the sniffer), and a machine that does nothing else.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RATE_HZ, Latency, LatencyRow, LatencyTake
from loadtest.benchmarks.stages import (
    STAGES,
    Containers,
    Signal,
    as_integers,
    containers,
    usual,
    ways,
)
from loadtest.commandline import Numbers
from loadtest.conduct import servers
from loadtest.conduct.control import ask_status
from loadtest.conduct.musicians import musician
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import Server, ServerError
from loadtest.conduct.sniffer import Sighting, Sniffer, SniffError
from loadtest.scenario.model import Hub
from shared.layout import PatchMode
from shared.protocol import HEADER_BYTES

MODULE = "loadtest.benchmarks.latency"
TUTTIHUB, JACKTRIP = "tuttihub", "jacktrip"
AUTO = "auto"
SETTLE_S = {AUTO: 30.0}
"""Automatic queues of clients move for the first 12 s; the hub forgets its start in 20 s."""
SETTLE_DEFAULT_S = 3.0
TAKES, SECONDS = 3, 3.0
_LEAST = 100
"""Containers heard without which a take says nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        queues: `-q` of the hub and of both clients.
        frames: periods, of all three JACK servers, or the hub and the clients'.
        hubs: which.
        takes: of each; seconds: of noise in each.
    """

    queues: tuple[str, ...] = ("1", "2", "4", AUTO)
    frames: tuple[int, ...] = (64, 128)
    hubs: tuple[str, ...] = (TUTTIHUB, JACKTRIP)
    takes: int = TAKES
    seconds: float = SECONDS


def measure(hub: str, frames: int, queue: str, settings: Settings) -> LatencyRow:
    """All takes of a configuration.

    Raises:
        SniffError: nothing can be measured on this machine.
    """
    takes, failed, version = [], [], ""
    for number in range(settings.takes):
        try:
            found, version = take(hub, frames, queue, settings.seconds, seed=number)
            takes.append(found)
        except ServerError as error:
            failed.append(str(error).splitlines()[0])
    return LatencyRow(hub, version, frames, queue, takes, failed)


def take(hub: str, frames: int, queue: str, seconds: float, seed: int) -> tuple[LatencyTake, str]:
    """One take, everything started for it; and the hub's version.

    Raises:
        ServerError: something did not start, or nothing was heard.
        SniffError: nothing can be measured on this machine.
    """
    plan = Hub(mode=PatchMode.FAN_OUT_NO_SELF, period=frames, rate_hz=RATE_HZ, queue=queue)
    signal = Signal(int(seconds * RATE_HZ) // frames * frames, seed)
    cpus = set(range(_cores()))
    start = servers.tuttihub if hub == TUTTIHUB else servers.jacktrip
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuttihub-load-")))
        server = stack.enter_context(start(plan, cpus=cpus))
        port = PORTS.take(2)
        player, listener = (
            stack.enter_context(
                musician(
                    folder, name, hub_port=server.port, udp_port=port + number, period=frames,
                    queue=queue,
                )
            )
            for number, name in enumerate(("player", "listener"))
        )  # fmt: skip
        time.sleep(SETTLE_S.get(queue, SETTLE_DEFAULT_S))
        # The listener begins before the player, and hears all the silence until then.
        ears = listener.listens(len(signal.integers) + RATE_HZ)
        mouth = player.plays(signal.played)
        with Sniffer(port, 2) as sniffer:
            for card in (ears, mouth):
                card.start()
            heard, played = (card.result(seconds + 30.0) for card in (ears, mouth))
        tick_ms = _tick_ms(server)
    points = _points(signal, frames, sniffer.seen, (port, port + 1), played, heard)
    found = ways(points, frames, RATE_HZ)
    if len(found) < _LEAST:
        raise ServerError(f"{hub}: only {len(found)} cycles of the noise were heard")
    return (
        _summed(found, tick_ms, len(points[-1]) * frames / len(signal.integers),
                int(played["xruns"] + heard["xruns"])),
        server.version,
    )  # fmt: skip


def _points(
    signal: Signal,
    frames: int,
    seen: Sequence[Sighting],
    ports: tuple[int, int],
    played: dict[str, npt.NDArray[Any]],
    heard: dict[str, npt.NDArray[Any]],
) -> list[Containers]:
    """The six points of the way, in order."""
    mouth = containers(played["positions"], played["times_ns"])

    def located(blocks: npt.NDArray[np.int16], times_ns: npt.NDArray[np.int64]) -> Containers:
        if not len(blocks):
            return containers([], [])
        places = signal.find(np.ascontiguousarray(blocks[:, :4]))
        unknown = np.flatnonzero(places < 0)
        # What was resampled on the way is not bit for bit what was played.
        newest = np.interp(times_ns[unknown], mouth.times_ns, mouth.firsts, left=-1)
        unknown, newest = unknown[newest >= 0], newest[newest >= 0]
        places[unknown] = signal.near(blocks[unknown], newest.astype(np.int64))
        return containers(places, times_ns)

    points = [mouth]
    for port, way in zip(ports, ("source", "target"), strict=True):
        for leaves in (True, False):
            these = [
                one for one in seen
                if one.leaves is leaves and getattr(one, way) == port
                and len(one.payload) == HEADER_BYTES + 2 * frames
            ]  # fmt: skip
            samples = [np.frombuffer(one.payload, "<i2", frames, HEADER_BYTES) for one in these]
            times_ns = np.array([one.at_ns for one in these], np.int64)
            points.append(located(np.array(samples, np.int16).reshape(-1, frames), times_ns))
    recorded = as_integers(heard["recorded"]).reshape(-1, frames)
    return [*points, located(recorded, heard["times_ns"])]


def _tick_ms(server: Server) -> float:
    """From a tick's time until its datagrams are out, by the hub's own mean; 0: it does not say."""
    status = ask_status(server.control)
    if status is None:
        return 0.0
    mixer = status["hub"]["mixer"]
    return float(mixer["lateness_us"]["mean"] + mixer["work_us"]["mean"]) / 1000


def _summed(
    found: npt.NDArray[np.float64], tick_ms: float, heard: float, xruns: int
) -> LatencyTake:
    stages = dict(zip(STAGES, (float(value) for value in usual(found)), strict=True))
    through = found[:, STAGES.index("hub")]
    totals = found.sum(axis=1)
    parts = {
        "sender": stages["sender"],
        "up": stages["up"],
        "buffer": stages["hub"] - tick_ms,
        "tick": tick_ms,
        "down": stages["down"],
        "client": stages["client"],
    }
    return LatencyTake(
        {name: round(value, 4) for name, value in parts.items()},
        round(sum(parts.values()), 4),
        round(float(np.percentile(totals, 99)), 4),
        round(float(np.percentile(through, 50)), 4),
        round(float(np.percentile(through, 99)), 4),
        round(min(1.0, heard), 4),
        xruns,
    )


def _cores() -> int:

    return os.cpu_count() or 1


def table(rows: Sequence[LatencyRow]) -> Table:
    """A line a configuration."""
    view = Table(title="JACK port to JACK port, ms", box=box.SIMPLE, padding=(0, 0, 0, 1))
    names = ("sender", "up", "buffer", "tick", "down", "client")
    for name in ("hub", "frames", "-q", "takes", *names, "sum", "p99", "in→out p50", "heard"):
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if not row.takes:
            view.add_row(row.hub, str(row.frames), row.queue, "0", *["–"] * 10)
            continue
        stages = row.stages_ms()
        view.add_row(
            row.hub, str(row.frames), row.queue, str(len(row.takes)),
            *(f"{stages[name]:.2f}" for name in names),
            f"{sum(stages.values()):.2f}", f"{row.median('port_p99_ms'):.2f}",
            f"{row.median('hub_p50_ms'):.2f}", f"{100 * row.median('heard'):.1f} %",
        )  # fmt: skip
    return view


def run(settings: Settings, console: Console) -> Latency:
    """Measure everything, telling how it goes.

    Raises:
        SniffError: nothing can be measured on this machine.
    """
    rows = []
    for frames in settings.frames:
        for queue in settings.queues:
            for hub in settings.hubs:
                rows.append(measure(hub, frames, queue, settings))
                console.print(table(rows[-1:]))
                for failed in rows[-1].failed:
                    console.print(f"  failed: {failed}", highlight=False)
    return Latency(record.made_by(MODULE, realtime=True), asdict(settings), rows)


def merged(old: Latency, new: Latency) -> Latency:
    """The new rows, and those of the old that are of other configurations, in order.

    The provenance says where the latter come from.
    """
    rows = {(row.frames, row.queue, row.hub): row for row in (*old.rows, *new.rows)}
    queues = {queue: number for number, queue in enumerate(Settings().queues)}

    def place(key: tuple[int, str, str]) -> tuple[int, int, bool]:
        frames, queue, hub = key
        return frames, queues.get(queue, len(queues)), hub != TUTTIHUB

    history = old.provenance.get("added_to", [])
    before = {name: old.provenance.get(name) for name in ("date", "command", "commit")}
    provenance = new.provenance | {"added_to": [*history, before]}
    return Latency(provenance, new.settings, [rows[key] for key in sorted(rows, key=place)])


@click.command(context_settings={"show_default": True})
@click.option("--queues", default="1,2,4,auto", help="Of hub and clients.")
@click.option("--frames", type=Numbers(16, 1024), default="64,128", help="Periods.")
@click.option("--hubs", default=f"{TUTTIHUB},{JACKTRIP}", help="Which.")
@click.option("--takes", type=click.IntRange(1, 100), default=TAKES)
@click.option("--seconds", type=click.FloatRange(1, 60), default=SECONDS,
              help="Of noise, each take.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
              show_default="loadtest/results/latency-DATE.json")  # fmt: skip
@click.option("--add", is_flag=True, help="Keep what is there of what is not measured now.")
def main(
    queues: str,
    frames: tuple[int, ...],
    hubs: str,
    takes: int,
    seconds: float,
    output: Path | None,
    add: bool,
) -> None:
    """Measure where each millisecond goes between two musicians."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = Settings(
        tuple(queues.split(",")), tuple(frames), tuple(hubs.split(",")), takes, seconds
    )
    try:
        found = run(settings, console)
    except SniffError as error:
        raise click.ClickException(str(error)) from error
    path = output or record.path_for(record.LATENCY)
    if add and path.exists():
        found = merged(record.read(Latency, path), found)
    console.print(table(found.rows))
    record.write(found, path)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
