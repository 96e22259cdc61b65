"""The commands of ``tuttihub`` for the door: lock, waiting room, bans."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import click

from hub.cli import connected, print_json, remote, slot_or_name
from hub.networks import parse_network

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.command(epilog="\b\nExamples:\n  tuttihub lock")
@remote
def lock(control: str | None, port: int, timeout: float) -> None:
    """Let no newcomers in; who was here may come back."""
    with connected(control, port, timeout) as hub:
        if not hub.lock()["changed"]:
            click.echo("it was locked already")


@click.command(epilog="\b\nExamples:\n  tuttihub unlock")
@remote
def unlock(control: str | None, port: int, timeout: float) -> None:
    """Let newcomers in again."""
    with connected(control, port, timeout) as hub:
        if not hub.unlock()["changed"]:
            click.echo("it was not locked")


@click.command(name="waiting-room", epilog="\b\nExamples:\n  tuttihub waiting-room on")
@remote
@click.argument("on", metavar="on|off", type=click.Choice(["on", "off"]))
def waiting_room(control: str | None, port: int, timeout: float, on: str) -> None:
    """Have newcomers wait until they are admitted, or not."""
    with connected(control, port, timeout) as hub:
        held = hub.set_waiting_room(on == "on")["held"]
    if held and on == "off":
        click.echo(f"{held} still wait: `tuttihub admit` lets each in")


@click.command(epilog="\b\nExamples:\n  tuttihub admit Anna\n  tuttihub admit 3")
@remote
@click.argument("client", callback=slot_or_name)
def admit(control: str | None, port: int, timeout: float, client: int | str) -> None:
    """Let a client (slot or name) out of the waiting room, into the mix."""
    with connected(control, port, timeout) as hub:
        hub.admit(client)


@click.command(epilog="\b\nExamples:\n  tuttihub refuse Mallory")
@remote
@click.argument("client", callback=slot_or_name)
def refuse(control: str | None, port: int, timeout: float, client: int | str) -> None:
    """Send a client (slot or name) away that waits to be admitted."""
    with connected(control, port, timeout) as hub:
        hub.refuse(client)


def _is_network(text: str) -> bool:
    try:
        parse_network(text)
    except ValueError:
        return False
    return True


def _target(text: str, account: bool) -> dict[str, Any]:
    """What a ban is on, as the control socket wants it."""
    if account:
        return {"account": text}
    return {"network": text} if _is_network(text) else {"client": slot_or_name(None, None, text)}


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Seconds of '90m', '2h', '1d12h'."""
    if value is None:
        return None
    if not re.fullmatch(r"(?:[0-9]{1,6}[smhdw])+", value):
        raise click.BadParameter(f"{value!r} is no time such as 90s, 30m, 2h, 7d, 4w or 1d12h")
    parts = re.findall(r"([0-9]+)([smhdw])", value)
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


@click.command(
    epilog="""\b
Examples:
  tuttihub ban Mallory --for 2h --reason "plays the vuvuzela"
  tuttihub ban 192.0.2.0/24
  tuttihub ban mallory --account        who need not be here
"""
)
@remote
@click.argument("target", metavar="CLIENT|NET")
@click.option("--account", is_flag=True, help="It is the name of an account.")
@click.option("--for", "for_s", metavar="TIME", callback=_duration, help="As 30m, 2h, 7d; or ever.")
@click.option("--reason", default="", metavar="TEXT", help="For those who read the list of bans.")
def ban(
    control: str | None,
    port: int,
    timeout: float,
    target: str,
    account: bool,
    for_s: float | None,
    reason: str,
) -> None:
    """Keep out a client's account or else its address, or a network; who is here is kicked."""
    with connected(control, port, timeout) as hub:
        made = hub.ban(**_target(target, account), for_s=for_s, reason=reason)
    if made["others"]:
        click.echo(f"{made['others']} others here come from there, and could not come back")
    if not made["saved"]:
        click.echo("it could not be saved, and ends with the hub: see its log, and --banfile")


@click.command(epilog="\b\nExamples:\n  tuttihub unban 192.0.2.7\n  tuttihub unban mallory")
@remote
@click.argument("target", metavar="NET|ACCOUNT")
def unban(control: str | None, port: int, timeout: float, target: str) -> None:
    """End the ban on a network or an account, as `tuttihub bans` lists it."""
    with connected(control, port, timeout) as hub:
        field = "network" if _is_network(target) else "account"
        hub.unban(**{field: target})


@click.command(epilog="\b\nExamples:\n  tuttihub bans\n  tuttihub bans --json")
@remote
@click.option("--json", "as_json", is_flag=True, help="Print all there is, as JSON.")
def bans(control: str | None, port: int, timeout: float, as_json: bool) -> None:
    """Show the bans that stand."""
    with connected(control, port, timeout) as hub:
        listed = hub.bans()
    if as_json:
        print_json(listed)
    else:
        _print_bans(listed)


def _print_bans(listed: Sequence[dict[str, Any]]) -> None:
    if not listed:
        click.echo("nobody is banned")
        return
    from rich.table import Table
    from rich.text import Text

    from hub.status import make_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("banned", "since", "until", "client", "reason"):
        table.add_column(heading)
    for given in listed:
        target = given.get("network") or f"account {given['account']}"
        until = "for good" if given["until_s"] is None else _time(given["until_s"])
        cells = (target, _time(given["since_s"]), until, given["name"] or "–", given["reason"])
        table.add_row(*map(Text, cells))
    make_console().print(table)


def _time(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
