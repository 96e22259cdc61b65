"""Which monitor mix is whose: numbers for the mixes that all who go by the same rules share.

Who hears by the rules of the same sections, in the same order, has the same *monitor*
(``workers.monitors``). Its number stays while anybody hears it, and until all who were given
another have been cross-faded; then it may be another's. Pure logic, ``now_s`` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.hearing import Entry, Party

CLAIM_S = 1.0
Tables = tuple[Party, ...]


@dataclass(eq=False, slots=True)
class Monitor:
    """A monitor mix.

    Attributes:
        tables: the sections whose rules make it, nearest first.
        row: what it gives of single sources, as written; None: nothing yet. One that is empty is
            the bus: who hears it keeps it when the first comes that its rules tell of.
        listeners: how many hear it; free_s: when nobody does any more.
    """

    number: int
    tables: Tables
    row: dict[int, Entry] | None = None
    listeners: int = 0
    free_s: float = 0.0


class Monitors:
    """Monitors in use.

    Args:
        capacity: numbers are below it, from 1 on.
    """

    def __init__(self, capacity: int) -> None:
        self.high = 1
        """One more than the highest number that was ever used."""
        self._capacity = capacity
        self._known: dict[Tables, Monitor] = {}
        self._of: dict[int, Monitor] = {}  # by listener

    def of(self, listener: int) -> Monitor | None:
        """The one that a listener hears; None: the bus."""
        return self._of.get(listener)

    def find(self, tables: Tables, now_s: float) -> Monitor | None:
        """The one of these tables, known or new; None: there is no number left.

        It is kept for a while for those who are about to be given it.
        """
        monitor = self._known.get(tables)
        if monitor is None:
            number = self._free_number(now_s)
            if number is None:
                return None
            monitor = self._known[tables] = Monitor(number, tables)
        monitor.free_s = max(monitor.free_s, now_s + CLAIM_S)
        return monitor

    def turn(self, listener: int, monitor: Monitor | None, until_s: float) -> None:
        """Let a listener hear another one.

        Args:
            until_s: when it hears nothing more of the one before.
        """
        before = self._of.pop(listener, None)
        if before is not None:
            before.listeners -= 1
            before.free_s = max(before.free_s, until_s)
        if monitor is not None:
            monitor.listeners += 1
            self._of[listener] = monitor

    def _free_number(self, now_s: float) -> int | None:
        if self.high < self._capacity:
            self.high += 1
            return self.high - 1
        for tables, monitor in self._known.items():
            if monitor.listeners == 0 and monitor.free_s <= now_s:
                del self._known[tables]
                return monitor.number
        return None
