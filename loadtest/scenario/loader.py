"""Scenarios as TOML, and changes to them from a command line.

A file is a ``Scenario``'s fields and these tables, all optional::

    title = "A rehearsal"              fields of Scenario
    [hub]                              fields of Hub
    [service]                          fields of Service
    [format.stereo]                    a Format that sections may refer to by name
    [network.wifi]                     a Network likewise
    [[section]]                        fields of Section, where
    format = "stereo"                      is a name from above, or a table of its own
    up = "wifi"                            likewise, and down
    [[fault]]                          fields of Fault

Every mistake is a ``ScenarioError`` that says in which file and table it is, what stands there
and what may.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from loadtest.scenario.model import (
    MAX_CLIENTS,
    Fault,
    Format,
    Hub,
    Network,
    Scenario,
    ScenarioError,
    Section,
    Sources,
)
from shared.limits import PatchMode

MAX_FILE_BYTES = 1 << 20
SECTION, FAULT, NETWORK, FORMAT = "section", "fault", "network", "format"
_LISTS: Mapping[str, str] = {"sections": SECTION, "faults": FAULT}
"""Fields of Scenario that are tables of another name."""
_SHARED: Mapping[type[Any], str] = {Format: FORMAT, Network: NETWORK}
"""Types of tables that have a name and may be referred to."""

Made = TypeVar("Made")
Tables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one document; ``shared`` holds its tables that have a name, by type."""

    source: str
    shared: dict[type[Any], dict[str, Any]] = field(default_factory=dict)

    def fail(self, place: str, problem: str) -> ScenarioError:
        """The error to raise: source, place (empty: none) and problem."""
        return ScenarioError(f"{self.source}: {place}: {problem}" if place else
                             f"{self.source}: {problem}")  # fmt: skip

    def scenario(self, document: Tables) -> Scenario:
        """The whole document.

        Raises:
            ScenarioError: anything in it is wrong; so do all that follow.
        """
        for kind, name in _SHARED.items():
            tables = self.table(document.get(name, {}), f"[{name}]")
            self.shared[kind] = {
                each: self.made(kind, value, f"[{name}.{each}]") for each, value in tables.items()
            }
        known = {each.name for each in fields(Scenario)} - set(_LISTS)
        self.names(document, known | {SECTION, FAULT, NETWORK, FORMAT}, "", " at the top")
        values = {
            key: self.value(hint, document[key], "", key)
            for key, hint in get_type_hints(Scenario).items()
            if key in document and key in known
        }
        if SECTION in document:
            values["sections"] = self.several(Section, document[SECTION], SECTION)
        if FAULT in document:
            values["faults"] = self.several(Fault, document[FAULT], FAULT)
        return self.construct(Scenario, values, "")

    def several(self, kind: type[Made], value: object, name: str) -> tuple[Made, ...]:
        """The tables of ``[[name]]``, told apart by name, kind or number."""
        if not isinstance(value, list):
            raise self.fail(f"[{name}]", f"write [[{name}]]: there may be several")
        made = []
        for number, each in enumerate(value, 1):
            table = self.table(each, f"[[{name}]] {number}")
            label = table.get("name", table.get("kind"))
            label = repr(_short(label)) if isinstance(label, str) else str(number)
            made.append(self.made(kind, table, f"[[{name}]] {label}"))
        return tuple(made)

    def table(self, value: object, place: str) -> Tables:
        """A value that must be a table."""
        if not isinstance(value, Mapping):
            raise self.fail(place, f"{_shown(value)} is not a table")
        return value

    def names(self, table: Tables, known: Iterable[str], place: str, where: str) -> None:
        """Raises if a key is unknown, naming those that it may have meant."""
        allowed = sorted(known)
        for key in table:
            if key not in allowed:
                problem = f"unknown key {_shown(key)}{where}; {_choice(key, allowed)}"
                raise self.fail(place, problem)

    def made(self, kind: type[Made], value: object, place: str) -> Made:
        """A dataclass from a table: its names, then its values, then what it checks itself."""
        table = self.table(value, place)
        hints = get_type_hints(kind)
        self.names(table, hints, place, "")
        values = {
            key: self.value(hints[key], each, place, key) for key, each in table.items()
        }  # fmt: skip
        missing = [each.name for each in fields(kind)  # type: ignore[arg-type]
                   if each.default is MISSING and each.name not in values]  # fmt: skip
        if missing:
            raise self.fail(place, f"{missing[0]} is missing; {self.allowed(hints[missing[0]])}")
        return self.construct(kind, values, place)

    def construct(self, kind: type[Made], values: dict[str, Any], place: str) -> Made:
        """A dataclass from values of the right types."""
        try:
            return kind(**values)
        except (ValueError, OverflowError) as error:
            raise self.fail(place, str(error)) from None

    def value(self, hint: Any, value: object, place: str, key: str) -> Any:
        """One value of the type that the field has.

        Raises:
            ScenarioError: it is of another type, or none of those allowed.
        """
        if is_dataclass(hint) and isinstance(hint, type):
            if hint in self.shared and isinstance(value, str):
                return self.referred(hint, value, place, key)
            return self.made(hint, value, f"{place}.{key}" if place else f"[{key}]")
        try:
            return _plain(hint, value)
        except (TypeError, ValueError):
            problem = f"{key}: {_shown(value)} is not {self.wanted(hint)}"
            if isinstance(value, str) and isinstance(hint, type) and issubclass(hint, StrEnum):
                close = difflib.get_close_matches(value, [str(each) for each in hint], 1)
                problem += f"; did you mean {close[0]!r}?" if close else ""
            raise self.fail(place, problem) from None

    def referred(self, kind: type[Any], name: str, place: str, key: str) -> Any:
        """What a name in place of a table stands for."""
        shared = self.shared[kind]
        if name not in shared:
            what = f"{key}: there is no [{_SHARED[kind]}.{_short(name)}]"
            raise self.fail(place, f"{what}; {_choice(name, sorted(shared))}")
        return shared[name]

    def wanted(self, hint: Any) -> str:
        """What a value of a type must be, in words."""
        if hint is PatchMode:
            return "one of " + ", ".join(str(int(mode)) for mode in PatchMode)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return "one of " + ", ".join(str(each) for each in hint)
        return _WORDS.get(hint, "a value of its kind")

    def allowed(self, hint: Any) -> str:
        """What a missing value must be, in words."""
        return f"it must be {self.wanted(hint)}"


