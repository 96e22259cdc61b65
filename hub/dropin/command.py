"""``tuttihub`` called as JackTrip is: ``tuttihub -S -p4``."""

from __future__ import annotations

import sys

import click
from click.shell_completion import CompletionItem

from hub.cli import WrongOption
from hub.dropin.document import usage
from hub.dropin.option import Mode
from hub.dropin.reading import ROLES, Line, flags_of, read
from hub.endpoint.command import run_endpoint
from hub.endpoint.exits import EXIT_NO_WORKERS
from hub.resolving import overlay, read_file, resolve
from hub.setting import ConfigError
from hub.version import version


class DropIn(click.Command):
    """A command that leaves its arguments to JackTrip's grammar."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return []

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options of the mode that was said, and files for their arguments."""
        if not incomplete.startswith("-"):
            return [CompletionItem(incomplete, type="file")]
        said = (mode for arg in ctx.args for mode in Mode if arg == mode.value)
        flags = flags_of(next(said, Mode.HUB))
        return [CompletionItem(flag, help=text) for flag, text in flags.items()
                if flag.startswith(incomplete)]  # fmt: skip


@click.command(cls=DropIn, add_help_option=False)
@click.pass_context
def jacktrip(ctx: click.Context) -> None:
    """Do what JackTrip's options say."""
    try:
        code = _run(read(ctx.args))
    except ConfigError as error:
        raise WrongOption(str(error)) from None
    sys.exit(code)


def _run(line: Line) -> int:
    if line.asked == "--version":
        click.echo(f"tuttihub {version()}")
        return 0
    if line.asked == "--listdevices":
        return _list_cards()
    if line.asked:
        click.echo(usage(line.mode or Mode.HUB), nl=False)
        return 0
    for note in line.notes:
        click.echo(f"tuttihub: {note}", err=True)
    if line.mode is not None and line.mode is not Mode.HUB:
        # JackTrip ends when the other side has said good-bye
        return run_endpoint(ROLES[line.mode], line.host, line.given, line.file, reconnect="silence")
    written = read_file(line.file) if line.file else {}
    config = resolve(overlay(written, line.given))
    from hub.server import run

    return run(config)


def _list_cards() -> int:
    """Print the sound cards that ``--card`` takes."""
    from hub.endpoint.cards import NoSound, cards_table

    try:
        click.echo(cards_table(), nl=False)
    except NoSound as error:
        click.echo(f"tuttihub: no sound cards: {error}", err=True)
        return EXIT_NO_WORKERS
    return 0
