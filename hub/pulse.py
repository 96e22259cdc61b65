"""Receivers that live but do not go on.

A receiver notes when it has looked after a client (``RX.looked_ns``): with each tick that it wakes
for, and ten times a second at least. One that is stopped, or in a loop without an end, does not,
and nobody would else notice: its clients fall silent, and those who share it with them.
"""

from __future__ import annotations

import numpy as np

from hub.staff import Staff
from shared.arena import Arena
from shared.layout import RxState

STUCK_S = 2.0
"""Long enough for a machine that is busy with something else."""
LOOK_S = 0.1
PAUSE_S = 0.2
"""A pause between two looks counts as no more: it may have been the machine's."""


class Pulse:
    """Has receivers replaced that do not look after their clients."""

    def __init__(self, arena: Arena, staff: Staff) -> None:
        self._arena, self._staff = arena, staff
        slots = len(arena.slots)
        self._seen = np.zeros((2, slots), np.int64)  # session and when it was looked after
        self._still_s = np.zeros(slots)
        self._look_s = 0.0

    def look(self, now: float) -> None:
        """To be called in turn; now is the loop's time in seconds."""
        for session in self.still(now):
            self._staff.replace_stuck(session, STUCK_S)

    def still(self, now: float) -> list[int]:
        """Sessions that nobody has looked after for STUCK_S."""
        passed_s = now - self._look_s
        if passed_s < LOOK_S:
            return []
        self._look_s = now
        high = int(self._arena.control[0]["slots_high"])
        rx = self._arena.rx[:high]
        seen = np.stack([self._arena.slots["session"][:high], rx["looked_ns"]])
        same = (seen == self._seen[:, :high]).all(axis=0) & (rx["state"] != RxState.ENDED)
        still_s = np.where(same, self._still_s[:high] + min(passed_s, PAUSE_S), 0.0)
        self._seen[:, :high] = seen
        self._still_s[:high] = still_s
        sessions: list[int] = seen[0][(still_s > STUCK_S) & (seen[0] != 0)].tolist()
        return sessions
