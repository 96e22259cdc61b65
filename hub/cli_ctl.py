"""The command ``tuttihub ctl``: whatever a running hub can be asked, from a shell.

Operations, their fields and what those may be come from ``hub.messages``; how a word of the command
line becomes a value is in ``hub.words``.
"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from hub.cli import Ended, print_json, remote, run_client
from hub.exits import EXIT_WRONG_OPTION
from shared.protocol import DEFAULT_TCP_PORT

if TYPE_CHECKING:
    from hub.client import HubClient
    from hub.connection import HubRefused

EXIT_REFUSED = 3
EVENTS = "events"
COMPLETION_S = 0.5
"""Whoever has pressed the tabulator waits no longer for a hub."""
NAMED = frozenset({"sections", "hearing"})
"""Lists of slots, which people know by names."""
LISTINGS = {"no-client": "clients", "no-section": "sections", "no-scene": "scenes"}
"""What lists all that there is, by why a request was refused."""
DECIBELS = {"gain": "gain dB"}
"""Heads of columns that people read in another unit."""


class Wrong(Ended):
    """What was asked for is no operation, or a field of it is wrong."""

    exit_code = EXIT_WRONG_OPTION


class Denied(Ended):
    """The hub understood, and would not."""

    exit_code = EXIT_REFUSED


def _complete_op(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    from hub.messages.requests import OPS

    told = {op: kind.__doc__ for op, kind in OPS.items()} | {EVENTS: "what happens"}
    return [CompletionItem(op, help=help) for op, help in told.items() if op.startswith(given)]


def _complete_field(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    from hub.messages.requests import fields_of
    from hub.words import takes_client

    op, words = ctx.params.get("op") or "", ctx.params.get("fields") or ()
    field, named, begun = given.rpartition("=")
    clients = _present(ctx.params) if takes_client(op, words, field) else []
    whole = [f"{field}{named}{name}" for name in clients if name.startswith(begun)]
    names = [f"{name}=" for name in fields_of(op)]
    return [CompletionItem(word) for word in (*whole, *(n for n in names if n.startswith(given)))]


def _present(params: Mapping[str, Any]) -> list[str]:
    """Clients of the hub, by names that a shell takes for one word; none if it does not answer."""
    port = params.get("port") or DEFAULT_TCP_PORT
    from hub.connection import ControlError

    try:
        names = run_client(params.get("control"), port, COMPLETION_S, _names)
    except (Ended, ControlError):
        return []
    return sorted(name for name in names.values() if name == shlex.quote(name))


def _list_ops(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value:
        return
    from hub.messages.requests import OPS
    from hub.words import usage

    for op in OPS:
        click.echo(f"  {usage(op)}")
    click.echo(f"  {EVENTS} [TOPIC]...")
    ctx.exit()


@click.command(
    context_settings={"ignore_unknown_options": True},  # else -6 would be taken for an option
    epilog="""\b
Examples:
  tuttihub ctl mute Anna on                by name or slot
  tuttihub ctl gain Anna -6                6 dB softer for everybody
  tuttihub ctl gain Anna off listener=Bob  for Bob alone; `default` takes it back
  tuttihub ctl ban Mallory 2h reason="plays the vuvuzela"
  tuttihub ctl section violins Anna,Berta
  tuttihub ctl hear listener=Carl source_section=violins gain_db=-6 pan=-40
  tuttihub ctl scene-recall overture seconds=3
  tuttihub ctl bans
  tuttihub ctl events join leave           what happens, a JSON object a line, until Ctrl-C