_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple[str, ...]: "a list of texts",
}


def _plain(hint: Any, value: object) -> Any:
    """A value as a field has it; TypeError or ValueError if it cannot be one."""
    if hint is PatchMode and isinstance(value, int) and not isinstance(value, bool):
        return PatchMode(value)
    if isinstance(hint, type) and issubclass(hint, Enum) and isinstance(value, str):
        return hint(value)
    match value:
        case bool() if hint is bool:
            return value
        case bool():
            raise TypeError
        case int() if hint is int and value.bit_length() <= 64:
            return value
        case int() | float() if hint is float and not math.isnan(value):
            try:
                return float(value)
            except OverflowError:
                raise ValueError from None
        case str() if hint is str:
            return value
        case [*texts] if hint == tuple[str, ...] and all(isinstance(each, str) for each in texts):
            return tuple(texts)
    raise TypeError


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _shown(value: object) -> str:
    """A value for an error message: short, whatever somebody wrote."""
    if isinstance(value, Mapping):
        return "a table"
    try:
        return _short(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a list of lists
        return f"a very large {type(value).__name__}"


def _choice(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, 3)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}allowed: {', '.join(allowed) or 'none'}"


def from_dict(document: Tables, source: str = "scenario") -> Scenario:
    """A scenario from tables as TOML has them.

    Args:
        source: what errors call it.

    Raises:
        ScenarioError: anything in it is wrong.
    """
    return _Reader(source).scenario(document)


def parse(text: str, source: str = "scenario") -> Scenario:
    """A scenario from TOML text; without a name it is called what its source is.

    Raises:
        ScenarioError: it is no TOML, or anything in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ScenarioError(f"{source}: no TOML: nested too deeply") from None
    except ValueError as error:  # wrong syntax, or a number of thousands of digits
        raise ScenarioError(f"{source}: no TOML: {error}") from None
    document.setdefault("name", Path(source).stem or "custom")
    return from_dict(document, source)


def load(path: Path) -> Scenario:
    """A scenario from a TOML file.

    Raises:
        ScenarioError: it cannot be read, or is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ScenarioError(f"{path}: {why}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ScenarioError(f"{path}: longer than {MAX_FILE_BYTES} bytes: no scenario")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8 at byte {error.start}") from None
    return parse(text, str(path))


