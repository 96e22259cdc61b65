"""``tuttihub why`` for people: what is wrong with whom, in full, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from hub.conditions.condition import advice
from hub.messages.state import (
    ClientState,
    ConditionState,
    Gone,
    HubState,
    Status,
    TurnedAway,
    Words,
)
from hub.status import CONDITION_STYLES, make_console, span

Entry = ClientState | Gone | TurnedAway


def concerned(state: Status, client: int | str | None) -> list[Entry]:
    """Those to explain: everybody in trouble, or one, here or gone.

    Args:
        client: name, slot or address; None: all with a condition.

    Returns:
        Entries of ``clients``, ``hub.departures`` and ``hub.turned_away``; empty if there is
        nobody like that.
    """
    clients, departures, refused = state.clients, state.hub.departures, state.hub.turned_away
    if client is None:
        return [*(entry for entry in clients if entry.conditions), *departures, *refused]
    here = [entry for entry in clients if client in (entry.slot, entry.name)]
    by_address = [entry for entry in clients if client == entry.address]
    gone = [
        entry for entry in reversed(departures) if client in (entry.slot, entry.name, entry.address)
    ]
    away = [entry for entry in refused if client == entry.address]
    return [*(here or by_address)] or [*gone[:1]] or [*away]


def print_why(state: Status, entries: Sequence[Entry], console: Console | None = None) -> None:
    """Print the hub's own conditions, then those of the entries from ``concerned``."""
    console = console or make_console()
    if state.hub.conditions:
        console.print(Text("the hub", style="bold"))
        _print_conditions(state, state.hub, console)
    for entry in entries:
        console.print(_heading(entry))
        if entry.conditions:
            _print_conditions(state, entry, console)
        else:
            console.print(Padding("nothing is wrong", (0, 0, 0, 2), expand=False))
    if not entries and not state.hub.conditions:
        console.print("nothing is wrong with anybody")


def _heading(entry: Entry) -> Text:
    if isinstance(entry, TurnedAway):
        heading = Text(entry.address, style="bold")
        return heading.append(f": turned away {span(entry.ago_s)} ago", "dim")
    heading = Text(str(entry.name), style="bold")
    where = f", slot {entry.slot}, {entry.address}"
    if isinstance(entry, Gone):
        return heading.append(f"{where}: left {span(entry.ago_s)} ago, {entry.reason}", "dim")
    return heading.append(f"{where}: {entry.state}", "not bold")


def _print_conditions(state: Status, entry: Entry | HubState, console: Console) -> None:
    slot = entry.slot if isinstance(entry, ClientState | Gone) else None
    for condition in entry.conditions:
        words = state.conditions[condition.condition]
        for line, indent in _lines(condition, words, slot):
            console.print(Padding(line, (0, 0, 0, indent), expand=False))


def _lines(condition: ConditionState, words: Words, slot: int | None) -> Iterator[tuple[Text, int]]:
    """Lines of one condition, and how far each is indented."""
    heading = Text(condition.condition, style=CONDITION_STYLES[condition.severity])
    yield heading.append(f"  {condition.severity}, for {span(condition.for_s)}", "dim"), 2
    yield Text(words.says), 4
    if condition.detail:
        yield Text(f"({condition.detail})"), 4
    yield Text("musician: ", style="bold").append(words.musician, "not bold"), 4
    yield Text("hub: ", style="bold").append(advice(words.ops, slot), "not bold"), 4
