"""The command ``tuttihub``.

``serve`` runs a hub; all other commands speak to a running one over its control socket.
Whatever is slow to load is loaded where it is needed: ``tuttihub --help`` is to be quick.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hub.config import SETTINGS
from hub.exits import EXIT_INTERRUPTED, EXIT_WRONG_OPTION
from hub.options import click_options, given_options
from hub.rendezvous import find_control
from hub.resolving import overlay, read_file, resolve
from hub.setting import ConfigError
from shared.protocol import DEFAULT_TCP_PORT

if TYPE_CHECKING:
    from hub.client import HubClient
    from hub.messages.state import Status

Answer = TypeVar("Answer")
Command = TypeVar("Command", bound=Callable[..., Any])

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
JACKTRIP = "jacktrip"
"""The command that is meant when none is named."""


class Ended(click.ClickException):
    """Ends the command with one message and exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"tuttihub: {self.format_message()}", file=file, err=file is None)


class Interrupted(Ended):
    """Ends the command, by Ctrl-C, where nothing has yet begun that would have to end in order."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted")


class WrongOption(Ended):
    """Ends the command since it was not asked in the right way."""

    exit_code = EXIT_WRONG_OPTION


class Elsewhere(click.Command):
    """A command of another package, which is imported when it is called, not to list it."""

    def __init__(self, name: str, place: str, short_help: str, *, hidden: bool = False) -> None:
        super().__init__(name, short_help=short_help, hidden=hidden)
        self._place = place

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        module, _, function = self._place.partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command.make_context(info_name, args, parent, **extra)


class HubGroup(click.Group):
    """The commands; without one the options are JackTrip's: ``tuttihub -S ...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            args = [JACKTRIP, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


class Explaining(click.Command):
    """A command that explains JackTrip's options which it has not.

    Attributes:
        mode: the option that is this command in JackTrip.
    """

    mode = "-S"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from hub.dropin.reading import told_of

            told = told_of(error.option_name, self.mode)
            if told:
                raise WrongOption(f"{error.option_name}: {told}") from None
            raise


@click.group(cls=HubGroup, context_settings=_SETTINGS, no_args_is_help=True)
@click.option(
    "-v", "--version", is_flag=True, is_eager=True, expose_value=False, help="Show the version.",
    callback=lambda ctx, _param, value: _show_version(ctx) if value else None,
)  # fmt: skip
def cli() -> None:
    """A hub for JackTrip: unmodified clients connect and hear each other.

    \b
    tuttihub serve                a full mix on TCP port 4464
    tuttihub -S -p2 -q 2          the same as with JackTrip's own hub
    tuttihub client HOST          joins it, on the musician's machine, as jacktrip -C HOST does
    tuttihub peer [HOST]          two machines without a hub
    tuttihub status               who is there, and how they fare
    tuttihub loadtest choir-300   does this machine carry the concert?
    """


def _show_version(ctx: click.Context) -> NoReturn:
    from hub.version import version

    click.echo(f"tuttihub {version()}")
    ctx.exit()


