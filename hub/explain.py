"""``tuttihub why`` for people: what is wrong with whom, in full, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from hub.conditions.condition import advice
from hub.status import CONDITION_STYLES, make_console, span


def concerned(state: Mapping[str, Any], client: int | str | None) -> list[dict[str, Any]]:
    """Those to explain: everybody in trouble, or one, here or gone.

    Args:
        state: what ``hub.snapshot.hub_status`` made.
        client: name, slot or address; None: all with a condition.

    Returns:
        Entries of ``clients``, ``hub.departures`` and ``hub.turned_away``; empty if there is
        nobody like that.
    """
    clients: list[dict[str, Any]] = state["clients"]
    departures: list[dict[str, Any]] = state["hub"]["departures"]
    refused: list[dict[str, Any]] = state["hub"]["turned_away"]
    if client is None:
        return [entry for entry in clients if entry["conditions"]] + departures + refused
    here = [entry for entry in clients if client in (entry["slot"], entry["name"])]
    by_address = [entry for entry in clients if client == entry["address"]]
    gone = [
        entry
        for entry in reversed(departures)
        if client in (entry["slot"], entry["name"], entry["address"])
    ]
    away = [entry for entry in refused if client == entry["address"]]
    return here or by_address or gone[:1] or away


def print_why(
    state: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print the hub's own conditions, then those of the entries from ``concerned``."""
    console = console or make_console()
    if state["hub"]["conditions"]:
        console.print(Text("the hub", style="bold"))
        _print_conditions(state, state["hub"], console)
    for entry in entries:
        console.print(_heading(entry))
        if entry["conditions"]:
            _print_conditions(state, entry, console)
        else:
            console.print(Padding("nothing is wrong", (0, 0, 0, 2), expand=False))
    if not entries and not state["hub"]["conditions"]:
        console.print("nothing is wrong with anybody")


def _heading(entry: Mapping[str, Any]) -> Text:
    if "name" not in entry:
        heading = Text(entry["address"], style="bold")
        return heading.append(f": turned away {span(entry['ago_s'])} ago", "dim")
    heading = Text(str(entry["name"]), style="bold")
    where = f", slot {entry['slot']}, {entry['address']}"
    if "ago_s" in entry:
        return heading.append(f"{where}: left {span(entry['ago_s'])} ago, {entry['reason']}", "dim")
    return heading.append(f"{where}: {entry['state']}", "not bold")


def _print_conditions(state: Mapping[str, Any], entry: Mapping[str, Any], console: Console) -> None:
    for condition in entry["conditions"]:
        words = state["conditions"][condition["condition"]]
        for line, indent in _lines(condition, words, entry.get("slot")):
            console.print(Padding(line, (0, 0, 0, indent), expand=False))


def _lines(
    condition: Mapping[str, Any], words: Mapping[str, str], slot: int | None
) -> Iterator[tuple[Text, int]]:
    """Lines of one condition, and how far each is indented."""
    heading = Text(condition["condition"], style=CONDITION_STYLES[condition["severity"]])
    yield heading.append(f"  {condition['severity']}, for {span(condition['for_s'])}", "dim"), 2
    yield Text(words["says"]), 4
    if condition["detail"]:
        yield Text(f"({condition['detail']})"), 4
    yield Text("musician: ", style="bold").append(words["musician"], "not bold"), 4
    yield Text("hub: ", style="bold").append(advice(words["ops"], slot), "not bold"), 4
