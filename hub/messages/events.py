"""Events as they come over the wire: shapes of ``hub.events`` in an envelope."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from hub.events import EVENTS, Event
from hub.messages.fields import VERSION


class Envelope(Struct, frozen=True):
    """What all events have.

    Attributes:
        number: counts the events of a topic: a gap is what was missed.
        at_s: Unix time.
        by: whose key ordered it over TCP, ``osc``, or null.
    """

    v: int
    event: str
    number: int
    at_s: float
    by: str | None = None


class Told(Struct, frozen=True):
    """An event, and when and by whom; see ``Envelope``."""

    number: int
    at_s: float
    by: str | None
    event: Event


def _kinds(kind: type[Event]) -> tuple[str | None, ...]:
    """What stands in ``what`` of this shape."""
    return get_args(get_type_hints(kind).get("what")) or (None,)


SHAPES: dict[tuple[str, str | None], type[Event]] = {
    (kind.topic, what): kind for kind in EVENTS for what in _kinds(kind)
}
"""By topic and what."""


def told(data: bytes) -> Told | None:
    """An event from its JSON; None if it is of a kind that is not known here."""
    try:
        raw: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        head = msgspec.convert(raw, Envelope)
        kind = SHAPES.get((head.event, raw.get("what"))) or SHAPES[head.event, None]
        if head.v != VERSION:
            return None
        return Told(head.number, head.at_s, head.by, msgspec.convert(raw, kind))
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