@cli.command(
    cls=Explaining,
    params=[
        *click_options(SETTINGS),
        click.Option(
            ["config_file", "--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Settings from a TOML file; the command line wins.",
        ),
    ],
    epilog="""\b
Examples:
  tuttihub serve                           full mix, 48 kHz, ticks of 128 frames
  tuttihub serve -p2 -q 2 -u               others only, short queue, mono on both sides
  tuttihub serve -q auto5                  queues as long as needed and 5 ms more
  tuttihub serve -B 4564                   TCP 4564 and UDP from 61102 on
  tuttihub serve --cpus 2-7 --mixer-cpus 1 audio kept off CPU 0
  tuttihub serve --config hub.toml -q 8    settings of a file, but this queue
""",
)
def serve(*, config_file: Path | None, **values: object) -> None:
    """Run a hub until Ctrl-C."""
    try:
        given = read_file(config_file) if config_file else {}
        config = resolve(overlay(given, given_options(SETTINGS, values)))
    except ConfigError as error:
        raise WrongOption(str(error)) from None
    gc.disable()  # what is loaded stays, and is never to be looked through again
    from hub.server import run

    gc.freeze()
    gc.enable()
    try:
        code = run(config)
    except ConfigError as error:
        raise WrongOption(str(error)) from None
    sys.exit(code)


def remote(command: Command) -> Command:
    """Options of all commands that speak to a running hub."""
    for option in (
        click.option(
            "--timeout", type=click.FloatRange(0.1, 600.0), default=5.0, show_default=True,
            metavar="S", help="How long the hub may take to reply, seconds.",
        ),
        click.option(
            "--port", type=click.IntRange(1, 65535), default=DEFAULT_TCP_PORT, show_default=True,
            metavar="N", help="TCP port of the hub on this machine to speak to.",
        ),
        click.option(
            "--control", metavar="ENDPOINT", envvar="TUTTIHUB_CONTROL", show_envvar=True,
            help="Its control socket, if it is not where --port leads.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def run_client(
    control: str | None, port: int, timeout: float, ask: Callable[[HubClient], Awaitable[Answer]]
) -> Answer:
    """Speak to the hub that the options name; errors but its refusals end the command."""
    import asyncio

    from hub.client import ControlError, HubClient, HubRefused, HubUnreachable

    async def speak() -> Answer:
        async with HubClient(control or find_control(port), timeout) as client:
            return await ask(client)

    try:
        return asyncio.run(speak())
    except HubRefused:
        raise
    except HubUnreachable as error:
        advice = "is one running there, and ready yet? --port N or --control ENDPOINT name another"
        raise Ended(f"{error}; {advice}") from None
    except ControlError as error:
        raise Ended(str(error)) from None


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@cli.command(
    epilog="""\b
Examples:
  tuttihub status
  tuttihub status --json | jq '.clients[].name'
  tuttihub status --port 4564
"""
)
@remote
@click.option("--json", "as_json", is_flag=True, help="Print all there is, as JSON.")
def status(control: str | None, port: int, timeout: float, as_json: bool) -> None:
    """Show the state of a running hub and its clients."""
    state = _status(control, port, timeout)
    if as_json:
        print_json(state)
        return
    from hub.status import print_status

    print_status(_typed(state))


def _status(control: str | None, port: int, timeout: float) -> dict[str, Any]:
    """As the hub tells it, with what this version may not know."""
    return run_client(control, port, timeout, lambda hub: hub.request("status"))


def _typed(state: dict[str, Any]) -> Status:
    import msgspec

    from hub.messages.state import Status

    try:
        return msgspec.convert(state, Status)
    except msgspec.ValidationError as error:
        raise Ended(f"a hub of another version, whose state is not understood: {error}") from None


def slot_or_name(
    _ctx: click.Context | None, _param: click.Parameter | None, value: str | None
) -> int | str | None:
    """A slot's number, or a name as ``tuttihub status`` shows it."""
    return int(value) if value is not None and value.isdecimal() else value


@cli.command(
    epilog="""\b
Examples:
  tuttihub why                 everybody in trouble, and the hub itself
  tuttihub why Anna            one client (name, slot or address), here or just gone
  tuttihub why Anna --json
"""
)
@remote
@click.argument("client", required=False, callback=slot_or_name)
@click.option("--json", "as_json", is_flag=True, help="Print the conditions as JSON.")
def why(
    control: str | None, port: int, timeout: float, client: int | str | None, as_json: bool
) -> None:
    """Explain who is not heard, or not well, and what to do about it."""
    told = _status(control, port, timeout)
    state = _typed(told)
    from hub.explain import concerned, print_why

    entries = concerned(state, client)
    if client is not None and not entries:
        from hub.words import did_you_mean

        near = did_you_mean(client, [entry.name for entry in state.clients])
        raise Ended(f"{client!r}: no such client is here, nor was let go lately{near}")
    if as_json:
        from msgspec import to_builtins

        keys = ("slot", "name", "address", "conditions", "ago_s", "reason", "times")
        found = [to_builtins(entry) for entry in entries]
        listed = [{key: entry[key] for key in keys if key in entry} for entry in found]
        hub_has, words = told["hub"]["conditions"], told["conditions"]
        print_json({"hub": hub_has, "clients": listed, "conditions": words})
        return
    print_why(state, entries)


_DOCUMENTS = {
    "serve": "hub.options:options_markdown",
    "client": "hub.endpoint.options:markdown",
    JACKTRIP: "hub.dropin.document:markdown",
}


@cli.command(short_help="Print all options of a command as Markdown.")
@click.argument("of", type=click.Choice(list(_DOCUMENTS)), default="serve")
def options(of: str) -> None:
    """Print all options of serve, of client and peer, or of JackTrip, as Markdown."""
    module, _, function = _DOCUMENTS[of].partition(":")
    click.echo(getattr(import_module(module), function)(), nl=False)


for _name, _place, _help in (
    ("loadtest", "loadtest.command:loadtest", "Play an ensemble against a hub, and judge it."),
    ("client", "hub.endpoint.command:client", "Join a hub from this machine."),
    ("peer", "hub.endpoint.command:peer", "Play with one other machine, without a hub."),
    ("doctor", "hub.doctor.command:doctor", "Examine the way to a hub before the rehearsal."),
    ("top", "hub.top.command:top", "Watch everybody live; mute or kick from it."),
    ("passwd", "hub.auth.command:passwd", "Say who may join a hub with --auth, and when."),
    ("cert", "hub.auth.command:cert", "Make a certificate and its key, signed by itself."),
    ("keys", "hub.cli_keys:keys", "Make and list the keys of the control socket over TCP."),
    (
        "ctl",
        "hub.cli_ctl:ctl",
        "Ask a running hub for anything: levels, mute, kick.",
    ),
    ("capacity", "loadtest.capacity.command:capacity", "How many clients this machine carries."),
):
    cli.add_command(Elsewhere(_name, _place, _help))
cli.add_command(Elsewhere(JACKTRIP, "hub.dropin.command:jacktrip", "", hidden=True))


def main() -> None:
    """Entry point of the command."""
    cli.main(prog_name="tuttihub")
