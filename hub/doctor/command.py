"""The command ``tuttihub doctor``."""

from __future__ import annotations

import sys

import click
import msgspec

from hub.doctor.examination import Examination, Wish
from hub.doctor.knock import Account
from hub.doctor.words import EXITS, Exit
from shared.protocol import BIT_RESOLUTIONS, DEFAULT_TCP_PORT, MAX_CHANNELS

LEAST_S, MOST_S = 1.0, 600.0


def _exit_table() -> str:
    return "\n".join(f"  {code.value}  {text}" for code, text in EXITS.items())


@click.command(
    epilog=f"""\b
Exit codes:
{_exit_table()}

\b
Examples:
  tuttihub doctor hub.example.org
  tuttihub doctor hub.example.org --seconds 60 --json > evening.json
  tuttihub doctor hub.example.org -A --username anna

The hub returns your own sound in loopback (tuttihub serve -p1) or full mix: then losses are told
both ways. What is played is noise of one step of 16 bit (-90 dB), which nobody hears.
"""
)
@click.argument("host")
@click.option(
    "-P",
    "--peerport",
    type=click.IntRange(1, 65535),
    default=DEFAULT_TCP_PORT,
    show_default=True,
    metavar="N",
    help="The hub's TCP port.",
)
@click.option(
    "-B",
    "--bindport",
    type=click.IntRange(0, 65535),
    default=DEFAULT_TCP_PORT,
    show_default=True,
    metavar="N",
    help="UDP port to play from: the one that JackTrip is going to use; 0: any.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(LEAST_S, MOST_S),
    default=15.0,
    show_default=True,
    metavar="S",
    help="How long to listen.",
)
@click.option(
    "-n",
    "--numchannels",
    type=click.IntRange(1, MAX_CHANNELS),
    default=2,
    show_default=True,
    metavar="N",
    help="Channels that you are going to use.",
)
@click.option(
    "-b",
    "--bitres",
    type=click.Choice([str(bits) for bits in BIT_RESOLUTIONS]),
    default="16",
    show_default=True,
    help="Bits that you are going to use.",
)
@click.option(
    "-K",
    "--remotename",
    default="tuttihub doctor",
    show_default=True,
    metavar="NAME",
    help="Under which name the hub shows you meanwhile.",
)
@click.option("-A", "--auth", is_flag=True, help="The hub wants a user name and a password.")
@click.option("--username", metavar="NAME", help="Who you are, with --auth; else it is asked for.")
@click.option("--password", metavar="TEXT", help="With --auth; else it is asked for, unseen.")
@click.option(
    "--silent",
    is_flag=True,
    help="Play nothing at all, not even the noise that nobody hears: what is lost on the way to "
    "the hub is then not seen.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all there is, as JSON.")
def doctor(
    host: str, peerport: int, bindport: int, seconds: float, numchannels: int, bitres: str,
    remotename: str, auth: bool, username: str | None, password: str | None, silent: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Examine the way to a hub before the rehearsal, and say how to start JackTrip.

    HOST is any JackTrip hub. Nobody there hears you meanwhile.
    """
    account = None
    if auth or username is not None or password is not None:
        user = username if username is not None else click.prompt("User name", err=True)
        secret = (
            password
            if password is not None
            else click.prompt("Password", hide_input=True, err=True)
        )
        account = Account(user, secret)
    wish = Wish(
        host, peerport, seconds, bindport, numchannels, int(bitres), remotename, account,
        not silent,
    )  # fmt: skip
    from hub.doctor.showing import print_report, shown_progress

    try:
        with shown_progress(host) as tell:
            report = Examination(wish, tell).run()
    except KeyboardInterrupt:
        click.echo("tuttihub: broken off", err=True)
        sys.exit(Exit.NOT_EXAMINED)
    except OSError as error:
        click.echo(f"tuttihub: the examination itself failed: {error}", err=True)
        sys.exit(Exit.NOT_EXAMINED)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    else:
        print_report(report)
    sys.exit(report.exit_code)
