"""``tuttihub client HOST`` and ``tuttihub peer [HOST]``: one end of a connection."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from hub.cli import Explaining, WrongOption
from hub.endpoint.config import Role, settings_of
from hub.endpoint.resolving import resolve
from hub.given import Given
from hub.options import click_options, given_options
from hub.resolving import SYNONYMS, overlay, read_file
from hub.setting import ConfigError

_CONFIG = click.Option(
    ["config_file", "--config"],
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings from a TOML file; the command line wins.",
)
_CLIENT, _PEER = settings_of(Role.CLIENT), settings_of(Role.CLIENT_PEER)


class _Client(Explaining):
    mode = "-C"


class _Peer(Explaining):
    mode = "-c"


@click.command(
    cls=_Client,
    params=[click.Argument(["host"]), *click_options(_CLIENT), _CONFIG],
    epilog="""\b
Examples:
  tuttihub client hub.example.org                 two channels each way, by JACK
  tuttihub client hub.example.org -K Anna -n 1    by name, in mono
  tuttihub client hub.example.org -q auto -r 2    on a bad line
  tuttihub client ::1 -P 4474 -D                  another port, JACK ports left alone
  tuttihub client hub.example.org --card USB      a sound card without JACK
  tuttihub client hub.example.org --tone 440 --record heard.wav --duration 10
  tuttihub client hub.example.org --config client.toml -n 1
""",
)
def client(host: str, config_file: Path | None, **values: object) -> None:
    """Join the hub at HOST until Ctrl-C."""
    sys.exit(run_endpoint(Role.CLIENT, host, given_options(_CLIENT, values), config_file))


@click.command(
    cls=_Peer,
    params=[click.Argument(["host"], required=False), *click_options(_PEER), _CONFIG],
    epilog="""\b
Examples:
  tuttihub peer                                   wait for the other machine
  tuttihub peer studio.example.org                call the one that waits
  tuttihub peer studio.example.org -n 8 -r 2      eight channels, everything sent twice
  tuttihub peer -o 10                             a second one here, on port 4474
""",
)
def peer(host: str | None, config_file: Path | None, **values: object) -> None:
    """Play with one other machine until Ctrl-C: call HOST, or wait to be called."""
    role = Role.SERVER_PEER if host is None else Role.CLIENT_PEER
    sys.exit(run_endpoint(role, host, given_options(_PEER, values), config_file))


def run_endpoint(
    role: Role,
    host: str | None,
    given: Mapping[str, Given],
    file: Path | None = None,
    *,
    reconnect: str | None = None,
) -> int:
    """Be one end of a connection until it is over; an exit code.

    Args:
        reconnect: when to connect again if nothing is said of it; None: as a setting's default.
    """
    try:
        written = read_file(file, settings_of(role)) if file else {}
        if file and "password" in written and file.stat().st_mode & 0o077:
            click.echo(
                f"tuttihub: {file} holds a password and is not only its owner's to read: "
                f"chmod 600 {file}",
                err=True,
            )
        synonyms = (*SYNONYMS, ("reconnect", "timeout"))
        said = dict(overlay(written, given, synonyms))
        if reconnect is not None and not said.keys() & {"reconnect", "timeout"}:
            said["reconnect"] = Given(reconnect, "--reconnect")
        config = resolve(role, host, said)
        from hub.endpoint.run import run

        return run(config)
    except ConfigError as error:
        raise WrongOption(str(error)) from None
