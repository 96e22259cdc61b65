"""What a condition is.

::

                    holds for raise_s, in looks           does not hold for clear_s
    not raised ────────────────────────────────► raised ────────────────────────────► not raised

Looks at which it does not hold count for nothing as long as there are less than ``clear_s``
of them in a row; so what happens now and then is raised too, and stays raised between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from hub.conditions.looks import Flags, View


class Severity(IntEnum):
    """How bad it is."""

    INFO = 0
    """As somebody wants it, or harmless; but somebody may wonder."""
    WARNING = 1
    """Heard, or hearing, but not well."""
    ERROR = 2
    """Not heard, or hears nothing."""


def never(view: View) -> Flags:
    """Nobody who is here has it: it is why somebody is not here."""
    return np.zeros(len(view.present), np.bool_)


def _no_detail(view: View, slot: int) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One trouble with a name.

    Attributes:
        slug: its name, for ever: scripts and alarms know it.
        says: one plain sentence.
        musician: what the musician can do.
        ops: what who runs the hub can do; CLIENT stands for the client's slot.
        holds: at which slots it holds now; of the hub as a whole, an array of one.
        raise_s: how long it must hold to be raised; 0: the first look is enough.
        clear_s: how long it must not hold to be cleared; 0: at once.
        detail: the figures behind it, for one slot.
    """

    slug: str
    severity: Severity
    says: str
    musician: str
    ops: str
    holds: Callable[[View], Flags]
    raise_s: float = 2.0
    clear_s: float = 3.0
    detail: Callable[[View, int], str] = _no_detail


@dataclass(frozen=True, slots=True)
class Raised:
    """A condition that is raised.

    Attributes:
        since_s: CLOCK_MONOTONIC.
    """

    condition: Condition
    since_s: float
    view: View
    slot: int

    @property
    def detail(self) -> str:
        """The figures of the last look; to be asked for on the supervisor's own thread."""
        return self.condition.detail(self.view, self.slot)

    def described(self, now_s: float) -> dict[str, Any]:
        """As ``tuttihub status --json`` has it."""
        age_s = max(0.0, now_s - self.since_s)
        return describe(self.condition, self.detail, age_s)


def advice(ops: str, slot: object) -> str:
    """What who runs the hub can do; commands that concern the client have its slot."""
    return ops if slot is None else ops.replace("CLIENT", str(slot))


def describe(condition: Condition, detail: str, age_s: float) -> dict[str, Any]:
    """That somebody has a condition, of JSON's types; ``hub.conditions.words`` has its texts."""
    return {
        "condition": condition.slug,
        "severity": condition.severity.name.lower(),
        "for_s": round(age_s, 1),
        "detail": detail,
    }
