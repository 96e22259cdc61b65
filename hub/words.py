"""Words of a command line as fields of a request, by the types of ``hub.messages``.

``gain Anna off listener=Bob`` is ``{"source": "Anna", "gain_db": -inf, "listener": "Bob"}``: words
without a name stand for the fields in their order.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

from msgspec import structs

from hub.messages.reading import metas
from hub.messages.requests import OPS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NAMED = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)
_TIME = re.compile(r"(?:[0-9]{1,6}[smhdw])+")
_DECIBELS = re.compile(r"[-+0-9.]+ ?dB", re.IGNORECASE)
_SWITCH = {"on": True, "off": False}
_OURS = ("v", "id", "op", "self")
_SHELL_WORDS = {
    "bool": "on or off",
    "bool or null": "on, off or default",
    "decibels": "off (silence) or default",
    "factor": "default",
    "pan": "default",
    "filling": "default",
    "ban time": "90s, 30m, 2h, 7d, 4w or default",
}
"""What ``parse_word`` makes values of, by the titles of types."""
MAX_DIGITS = 9
"""Of a slot's number."""
MAX_NEAR = 3
"""Names that are proposed instead of one that nobody has."""


class WrongWord(ValueError):
    """A word that stands for no field."""


def order_of(op: str) -> tuple[str, ...]:
    """Fields in the order in which they may be given without their names.

    Required ones come first; of those of which one must be given, the first is meant.
    """
    kind = OPS.get(op)
    if kind is None:
        return ()
    first = {group[0] for group in kind.one_of}
    others = {name for group in kind.one_of for name in group[1:]}
    fields = [field for field in structs.fields(kind) if field.name not in others]
    wanted = [field.name for field in fields if field.required or field.name in first]
    return (*wanted, *(field.name for field in fields if field.name not in wanted))


def usage(op: str) -> str:
    """An operation with its fields, as ``tuttihub ctl --ops`` lists it."""
    kind = OPS[op]
    groups = {group[0]: group for group in kind.one_of}
    required = {field.name for field in structs.fields(kind) if field.required}
    words = [op]
    for name in order_of(op):
        told = "|".join(groups.get(name, (name,)))
        words.append(told if name in required or name in groups else f"[{told}]")
    return " ".join(words)


def shell_words(op: str, name: str) -> str:
    """Words that may stand for a field's values; nothing if there are none but JSON."""
    return _SHELL_WORDS.get(_title(op, name), "")


def did_you_mean(given: object, names: Iterable[str]) -> str:
    """The names nearest to one that nobody has, as the end of a sentence; nothing if none is near.

    Upper and lower case do not count, nor what is missing at the end.
    """
    if not isinstance(given, str) or not given:
        return ""
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    begun = [folded for folded in by_folded if folded.startswith(given.casefold())]
    near = begun or difflib.get_close_matches(given.casefold(), by_folded, MAX_NEAR)
    shown = [json.dumps(name, ensure_ascii=False) for one in near for name in by_folded[one]]
    return f"; did you mean {' or '.join(shown[:MAX_NEAR])}?" if shown else ""


def parse_words(op: str, words: Sequence[str]) -> dict[str, Any]:
    """Fields of a request.

    Raises:
        WrongWord: one stands for no field, or a field is given twice.
    """
    if op not in OPS and any(_NAMED.fullmatch(word) is None for word in words):
        near = difflib.get_close_matches(op, OPS, 1)
        hint = f"; {near[0]!r} is the nearest" if near else ""
        raise WrongWord(f"{op!r}: there is no such operation{hint} (--ops lists them)")
    fields: dict[str, Any] = {}
    nameless = []
    for word in words:
        named = _NAMED.fullmatch(word)
        if named is None:
            nameless.append(word)
            continue
        name, value = named.groups()
        if name in _OURS:
            raise WrongWord(f"{name!r} is none of an operation's own fields")
        if name in fields:
            raise WrongWord(f"{name!r} is given twice")
        fields[name] = parse_word(op, name, value)
    groups = OPS[op].one_of if op in OPS else ()
    told = {name for group in groups if set(group) & set(fields) for name in group} | set(fields)
    free = [name for name in order_of(op) if name not in told]
    if len(nameless) > len(free):
        extra = nameless[len(free)]
        raise WrongWord(f"{extra!r} is one too many for {op!r}: FIELD=VALUE names its field")
    return fields | {
        name: parse_word(op, name, word) for name, word in zip(free, nameless, strict=False)
    }


def parse_word(op: str, name: str, text: str) -> Any:
    """The value that a word stands for in a field; JSON where its type says nothing else."""
    match _title(op, name):
        case "name" | "reason" | "account" | "network":
            return text
        case "client":
            return _client(text)
        case "clients":
            value = _json(text)
            return value if isinstance(value, list) else [_client(one) for one in text.split(",")]
        case "bool" | "bool or null" if text in _SWITCH:
            return _SWITCH[text]
        case "decibels" if text == "off":
            return -math.inf
        case "decibels" if _DECIBELS.fullmatch(text):
            text = text[:-2].strip()
        case "ban time" if _TIME.fullmatch(text):
            parts = re.findall(r"([0-9]+)([smhdw])", text)
            return sum(int(number) * _UNITS[unit] for number, unit in parts)
    return None if text == "default" else _json(text)


def takes_client(op: str, words: Sequence[str], name: str = "") -> bool:
    """Whether a word stands for a client.

    Args:
        words: of the operation that stand before it.
        name: of its field, if it is given with it; else its place tells.
    """
    if not name:
        named = [match[1] for word in words if (match := _NAMED.fullmatch(word))]
        free = [field for field in order_of(op) if field not in named]
        nameless = len(words) - len(named)
        name = free[nameless] if nameless < len(free) else ""
    return _title(op, name) in ("client", "clients")


def _title(op: str, name: str) -> str:
    """Of the field's type; nothing if it is unknown."""
    kind = OPS.get(op)
    hint = get_type_hints(kind, include_extras=True).get(name) if kind else None
    return next((meta.title for meta in metas([hint]) if meta.title), "")


def _client(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else text


def _json(text: str) -> Any:
    """What it is as JSON, or else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
