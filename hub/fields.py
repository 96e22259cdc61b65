"""What fields of requests mean at a hub: slots, sections, linear gains.

Their types have been checked (``hub.messages.reading``); here is refused what is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from hub.hearing import Party
from hub.levels import from_db
from hub.messages.errors import CommandError, shown, wrong
from hub.messages.fields import SILENCE
from hub.messages.reading import allowed
from hub.messages.requests import Request
from hub.values import Kind, Refused

Find = Callable[[int | str], int | None]
Client = int | str


def named(request: Request[Any], field: str) -> str:
    """A line of text that may be a name."""
    given = str(getattr(request, field))
    if not given.isprintable() or given != given.strip():
        raise wrong(field, given, allowed(type(request), field))
    return given


def parsed(request: Request[Any], field: str, kind: Kind) -> Any:
    """What a kind of setting makes of a field."""
    given = getattr(request, field)
    try:
        return kind.parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"{field}: {shown(given)} {refused}") from None


def client_at(given: Client, field: str, find: Find) -> int:
    """Slot of the client that a value names."""
    slot = find(given)
    if slot is None:
        what = "in this slot" if isinstance(given, int) else "of this name"
        raise CommandError("no-client", f"{field}: {shown(given)}: no client {what} is here")
    return slot


def clients_at(given: Sequence[Client], field: str, find: Find) -> list[int]:
    """Slots of a list of clients, each once."""
    slots = [client_at(client, f"{field}[{k}]", find) for k, client in enumerate(given)]
    if len(set(slots)) < len(slots):
        raise CommandError("bad-field", f"{field}: a client is named twice")
    return slots


def section_at(request: Request[Any], field: str, sections: Collection[str]) -> str:
    """A section that there is."""
    given = named(request, field)
    if given not in sections:
        raise CommandError("no-section", f"{field}: {shown(given)}: there is no such section")
    return given


def party(request: Request[Any], field: str, find: Find, sections: Collection[str]) -> Party:
    """A client, or with ``FIELD_section`` a section."""
    given: Client | UnsetType = getattr(request, field)
    if given is UNSET:
        return section_at(request, f"{field}_section", sections)
    return client_at(given, field, find)


def linear(gain_db: float | str | UnsetType | None, gain: float | UnsetType | None) -> float | None:
    """The linear gain that is asked for in decibels or as a factor; None for null."""
    if gain is not UNSET:
        return gain
    return None if gain_db is None or gain_db is UNSET else factor(gain_db)


def factor(gain_db: float | str | UnsetType) -> float:
    """The factor of decibels."""
    return 0.0 if gain_db == SILENCE else from_db(float(gain_db))  # type: ignore[arg-type]
