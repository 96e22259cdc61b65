"""What ``--match-clients`` is worth: real clients whose clocks are off, with it and without.

    python -m loadtest.benchmarks.clocks --seconds 120

Each client has a `jackd -d dummy` at a rate of its own, which JackTrip presents as 48 kHz as long
as it is less than 100 Hz away. What is counted is the clients' own count of their buffer for what
the hub returns (`jacktrip -I 1`): without matching it runs empty, or over, by one slot whenever
the clocks have drifted apart by that much.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RATE_HZ, ClockRow, Clocks
from loadtest.commandline import Numbers
from loadtest.conduct import servers
from loadtest.conduct.control import ask_status
from loadtest.conduct.musicians import Musician, musician
from loadtest.conduct.servers import ServerError
from loadtest.scenario.model import Hub
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.clocks"
PERIOD = 128
SETTLE_S = 15.0
"""Until the hub knows the clocks, and the clients' queues have found their place."""
_REPORT = re.compile(r"recv: (\d+)/(\d+) prot: (\d+)/")
_XRUN = re.compile(r"XRun|Process error|ProcessWriteAsync")


def measure(match: bool, rates_hz: tuple[int, ...], seconds: float, queue: str) -> list[ClockRow]:
    """All clients at one hub, for so long.

    Raises:
        ServerError: something did not start.
    """
    plan = Hub(
        mode=PatchMode.FAN_OUT_NO_SELF, period=PERIOD, rate_hz=RATE_HZ, queue=queue,
        options=("--match-clients", "on" if match else "off"),
    )  # fmt: skip
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuttihub-load-")))
        server = stack.enter_context(servers.tuttihub(plan, cpus=range(os.cpu_count() or 1)))
        port = servers.free_ports(len(rates_hz))
        clients = [
            stack.enter_context(
                musician(
                    folder, f"at-{rate_hz}", hub_port=server.port, udp_port=port + number,
                    period=PERIOD, rate_hz=rate_hz, queue=queue,
                )
            )
            for number, rate_hz in enumerate(rates_hz)
        ]  # fmt: skip
        time.sleep(SETTLE_S)
        before = [_counted(client) for client in clients]
        time.sleep(seconds)
        after = [_counted(client) for client in clients]
        status = ask_status(server.control)
    drifts = {one["name"]: one["clock"]["drift_ppm"] for one in (status or {}).get("clients", [])}
    rows = []
    for client, rate_hz, was, now in zip(clients, rates_hz, before, after, strict=True):
        under, over, lost, xruns = (new - old for new, old in zip(now, was, strict=True))
        drift_ppm = drifts.get(client.name)
        rows.append(ClockRow(match, rate_hz, seconds, under, over, lost, drift_ppm, xruns))
    return rows


def _counted(client: Musician) -> tuple[int, int, int, int]:
    """Underruns, overflows and lost packets so far, by its last report; and xruns.

    Raises:
        ServerError: it does not report.
    """
    found = _REPORT.findall(client.log.read_text(errors="replace"))
    if not found:
        raise ServerError(f"{client.name} does not report")
    under, over, lost = map(int, found[-1])
    jack_log = client.folder / f"{client.name}-jackd.log"
    return under, over, lost, len(_XRUN.findall(jack_log.read_text(errors="replace")))


def table(rows: list[ClockRow]) -> Table:
    """A line a client."""
    view = Table(box=box.SIMPLE, padding=(0, 0, 0, 1))
    for name in (
        "--match-clients", "client's Hz", "drift ppm", "s", "underruns", "overflows", "lost",
        "xruns", "a minute",
    ):  # fmt: skip
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        view.add_row(
            "on" if row.match else "off", str(row.rate_hz),
            "–" if row.drift_ppm is None else f"{row.drift_ppm:.1f}", f"{row.seconds:g}",
            str(row.underruns), str(row.overflows), str(row.lost), str(row.xruns),
            f"{60 * (row.underruns + row.overflows) / row.seconds:.1f}",
        )  # fmt: skip
    return view


@click.command(context_settings={"show_default": True})
@click.option("--rates", type=Numbers(47_902, 48_098), default="47990,48000,48010",
              help="Of the clients' JACK, Hz.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(5, 3600), default=120.0, help="Counted, each.")
@click.option("--queue", default="4", help="Of hub and clients.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
              show_default="loadtest/results/clocks-DATE.json")  # fmt: skip
def main(rates: tuple[int, ...], seconds: float, queue: str, output: Path | None) -> None:
    """Count what clocks that are off do to what clients hear."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows = []
    try:
        for match in (False, True):
            rows += measure(match, rates, seconds, queue)
            console.print(table(rows[-len(rates) :]))
    except ServerError as error:
        raise click.ClickException(str(error)) from error
    settings = {"rates": list(rates), "seconds": seconds, "queue": queue, "period": PERIOD}
    path = output or record.path_for(record.CLOCKS)
    record.write(Clocks(record.made_by(MODULE, realtime=True), settings, rows), path)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
