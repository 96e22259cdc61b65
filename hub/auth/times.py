"""When a user may join: ``*``, or days and hours such as ``Mo0800-2300,Su*``; sans-IO.

As with JackTrip's own hub hours end sharp (at 23:00:00, not with the minute), no stretch goes
beyond midnight, and an item with a blank in it is no item.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
ALWAYS = "*"
_HOURS = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])-([01][0-9]|2[0-3])([0-5][0-9])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of time.

    Attributes:
        day: 0 for Monday .. 6 for Sunday; None for every day.
        first, last: both included.
    """

    day: int | None
    first: time = time.min
    last: time = time.max

    def includes(self, when: datetime) -> bool:
        if self.day is not None and self.day != when.weekday():
            return False
        return self.first <= when.time() <= self.last


@dataclass(frozen=True, slots=True)
class Times:
    """All stretches of one user; none: never."""

    windows: tuple[Window, ...]

    def include(self, when: datetime) -> bool:
        """Whether the user may join then.

        Args:
            when: local time of the hub.
        """
        return any(window.includes(when) for window in self.windows)


def parse_times(text: str) -> tuple[Times, list[str]]:
    """What a credentials file says of a user's times, and what of it is wrong.

    Wrong items match never and take nothing from the others; an empty text is 'never'.
    """
    windows, problems = [], []
    for item in text.split(",") if text else ():
        try:
            windows.append(_window(item))
        except ValueError as error:
            problems.append(f"{item!r} {error}")
    return Times(tuple(windows)), problems


def _window(item: str) -> Window:
    if item == ALWAYS:
        return Window(None)
    day, hours = item[:2], item[2:]
    if day not in DAYS:
        raise ValueError(f"is not '*', and begins with no day ({' '.join(DAYS)})")
    if hours == ALWAYS:
        return Window(DAYS.index(day))
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise ValueError("has neither '*' nor HHMM-HHMM (0000..2359) after its day")
    first, last = (time(int(found[k]), int(found[k + 1])) for k in (1, 3))
    if last < first:
        raise ValueError("ends before it begins; no stretch goes beyond midnight, so write two")
    return Window(DAYS.index(day), first, last)
