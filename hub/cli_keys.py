"""The command ``tuttihub keys``: who may speak to the control socket over TCP."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli import Ended
from hub.keys import WrongKey, list_keys, make_pair

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def keys() -> None:
    """Make and list the keys of the control socket over TCP (--control-tcp)."""


@keys.command(
    short_help="Make a pair of keys: the hub's, or a client's.",
    epilog="\b\nExamples:\n  tuttihub keys make keys hub\n  tuttihub keys make keys anna",
)
@click.argument("folder", type=_FOLDER)
@click.argument("name")
def make(folder: Path, name: str) -> None:
    """Make a pair of keys in FOLDER: of the hub itself (NAME hub), or of a client."""
    try:
        secret = make_pair(folder, name)
    except (WrongKey, OSError) as error:
        raise Ended(str(error)) from None
    click.echo(f"secret half: {secret}")


@keys.command(
    "list",
    short_help="List the public keys in FOLDER.",
    epilog="\b\nExamples:\n  tuttihub keys list keys",
)
@click.argument("folder", type=_FOLDER)
def list_(folder: Path) -> None:
    """List the public keys in FOLDER: the hub's, and those of who may speak to it."""
    try:
        listed = list_keys(folder)
    except WrongKey as error:
        raise Ended(str(error)) from None
    if not listed:
        advice = f"`tuttihub keys make {folder} hub` makes the hub's"
        raise Ended(f"{folder}: there are no keys; {advice}")
    for name, public in listed.items():
        click.echo(f"{public}  {name}")
