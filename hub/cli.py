"""The command ``tuttihub``.

``serve`` runs a hub; all other commands speak to a running one over its control socket.
Whatever is slow to load is loaded where it is needed: ``tuttihub --help`` is to be quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hub.endpoint import find_control
from hub.options import click_options, given_options, options_markdown, told_elsewhere
from hub.pans import Pan
from hub.resolving import overlay, read_file, resolve
from hub.setting import ConfigError
from hub.values import PacketsOrAuto, Patch, Refused, patch_name
from shared.protocol import DEFAULT_TCP_PORT

if TYPE_CHECKING:
    from hub.client import HubClient

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_WRONG_OPTION = 2
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_HABIT = "tuttihub.jacktrip-habit"
"""Key of the context's note that no command was named."""


class Ended(click.ClickException):
    """Ends the command with one message and exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"tuttihub: {self.format_message()}", file=file, err=file is None)


class WrongOption(Ended):
    """Ends the command since it was not asked in the right way."""

    exit_code = EXIT_WRONG_OPTION


class Elsewhere(click.Command):
    """A command of another package, which is imported when it is called, not to list it."""

    def __init__(self, name: str, place: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._place = place

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        module, _, function = self._place.partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command.make_context(info_name, args, parent, **extra)


class HubGroup(click.Group):
    """The commands; ``tuttihub -S ...`` is ``tuttihub serve ...``, as with JackTrip."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            ctx.meta[_HABIT] = True
            args = ["serve", *args]
        return super().parse_args(ctx, args)


class ServeCommand(click.Command):
    """Explains JackTrip's options that this hub has not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            told = told_elsewhere(error.option_name)
            if told is not None:
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
    jacktrip -C HOST              joins it, on the musician's machine
    tuttihub status               who is there, and how they fare
    tuttihub loadtest choir-300   does this machine carry the concert?
    """


def _show_version(ctx: click.Context) -> NoReturn:
    from hub.version import version

    click.echo(f"tuttihub {version()}")
    ctx.exit()