_OF_SCENARIO: Mapping[str, str] = {
    "seconds": "seconds", "settle": "settle_s", "join_rate": "join_rate", "seed": "seed",
    "burst": "burst", "sources": "sources",
}  # fmt: skip
_OF_HUB: Mapping[str, str] = {
    "mode": "mode", "upmix": "upmix", "period": "period", "rate": "rate_hz", "queue": "queue",
}  # fmt: skip
_OF_FORMAT: Mapping[str, tuple[str, ...]] = {
    "frames": ("frames",), "rate": ("rate_hz",), "channels": ("sends", "wants"),
    "bits": ("bits",), "redundancy": ("redundancy",),
}  # fmt: skip
OVERRIDES = sorted({"clients", *_OF_SCENARIO, *_OF_HUB, *_OF_FORMAT})
"""What ``override`` can change."""


def override(scenario: Scenario, **changes: Any) -> Scenario:
    """A scenario with changes from a command line; what is None stays as it is.

    ``clients`` scales all sections in proportion, at least one each (``scale``). ``frames``,
    ``channels``, ``bits``, ``redundancy`` and ``rate`` go for every section, ``rate`` for the
    hub too. Times stay: what would happen after a shorter window does not happen. Text is
    taken for a number, ``mode`` and ``sources``.

    Raises:
        ScenarioError: an unknown change, a wrong value; it names both.
    """
    reader = _Reader("change")
    reader.names(changes, OVERRIDES, "", "")
    given = {key: value for key, value in changes.items() if value is not None}
    clients = given.pop("clients", None)
    if clients is not None:
        scenario = scale(scenario, clients)
    top = _changed(reader, given, _OF_SCENARIO, Scenario)
    hub = _changed(reader, given, _OF_HUB, Hub)
    own = {
        name: _written(reader, Format, name, key, given[key])
        for key, names in _OF_FORMAT.items()
        if key in given
        for name in names
    }
    try:
        sections = tuple(
            replace(section, format=replace(section.format, **own)) for section in scenario.sections
        )
        return replace(scenario, **top, hub=replace(scenario.hub, **hub), sections=sections)
    except ScenarioError as error:
        raise reader.fail("", str(error)) from None


def _changed(
    reader: _Reader, given: Mapping[str, Any], names: Mapping[str, str], kind: type[Any]
) -> dict[str, Any]:
    return {
        name: _written(reader, kind, name, key, given[key])
        for key, name in names.items()
        if key in given
    }


def _written(reader: _Reader, kind: type[Any], name: str, key: str, value: object) -> Any:
    """A value as it may have been written: '2' is a mode, and a number of bits."""
    hint = get_type_hints(kind)[name]
    if isinstance(value, str) and hint in (int, float, PatchMode):
        with contextlib.suppress(ValueError):  # it is refused below, as it was written
            value = float(value) if hint is float else int(value)
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if hint is Sources and isinstance(value, Sources):
        return value
    return reader.value(hint, value, "", key)


def scale(scenario: Scenario, clients: int) -> Scenario:
    """The same ensemble with so many clients: sections in proportion, at least one each.

    Parts of clients go to those sections that lost most by rounding (largest remainders).

    Raises:
        ScenarioError: fewer clients than sections, or more than can be.
    """
    count = len(scenario.sections)
    if isinstance(clients, bool) or not isinstance(clients, int):
        raise ScenarioError(f"change: clients: {_shown(clients)} is not a whole number")
    if not count <= clients <= MAX_CLIENTS:
        shown = f"{_shown(clients)} is not in {count}..{MAX_CLIENTS}"
        raise ScenarioError(f"change: clients: {shown} (of {count} sections nobody may be empty)")
    shares = [section.clients * clients / scenario.clients for section in scenario.sections]
    sizes = [max(1, math.floor(share)) for share in shares]
    by_remainder = sorted(range(count), key=lambda i: sizes[i] - shares[i])
    for index in by_remainder[: max(0, clients - sum(sizes))]:
        sizes[index] += 1
    while sum(sizes) > clients:  # small sections were given their one
        sizes[
            max(range(count), key=lambda i: sizes[i] - shares[i] if sizes[i] > 1 else -math.inf)
        ] -= 1
    sections = zip(scenario.sections, sizes, strict=True)
    return replace(scenario, sections=tuple(replace(each, clients=size) for each, size in sections))
