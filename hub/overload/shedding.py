"""What a hub leaves out when it has too much to do, in which order: pure logic.

::

    NOTHING ◄──► METERS ◄──► MIXES ◄──► CONCEALMENT ──► the newest client, then the next...

One step further when the middle one of LOOKS readings since the last step is at the limit or above.
Faster where ticks are missed: in HURRY quarters of a second in a row. One step back when the
readings of ``patience`` looks in a row were below CALM of the limit. A step that had to be taken
again soon after it was taken back doubles that patience, so that a hub at its limit changes ever
more rarely. Clients that were let go do not come back by that: newcomers are let in when
``hub.overload.admission`` says so.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from statistics import median

from hub.overload.resources import BUSY, Readings, Resource

LOOKS = 3
CALM = 0.8
PATIENCE_LOOKS, LONGEST_LOOKS = 10, 320
SOON_LOOKS = 60
"""A step taken again within so many looks of having been taken back, was taken back too soon."""
HURRY = 2
MISSED_SHARE = 0.02
"""Of the ticks of a quarter of a second that are missed where one must hurry."""
BETWEEN_CLIENTS = 5
"""Looks after a client was let go, in which what that has helped is seen."""


class Step(IntEnum):
    """What is left out, each with all before it."""

    NOTHING = 0
    METERS = 1
    """Levels are not measured."""
    MIXES = 2
    """Nobody has a mix of its own: all hear what the patch says."""
    CONCEALMENT = 3
    """Gaps are filled by small models."""


WATCHED = (Resource.TICKS, Resource.LATENESS, Resource.CPU, Resource.THROTTLE)
"""The line is not among them: nothing but the last step would help it."""


class Shedding:
    """How far a hub has gone.

    Args:
        limit: share of a resource that is too much; None: nothing is ever left out.

    Attributes:
        step: what is left out now.
        taken: how often each step was.
        dropped: how many clients were to be let go.
        patience: calm looks before a step back.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.step = Step.NOTHING
        self.taken = dict.fromkeys((Step.METERS, Step.MIXES, Step.CONCEALMENT), 0)
        self.dropped = 0
        self.patience = PATIENCE_LOOKS
        self._readings: deque[float] = deque(maxlen=LOOKS)
        self._calm_looks = 0
        self._looks = 0
        self._undone: dict[Step, int] = {}
        self._rest_looks = 0
        self._missing = 0
        self._busy = False

    @property
    def left_out(self) -> list[Step]:
        """All that is, in the order in which it came to that."""
        return [step for step in self.taken if step <= self.step]

    def look(self, readings: Readings) -> bool:
        """A second has passed; whether the newest client is to be let go."""
        if self.limit is None:
            return False
        self._looks += 1
        self._rest_looks = max(self._rest_looks - 1, 0)
        self._busy = max(readings.mean_work, readings.cpu) >= self.limit * BUSY
        used = readings.used(self.limit)
        worst = max(used[resource] for resource in WATCHED)
        self._readings.append(worst)
        self._calm_looks = self._calm_looks + 1 if worst < self.limit * CALM else 0
        if len(self._readings) == LOOKS and median(self._readings) >= self.limit:
            return self._go_on()
        if self._calm_looks >= self.patience:
            self._go_back()
        return False

    def hurry(self, ticks: int, missed: int) -> bool:
        """A quarter of a second has passed; as ``look``.

        Args:
            ticks, missed: of that time, made and left out.
        """
        if self.limit is None:
            return False
        bad = missed > MISSED_SHARE * (ticks + missed) and self._busy
        self._missing = self._missing + 1 if bad else 0
        if self._missing < HURRY:
            return False
        return self._go_on()

    def _go_on(self) -> bool:
        """One step further."""
        self._calm_looks = self._missing = 0
        if self.step is Step.CONCEALMENT:
            if self._rest_looks:
                return False
            self._rest_looks = BETWEEN_CLIENTS
            self._readings.clear()
            self.dropped += 1
            return True
        self._readings.clear()
        self.step = Step(self.step + 1)
        self.taken[self.step] += 1
        undone = self._undone.get(self.step)
        if undone is not None and self._looks - undone <= SOON_LOOKS:
            self.patience = min(2 * self.patience, LONGEST_LOOKS)
        return False

    def _go_back(self) -> None:
        """One step back, or patience as it was."""
        self._calm_looks = 0
        if self.step is Step.NOTHING:
            self.patience = max(self.patience // 2, PATIENCE_LOOKS)
            return
        self._undone[self.step] = self._looks
        self._readings.clear()
        self.step = Step(self.step - 1)
