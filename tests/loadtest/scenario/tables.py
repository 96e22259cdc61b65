"""The inverse of the loader: the tables that a scenario is read from."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from loadtest.scenario.model import Scenario
from shared.limits import PatchMode

_LISTS = {"sections": "section", "faults": "fault"}


def to_dict(scenario: Scenario) -> dict[str, Any]:
    """The tables that ``from_dict`` makes this scenario of; defaults are left out."""
    document = _tables(scenario)
    for name, table in _LISTS.items():
        entries = [_tables(each) for each in getattr(scenario, name)]
        document.pop(name, None)
        if entries:
            document[table] = entries
    return document


def _tables(value: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for each in fields(value):
        own = getattr(value, each.name)
        if own == each.default and each.name not in ("name", "clients"):
            continue
        if is_dataclass(own):
            own = _tables(own)
        elif isinstance(own, PatchMode):
            own = int(own)
        elif isinstance(own, Enum):
            own = str(own.value)
        elif isinstance(own, tuple):
            own = list(own)
        table[each.name] = own
    return table
