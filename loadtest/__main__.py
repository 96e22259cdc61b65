"""``python -m loadtest``: load a JackTrip-compatible hub, check what returns, say what it cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.console import Console

from loadtest.conduct import procfs
from loadtest.control import ask_status, find_control, hub_pid
from loadtest.handshake import resolve
from loadtest.plan import Plan, PlanError, Sources
from loadtest.report import evaluate, show
from loadtest.session import Session, SessionError
from shared.layout import PatchMode

EXIT_FAULTS, EXIT_USAGE, EXIT_UNUSABLE = 1, 2, 3
_LOOPBACK = ("127.", "::1")


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="The hub's name or address.")
@click.option("--port", default=4464, help="Its TCP port.")
@click.option("--clients", default=10, help="Virtual clients.")
@click.option("--seconds", default=20.0, help="Length of the measured window.")
@click.option("--frames", default=128, help="Samples per channel in a packet.")
@click.option("--rate", default=48000, help="Sample rate, Hz.")
@click.option("--channels", default=2, help="Channels sent and wanted.")
@click.option("--bits", default="16", type=click.Choice(["16"]), help="Bits a sample.")
@click.option("--mode", default="4", type=click.Choice(["1", "2", "4", "5"]),
              help="Patch mode the hub runs: what to expect.")  # fmt: skip
@click.option("--spread/--burst", default=True, help="Arrivals over the period, or all at once.")
@click.option("--sources", default="auto", type=click.Choice(["auto", *map(str, Sources)]),
              help="An address 127.1.x.y a client, or one address and many ports.")  # fmt: skip
@click.option("--join-rate", default=100.0, help="Handshakes a second; 0: all at once.")
@click.option("--settle", default=1.0, help="Seconds between the last join and the window.")
@click.option("--talk", default=6, help="Packets a client speaks in its turn.")
@click.option("--pause", default=8, help="Packets of silence after it.")
@click.option("--hub-pid", "hub_pids", type=int, multiple=True,
              help="A process of the hub, with its children; else found by the port.")  # fmt: skip
@click.option("--cpu", type=int, help="Run on this core only.")
@click.option("--realtime/--no-realtime", default=True, help="Ask for SCHED_FIFO.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write all figures here.")  # fmt: skip
def main(
    host: str,
    port: int,
    clients: int,
    seconds: float,
    frames: int,
    rate: int,
    channels: int,
    bits: str,
    mode: str,
    spread: bool,
    sources: str,
    join_rate: float,
    settle: float,
    talk: int,
    pause: int,
    hub_pids: tuple[int, ...],
    cpu: int | None,
    realtime: bool,
    json_path: Path | None,
) -> None:
    """Load a hub with virtual clients.

    Exit code 0: everything returned and sounded right. 1: something did not. 2: a wrong
    option, or no hub. 3: the generator itself came too late to tell.
    """
    console = Console(stderr=True)
    if cpu is not None:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:
            raise click.BadParameter(f"{cpu}: {error}", param_hint="--cpu") from error
    try:
        local = resolve(host)[1].startswith(_LOOPBACK)
        kind = Sources(sources) if sources != "auto" else _default_sources(host)
        plan = Plan(
            host=host,
            port=port,
            clients=clients,
            seconds=seconds,
            frames=frames,
            rate_hz=rate,
            channels=channels,
            mode=PatchMode(int(mode)),
            burst=not spread,
            sources=kind,
            join_rate=join_rate,
            settle_s=settle,
            talk_packets=talk,
            pause_packets=pause,
        )
        control = find_control(port) if local else None
        pids = hub_pids
        if local and not pids:
            found = hub_pid(ask_status(control)) or procfs.listener_pid(port)
            pids = (found,) if found else ()
        session = Session(plan, hub_pids=pids, control=control, realtime=realtime, say=console.log)
        result = evaluate(session.run())
    except (PlanError, SessionError, OSError) as error:
        console.print(f"[red]{error}")
        sys.exit(EXIT_USAGE)
    show(result, Console())
    if json_path:
        json_path.write_text(result.to_json() + "\n")
    if not result.usable:
        sys.exit(EXIT_UNUSABLE)
    sys.exit(0 if result.clean else EXIT_FAULTS)


def _default_sources(host: str) -> Sources:
    """Own addresses reach hubs on 127.0.0.0/8 only."""
    return Sources.ADDRESSES if resolve(host)[1].startswith("127.") else Sources.PORTS


if __name__ == "__main__":
    main()