@cli.command(
    cls=ServeCommand,
    params=[
        *click_options(),
        click.Option(
            ["config_file", "--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Settings from a TOML file; the command line wins.",
        ),
        click.Option(["jacktripserver", "-S", "--jacktripserver"], is_flag=True, hidden=True),
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
@click.pass_context
def serve(
    ctx: click.Context, /, config_file: Path | None, jacktripserver: bool, **values: object
) -> None:
    """Run a hub until Ctrl-C."""
    if ctx.meta.get(_HABIT) and not jacktripserver:
        raise click.UsageError("Missing command: write 'tuttihub serve ...' or 'tuttihub -S ...'.")
    try:
        given = read_file(config_file) if config_file else {}
        config = resolve(overlay(given, given_options(values)))
    except ConfigError as error:
        raise WrongOption(str(error)) from None
    from hub.server import run

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


@contextmanager
def connected(control: str | None, port: int, timeout: float) -> Iterator[HubClient]:
    """A client of the hub that the options name; its errors end the command."""
    from hub.client import ControlError, HubClient, HubUnreachable

    try:
        with HubClient(control or find_control(port), timeout) as client:
            yield client
    except HubUnreachable as error:
        advice = "is one running there? --port N or --control ENDPOINT name another"
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
    with connected(control, port, timeout) as hub:
        state = hub.status()
    if as_json:
        print_json(state)
        return
    from hub.status import print_status

    print_status(state)


@cli.command(epilog="\b\nExamples:\n  tuttihub clients\n  tuttihub clients --json")
@remote
@click.option("--json", "as_json", is_flag=True, help="Print all there is, as JSON.")
def clients(control: str | None, port: int, timeout: float, as_json: bool) -> None:
    """Show the clients alone."""
    with connected(control, port, timeout) as hub:
        listed = hub.clients()
    if as_json:
        print_json(listed)
        return
    from hub.status import print_clients

    print_clients(listed)


def _patch_mode(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return patch_name(Patch().parse(value))
    except Refused as refused:
        raise click.BadParameter(f"{value!r} {refused}") from None


def _queue_depth(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return str(PacketsOrAuto().parse(value))
    except Refused as refused:
        raise click.BadParameter(f"{value!r} {refused}") from None


def slot_or_name(
    _ctx: click.Context | None, _param: click.Parameter | None, value: str | None
) -> int | str | None:
    """A slot's number, or a name as ``tuttihub clients`` shows it."""
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
    with connected(control, port, timeout) as hub:
        state = hub.status()
    from hub.explain import concerned, print_why

    entries = concerned(state, client)
    if client is not None and not entries:
        raise Ended(f"{client!r}: no such client is here, nor was let go lately")
    if as_json:
        told = ("slot", "name", "address", "conditions", "ago_s", "reason", "times")
        listed = [{key: entry[key] for key in told if key in entry} for entry in entries]
        hub_has, words = state["hub"]["conditions"], state["conditions"]
        print_json({"hub": hub_has, "clients": listed, "conditions": words})
        return
    print_why(state, entries)


@cli.command(epilog="\b\nExamples:\n  tuttihub patch full-mix\n  tuttihub patch 2")
@remote
@click.argument("mode", callback=_patch_mode)
def patch(control: str | None, port: int, timeout: float, mode: str) -> None:
    """Change who hears whom: full-mix (4), fan-out-no-self (2), loopback (1) or none (5)."""
    with connected(control, port, timeout) as hub:
        hub.set_patch(mode)


@cli.command(
    context_settings={"ignore_unknown_options": True},  # else -6 would be taken for an option
    epilog="""\b
Examples:
  tuttihub gain Anna -6                  Anna is 6 dB softer for everybody
  tuttihub gain Anna 3 --listener Bob    only Bob hears her louder
  tuttihub gain Anna default --listener Bob
""",
)
@remote
@click.argument("client", callback=slot_or_name)
@click.argument("db", metavar="DB")
@click.option("--listener", callback=slot_or_name, metavar="CLIENT", help="Only for this one.")
def gain(
    control: str | None,
    port: int,
    timeout: float,
    client: int | str,
    db: str,
    listener: int | str | None,
) -> None:
    """Set how loud a client (slot or name) is: decibels, 'off', or 'default' to undo it."""
    wanted = _decibels(db)
    with connected(control, port, timeout) as hub:
        hub.set_gain(client, wanted, listener)


def _decibels(text: str) -> float | None:
    if text == "default":
        return None
    if text == "off":
        return float("-inf")
    try:
        return float(text)
    except ValueError:
        problem = f"{text!r} is not a number of decibels, 'off' or 'default'"
        raise click.BadParameter(problem, param_hint="DB") from None


def _pan(_ctx: click.Context, _param: click.Parameter, value: str) -> float | None:
    try:
        return Pan().parse(value)
    except Refused as refused:
        raise click.BadParameter(f"{value!r} {refused}") from None


@cli.command(
    context_settings={"ignore_unknown_options": True},  # else -40 would be taken for an option
    epilog="""\b
Examples:
  tuttihub pan Anna left
  tuttihub pan Anna -40                  a little to the left
  tuttihub pan Anna default              as channels are connected
""",
)
@remote
@click.argument("client", callback=slot_or_name)
@click.argument("pan", metavar="PAN", callback=_pan)
def pan(
    control: str | None, port: int, timeout: float, client: int | str, pan: float | None
) -> None:
    """Place a client (slot or name): -100 (left) .. 100 (right), left, centre, right, default."""
    with connected(control, port, timeout) as hub:
        hub.set_pan(client, pan)


@cli.command(epilog="\b\nExamples:\n  tuttihub guard release Anna")
@remote
@click.argument("what", type=click.Choice(["release"]))
@click.argument("client", callback=slot_or_name)
def guard(control: str | None, port: int, timeout: float, what: str, client: int | str) -> None:
    """Let a client (slot or name) be that the guard has noticed, for the rest of its session."""
    with connected(control, port, timeout) as hub:
        hub.release_guard(client)


@cli.command(epilog="\b\nExamples:\n  tuttihub limiter on")
@remote
@click.argument("on", metavar="on|off", type=click.Choice(["on", "off"]))
def limiter(control: str | None, port: int, timeout: float, on: str) -> None:
    """Limit every mix that is sent, softly above -1 dBFS, or do not."""
    with connected(control, port, timeout) as hub:
        hub.set_limiter(on == "on")


@cli.command(epilog="\b\nExamples:\n  tuttihub mute Anna\n  tuttihub mute 3")
@remote
@click.argument("client", callback=slot_or_name)
def mute(control: str | None, port: int, timeout: float, client: int | str) -> None:
    """Let nobody hear a client (slot or name) any more."""
    with connected(control, port, timeout) as hub:
        hub.set_muted(client, True)


@cli.command(epilog="\b\nExamples:\n  tuttihub unmute Anna")
@remote
@click.argument("client", callback=slot_or_name)
def unmute(control: str | None, port: int, timeout: float, client: int | str) -> None:
    """Let a muted client (slot or name) be heard again."""
    with connected(control, port, timeout) as hub:
        hub.set_muted(client, False)


@cli.command(
    epilog="""\b
Examples:
  tuttihub queue Anna auto     as long as her packets need
  tuttihub queue Anna auto5    5 ms longer than that
  tuttihub queue 3 2           two packets, come what may
"""
)
@remote
@click.argument("client", callback=slot_or_name)
@click.argument("depth", metavar="N|auto|autoN", callback=_queue_depth)
def queue(control: str | None, port: int, timeout: float, client: int | str, depth: str) -> None:
    """Change how much of a client's (slot or name) sound waits for late packets."""
    with connected(control, port, timeout) as hub:
        hub.set_queue(client, depth)


@cli.command(epilog="\b\nExamples:\n  tuttihub kick Anna")
@remote
@click.argument("client", callback=slot_or_name)
def kick(control: str | None, port: int, timeout: float, client: int | str) -> None:
    """End a client's session (slot or name); it may come back."""
    with connected(control, port, timeout) as hub:
        hub.kick(client)


@cli.command(epilog="\b\nExamples:\n  tuttihub shutdown --port 4564")
@remote
def shutdown(control: str | None, port: int, timeout: float) -> None:
    """End a running hub, as Ctrl-C would."""
    with connected(control, port, timeout) as hub:
        hub.shut_down()


@cli.command()
def options() -> None:
    """Print all options of serve as a Markdown table."""
    click.echo(options_markdown(), nl=False)


for _name, _place, _help in (
    ("loadtest", "loadtest.command:loadtest", "Play an ensemble against a hub, and judge it."),
    ("top", "hub.top.command:top", "Watch everybody live; mute or kick from it."),
    ("passwd", "hub.auth.command:passwd", "Say who may join a hub with --auth, and when."),
    ("cert", "hub.auth.command:cert", "Make a certificate and its key, signed by itself."),
    ("keys", "hub.cli_keys:keys", "Make and list the keys of the control socket over TCP."),
    ("ctl", "hub.cli_ctl:ctl", "Ask a running hub for any operation of its control socket."),
    ("lock", "hub.cli_door:lock", "Let no newcomers in; who was here may come back."),
    ("unlock", "hub.cli_door:unlock", "Let newcomers in again."),
    ("waiting-room", "hub.cli_door:waiting_room", "Have newcomers wait to be admitted, or not."),
    ("admit", "hub.cli_door:admit", "Let a client out of the waiting room, into the mix."),
    ("refuse", "hub.cli_door:refuse", "Send a client away that waits to be admitted."),
    ("ban", "hub.cli_door:ban", "Keep out a client, an account or a network."),
    ("unban", "hub.cli_door:unban", "End a ban."),
    ("bans", "hub.cli_door:bans", "Show the bans that stand."),
    ("capacity", "loadtest.capacity.command:capacity", "How many clients this machine carries."),
):
    cli.add_command(Elsewhere(_name, _place, _help))


def main() -> None:
    """Entry point of the command."""
    cli.main(prog_name="tuttihub")