\b
Fields are named, or stand in the order that --ops shows. Words: on, off, default, 90s, 2h, Anna,3;
anything else may be JSON. Exit codes: 0 done, 1 no hub answered, 2 a wrong operation or field,
3 the hub refused. Completion for bash: eval "$(_TUTTIHUB_COMPLETE=bash_source tuttihub)"; also
zsh_source, fish_source.
""",
)
@remote
@click.option("--json", "as_json", is_flag=True, help="Print the result, as JSON.")
@click.option(
    "--ops", is_flag=True, is_eager=True, expose_value=False, callback=_list_ops,
    help="List all operations with their fields.",
)  # fmt: skip
@click.argument("op", shell_complete=_complete_op)
@click.argument("fields", nargs=-1, metavar="[[FIELD=]VALUE]...", shell_complete=_complete_field)
def ctl(
    control: str | None, port: int, timeout: float, as_json: bool, op: str, fields: tuple[str, ...]
) -> None:
    """Ask a running hub for any operation of docs/control.md."""
    from msgspec import to_builtins

    from hub.connection import HubRefused
    from hub.words import WrongWord, parse_words

    names: dict[int, str] = {}
    known: list[str] = []
    sections: list[str] = []

    async def ask(hub: HubClient) -> dict[str, Any]:
        try:
            result = await hub.request(op, **given)
        except HubRefused as refused:
            if listing := LISTINGS.get(refused.code):
                listed = await hub.request(listing)
                known.extend(row["name"] for row in listed[listing])
            if op == "hear":
                sections.extend(row["name"] for row in (await hub.request("sections"))["sections"])
            raise
        if op in NAMED and not as_json:
            names.update(await _names(hub))
        return result

    async def listen(hub: HubClient) -> None:
        await (
            hub.ping()
        )  # over TCP a hub that is not there, or a key that is refused, shows only so
        try:
            stream = hub.events(*fields)
        except ValueError as error:
            raise Wrong(str(error)) from None
        async for told in stream:
            line = {**to_builtins(told), "event": told.event.topic, **told.event.fields()}
            click.echo(json.dumps(line, ensure_ascii=False))

    if op == EVENTS:
        with contextlib.suppress(KeyboardInterrupt):
            run_client(control, port, timeout, listen)
        return
    try:
        given = parse_words(op, fields)
    except WrongWord as error:
        raise Wrong(str(error)) from None
    try:
        result = run_client(control, port, timeout, ask)
    except HubRefused as refused:
        raise _refusal(op, refused, known, sections) from None
    for line in _remarks(op, result):
        click.echo(line, err=True)
    if as_json or op in ("status", "clients", "ping"):
        print_json(result)
    else:
        _print_lists(_with_names(result, names) if op in NAMED else result)


async def _names(hub: HubClient) -> dict[int, str]:
    """Of all clients, by slot."""
    listed = await hub.request("clients")
    return {client["slot"]: client["name"] for client in listed["clients"]}


def _refusal(op: str, refused: HubRefused, known: list[str], sections: list[str]) -> Ended:
    """What the hub said, and what would have been right in a shell.

    Args:
        known: names of that of which the hub knows none by the given one.
        sections: of which one may have been given where a client was wanted.
    """
    from hub.messages.errors import WRONG
    from hub.messages.requests import OPS
    from hub.words import did_you_mean, shell_words, usage

    said, hint = str(refused), ""
    if refused.code in LISTINGS:
        field, _, rest = said.partition(": ")
        with contextlib.suppress(ValueError):  # a name cut short
            given = json.loads(rest.rpartition(": ")[0])
            hint = did_you_mean(given, known)
            if refused.code == "no-client" and given in sections:
                hint = f"; as a section it is {field}_section={shlex.quote(given)}"
    elif refused.code == "bad-field" and op in OPS:
        words = shell_words(op, said.partition(":")[0])
        hint = f"; in a shell also {words}" if words else ""
        hint += f"; usage: tuttihub ctl {usage(op)}"
    kind = Wrong if refused.code in WRONG else Denied
    return kind(f"{said} ({refused.code}){hint}")


def _with_names(result: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """Lists with who is meant instead of slots, and with gains in decibels."""

    def shown(key: str, value: Any) -> Any:
        if key in ("listener", "source") and isinstance(value, int):
            return names.get(value, value)
        if key == "members":
            return [names.get(slot, slot) for slot in value]
        if key == "gain" and value is not None:
            return "off" if value <= 0 else f"{20 * math.log10(value):.1f}"
        return value

    return {
        name: [{DECIBELS.get(key, key): shown(key, row[key]) for key in row} for row in rows]
        for name, rows in result.items()
    }


def _remarks(op: str, result: Mapping[str, Any]) -> list[str]:
    """What whoever asked may not expect."""
    told = []
    if result.get("saved") is False:
        told.append("warning: done, but not saved: it ends with the hub (see its log)")
    if result.get("changed") is False:
        told.append("nothing to do: it was so already")
    if others := result.get("others"):
        told.append(f"{others} others here come from there, and could not come back")
    if result.get("on") is False and (held := result.get("held")):
        told.append(f"{held} still wait: `tuttihub ctl admit` lets each in")
    return told


def _print_lists(result: Mapping[str, Any]) -> None:
    """What was asked to be listed, as tables; all else was only to be done."""
    for name, rows in result.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            continue
        if not rows and name == "kicked":
            continue
        if not rows:
            click.echo(f"no {name}")
            continue
        from rich.table import Table
        from rich.text import Text

        from hub.status import make_console

        table = Table(box=None, pad_edge=False, header_style="bold")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        for column in columns:
            table.add_column(column.removesuffix("_s"))
        for row in rows:
            table.add_row(*(Text(_cell(column, row.get(column))) for column in columns))
        make_console().print(table)


def _cell(column: str, value: object) -> str:
    if column == "until_s" and value is None:
        return "for good"
    if value is None or value == "":
        return "–"
    if column in ("since_s", "until_s") and isinstance(value, (int, float)):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
