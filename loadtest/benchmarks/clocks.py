"""What ``--match-clients`` is worth: real clients whose clocks are off, with it and without.

    python -m loadtest.benchmarks.clocks --seconds 40 --takes 2

Each client has a `jackd -d dummy` at a rate of its own, which JackTrip presents as 48 kHz as long
as it is less than 100 Hz away. What is counted is the clients' own count of their buffer for what
the hub returns (`jacktrip -I 1`): without matching it runs empty, or over, by one slot whenever
the clocks have drifted apart by that much; each is a click.

Takes with and without alternate, so that what else the machine does falls on both, and a client
whose clock agrees says how much that is. All of a client's threads run in real time. The clocks
are off by more than sound cards are, by 900 ppm: slips are as much more frequent, noise is not.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RATE_HZ, ClockRow, Clocks
from loadtest.benchmarks.render import insert, markdown, where
from loadtest.commandline import Numbers
from loadtest.conduct import servers
from loadtest.conduct.control import ask_status
from loadtest.conduct.musicians import Musician, musician
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import ServerError
from loadtest.scenario.model import Hub
from shared.layout import PatchMode

MODULE = "loadtest.benchmarks.clocks"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
BEGIN, END = "<!-- clocks:begin -->", "<!-- clocks:end -->"
PERIOD = 128
JACK_PRIORITY, PRIORITY = 80, "70"
"""Of JACK and of the rest of a client: a sound card at home shares its machine with no hub."""
SETTLE_S = 15.0
"""Until the hub knows the clocks."""
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
    realtime = ("chrt", "-f", PRIORITY) if os.geteuid() == 0 and shutil.which("chrt") else ()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuttihub-load-")))
        server = stack.enter_context(servers.tuttihub(plan, cpus=range(os.cpu_count() or 1)))
        port = PORTS.take(len(rates_hz))
        clients = [
            stack.enter_context(
                musician(
                    folder, f"at-{rate_hz}", hub_port=server.port, udp_port=port + number,
                    period=PERIOD, rate_hz=rate_hz, queue=queue, before=realtime,
                    jack_priority=JACK_PRIORITY,
                )
            )
            for number, rate_hz in enumerate(rates_hz)
        ]  # fmt: skip
        time.sleep(SETTLE_S + drained_s(rates_hz, queue))
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


def table(rows: Sequence[ClockRow]) -> Table:
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


def drained_s(rates_hz: Sequence[int], queue: str) -> float:
    """Until a client's queue, full at first, has been drained by a clock that is too fast."""
    slowest = min((abs(rate - RATE_HZ) for rate in rates_hz if rate != RATE_HZ), default=PERIOD)
    return (int(queue) if queue.isdigit() else 4) * PERIOD / slowest


def slips_a_minute(rate_hz: int) -> float:
    """By which two clocks drift apart, in packets."""
    return 60 * abs(rate_hz - RATE_HZ) / PERIOD


def content(clocks: Clocks) -> str:
    """What stands between the page's markers."""
    rates = sorted({row.rate_hz for row in clocks.rows})
    head = ["client's clock", "by arithmetic", "`off`", "`on`", "JACK's xruns, `off` / `on`"]
    body = []
    for rate_hz in rates:
        ppm = 1e6 * (rate_hz / RATE_HZ - 1)
        cells = [f"{ppm:+.0f} ppm".replace("-", "−"), f"{slips_a_minute(rate_hz):.1f}"]
        xruns = []
        for match in (False, True):
            rows = [row for row in clocks.rows if row.rate_hz == rate_hz and row.match is match]
            found = [60 * (row.underruns + row.overflows) / row.seconds for row in rows]
            cells.append(f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})")
            xruns.append(str(sum(row.xruns for row in rows)))
        body.append([*cells, " / ".join(xruns)])
    takes = max(sum(row.match and row.rate_hz == rates[0] for row in clocks.rows), 1)
    text = (
        f"Clicks a minute in what a real client of JackTrip 1.7.0 plays, median (least to most) of "
        f"{takes} take{'s' * (takes > 1)} of {clocks.settings['seconds']:g} s with each, `-q "
        f"{clocks.settings['queue']}`, measured {where(clocks.provenance)}, by the client's own "
        f"count of packets that its buffer lacked or threw away:"
    )
    return "\n\n".join([text, markdown(head, body, left=1)])


@click.command(context_settings={"show_default": True})
@click.option("--rates", type=Numbers(47_902, 48_098), default="47957,48000,48043",
              help="Of the clients' JACK, Hz.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(5, 3600), default=40.0, help="Counted, each.")
@click.option("--takes", type=click.IntRange(1, 100), default=2, help="With, and without.")
@click.option("--queue", default="4", help="Of hub and clients.")
@click.option("--page/--no-page", "write_page", default=True, help="Write the page's table.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None,
              show_default="loadtest/results/clocks-DATE.json")  # fmt: skip
def main(
    rates: tuple[int, ...],
    seconds: float,
    takes: int,
    queue: str,
    write_page: bool,
    output: Path | None,
) -> None:
    """Count what clocks that are off do to what clients hear."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows: list[ClockRow] = []
    try:
        for number in range(2 * takes):
            rows += measure(bool(number % 2), rates, seconds, queue)
            console.print(table(rows[-len(rates) :]))
    except ServerError as error:
        raise click.ClickException(str(error)) from error
    settings = {"rates": list(rates), "seconds": seconds, "queue": queue, "period": PERIOD,
                "takes": takes}  # fmt: skip
    path = output or record.path_for(record.CLOCKS)
    made = Clocks(record.made_by(MODULE, realtime=True), settings, rows)
    record.write(made, path)
    console.print(f"written to {path}")
    if write_page:
        PAGE.write_text(insert(PAGE.read_text(), content(made), BEGIN, END))
        console.print(f"table written to {PAGE.name}")


if __name__ == "__main__":
    main()
