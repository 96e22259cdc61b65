"""Fields of requests over the control socket: what they may be, and how others are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from hub.hearing import MAX_NAME_CHARS, Party
from hub.levels import MAX_GAIN, from_db
from hub.pans import Pan
from hub.values import MAX_GAIN_DB, MIN_GAIN_DB, Refused

MISSING = object()

Request = dict[str, Any]
Find = Callable[[int | str], int | None]


class CommandError(Exception):
    """A request that cannot be met.

    Attributes:
        code: for programs: bad-json, bad-version, unknown-op, bad-field, no-client, going,
            not-waiting, no-ban, no-section, no-scene, name-taken, too-many.
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def shown(value: object) -> str:
    """A value as it may stand in an error message, cut short."""
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def wrong(field: str, given: object, allowed: str) -> CommandError:
    """That a field is not what is allowed."""
    return CommandError("bad-field", f"{field}: {shown(given)} is not {allowed}")


def is_number(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool)


def truth(request: Request, field: str) -> bool:
    """True or false."""
    given = request.get(field, MISSING)
    if not isinstance(given, bool):
        raise wrong(field, given, "true or false")
    return given


def truth_or_null(request: Request, field: str) -> bool | None:
    """True, false or null."""
    given = request.get(field, MISSING)
    if given is not None and not isinstance(given, bool):
        raise wrong(field, given, "true, false or null")
    return given


def number(request: Request, field: str, low: float, high: float, default: float) -> float:
    """A number in a range."""
    given = request.get(field, default)
    if not is_number(given) or not low <= given <= high:
        raise wrong(field, given, f"a number in {low:g}..{high:g}")
    return float(given)


def name_in(request: Request, field: str) -> str:
    """A line of text that may be a name."""
    given = request.get(field, MISSING)
    right = isinstance(given, str) and 0 < len(given) <= MAX_NAME_CHARS and given.isprintable()
    if not right or given != given.strip():
        raise wrong(field, given, f"a name of 1..{MAX_NAME_CHARS} printable characters")
    return str(given)


def client_at(given: object, field: str, find: Find) -> int:
    """Slot of the client that a value names."""
    if not isinstance(given, (int, str)) or isinstance(given, bool):
        raise wrong(field, given, "a client's name or the number of a slot")
    slot = find(given)
    if slot is None:
        what = "in this slot" if isinstance(given, int) else "of this name"
        raise CommandError("no-client", f"{field}: {shown(given)}: no client {what} is here")
    return slot


def clients_at(request: Request, field: str, find: Find) -> list[int]:
    """Slots of a list of clients, each once."""
    given = request.get(field, MISSING)
    if not isinstance(given, list):
        raise wrong(field, given, "a list of clients")
    slots = [client_at(client, f"{field}[{k}]", find) for k, client in enumerate(given)]
    if len(set(slots)) < len(slots):
        raise CommandError("bad-field", f"{field}: a client is named twice")
    return slots


def section_at(request: Request, field: str, sections: dict[str, Any]) -> str:
    """A section that there is."""
    given = name_in(request, field)
    if given not in sections:
        raise CommandError("no-section", f"{field}: {shown(given)}: there is no such section")
    return given


def party(request: Request, field: str, find: Find, sections: dict[str, Any]) -> Party:
    """A client, or with ``FIELD_section`` a section."""
    other = f"{field}_section"
    if (field in request) == (other in request):
        raise CommandError("bad-field", f"exactly one of {field}, {other} must be given")
    if other in request:
        return section_at(request, other, sections)
    return client_at(request[field], field, find)


def gain_at(given: object, field: str, *, in_db: bool) -> float | None:
    """A linear gain from a factor or decibels; None for null."""
    if given is None:
        return None
    if in_db:
        if is_number(given) and (
            MIN_GAIN_DB <= given <= MAX_GAIN_DB or given == -math.inf  # type: ignore[operator]
        ):
            return from_db(given)  # type: ignore[arg-type]
        allowed = f"a number of decibels ({MIN_GAIN_DB:g}..{MAX_GAIN_DB:g}), -Infinity or null"
        raise wrong(field, given, allowed)
    if is_number(given) and 0.0 <= given <= MAX_GAIN:  # type: ignore[operator]
        return float(given)  # type: ignore[arg-type]
    raise wrong(field, given, f"a factor (0..{MAX_GAIN:.2f}) or null")


def gain_in(request: Request) -> float | None:
    """The linear gain asked for; None to take the setting back."""
    if ("gain_db" in request) == ("gain" in request):
        raise CommandError("bad-field", "exactly one of gain_db and gain must be given")
    field = "gain_db" if "gain_db" in request else "gain"
    return gain_at(request[field], field, in_db=field == "gain_db")


def pan_in(request: Request) -> float | None:
    """A place between left and right; None to take the setting back."""
    given = request.get("pan", MISSING)
    try:
        return Pan().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"pan: {shown(given)} {refused}") from None
