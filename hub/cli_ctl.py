"""The command ``tuttihub ctl``: the whole language of the control socket, from a shell."""

from __future__ import annotations

import json
from typing import Any

import click
from click.shell_completion import CompletionItem

from hub.cli import Ended, remote
from hub.endpoint import find_control

EXIT_UNREACHABLE, EXIT_WRONG, EXIT_REFUSED = 1, 2, 3
WRONG_CODES = frozenset({"bad-field", "unknown-op", "bad-json", "bad-version"})
LISTS = frozenset({"members", "add", "remove", "listeners", "sources"})
MAX_DIGITS = 9
"""Of a slot's number."""
TEXTS = frozenset({"name", "reason", "account"})
EVENTS = "events"


class Wrong(Ended):
    """What was asked for is no operation, or a field of it is wrong."""

    exit_code = EXIT_WRONG


class Denied(Ended):
    """The hub understood, and would not."""

    exit_code = EXIT_REFUSED


def _fields(op: str) -> tuple[str, ...]:
    from hub.commands import fields_of

    return fields_of().get(op, ())


def _complete_op(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    from hub.commands import fields_of

    return [CompletionItem(op) for op in (*fields_of(), EVENTS) if op.startswith(given)]


def _complete_field(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    names = [f"{name}=" for name in _fields(ctx.params.get("op", ""))]
    return [CompletionItem(name) for name in names if name.startswith(given)]


def parse_field(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``: JSON, or else text; of lists also 'Anna,Berta'.

    Raises:
        click.BadParameter: it is none.
    """
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="FIELD")
    if name in ("v", "id", "op", "self"):
        raise click.BadParameter(f"{name!r} is none of an operation's own", param_hint="FIELD")
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = [_scalar(part) for part in value.split(",")] if name in LISTS else value
    if name in TEXTS and not isinstance(parsed, str):
        parsed = value  # 12 is a name, too
    return name, [parsed] if name in LISTS and not isinstance(parsed, list) else parsed


def _scalar(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else text


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  tuttihub ctl section name=violins members=Anna,Berta
  tuttihub ctl hear listener=Carl source_section=violins gain_db=-6 pan=-40
  tuttihub ctl hear listener=Carl source=Anna soloed=true
  tuttihub ctl scene-save name=overture
  tuttihub ctl scene-recall name=overture seconds=3
  tuttihub ctl events                      what happens, a JSON object a line, until Ctrl-C

\b
Exit codes: 0 done, 1 no hub answered, 2 a wrong operation or field, 3 the hub refused.
Completion for bash: eval "$(_TUTTIHUB_COMPLETE=bash_source tuttihub)"; also zsh_, fish_source.
""",
)
@remote
@click.option("--json", "as_json", is_flag=True, help="Print the result, as JSON.")
@click.argument("op", shell_complete=_complete_op)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...", shell_complete=_complete_field)
def ctl(
    control: str | None, port: int, timeout: float, as_json: bool, op: str, fields: tuple[str, ...]
) -> None:
    """Ask a running hub for any operation of docs/control.md."""
    from hub.client import ControlError, HubClient, HubRefused

    given = dict(parse_field(text) for text in fields)
    endpoint = control or find_control(port)
    try:
        with HubClient(endpoint, timeout) as hub:
            if op == EVENTS:
                _print_events(hub)
                return
            result = hub.request(op, **given)
    except HubRefused as refused:
        kind = Wrong if refused.code in WRONG_CODES else Denied
        raise kind(f"{refused} ({refused.code})") from None
    except ControlError as error:
        raise Ended(str(error)) from None
    if result.get("saved") is False:
        click.echo("warning: done, but not saved: it ends with the hub (see its log)", err=True)
    if as_json or op in ("status", "clients", "sections", "hearing", "scenes", "bans", "ping"):
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def _print_events(hub: Any) -> None:
    try:
        for event in hub.events():
            click.echo(json.dumps(event, ensure_ascii=False))
    except KeyboardInterrupt:
        return
