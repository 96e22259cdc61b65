"""The command ``tuttihub top``."""

from __future__ import annotations

import sys

import click

from hub.cli import Ended, remote
from hub.rendezvous import find_control


@click.command(
    epilog="""\b
Keys: s sort by the next column, r the other way round, / filter, Esc show all,
m mute or unmute, k kick (asks first), q quit. Click a heading to sort by it.
"""
)
@remote
@click.option(
    "--interval", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, metavar="S",
    help="Between two looks, seconds.",
)  # fmt: skip
def top(control: str | None, port: int, timeout: float, interval: float) -> None:
    """Watch everybody live: level, loss, jitter, depth, drift, condition."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Ended("top needs a terminal; `tuttihub status` prints the same once")
    from hub.top.app import Top

    Top(control or find_control(port), interval, timeout).run()
