"""What a hub leaves out when it has too much to do, in which order: pure logic.

::

    NOTHING ◄──► METERS ◄──► MIXES ◄──► CONCEALMENT ──► the newest clients, then twice as many...

One step further when the middle one of LOOKS readings since the last step is at the limit or above.
Faster where ticks are missed: in HURRY quarters of a second in a row. One step back when the middle
one of the last LOOKS readings was below CALM of the limit for ``patience`` looks in a row. A step
that had to be taken again soon after it was taken back doubles that patience, so that a hub at its
limit changes ever more rarely. Clients that were let go do not come back by that: newcomers are let
in when ``hub.overload.admission`` says so. They go only while the hub's own work is what fills its
time, and each time twice as many as before until it is enough: on a core that is to carry half as
many again as it can nobody hears anything, and one by one that would be so for minutes.
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
HURRY = 3
"""Quarters of a second: a machine that stumbles once is in two of them at most."""
MISSED_SHARE = 0.02
"""Of the ticks of a quarter of a second that are missed where one must hurry."""
BETWEEN_CLIENTS = LOOKS
"""Looks after clients were let go, in which what that has helped is seen."""
FIRST_SHARE, MOST_SHARE = 1 / 25, 1 / 4
"""Of those who play, that go at first, and at once; one at least."""


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
        dropped: how many clients were to be let go, as far as there were so many.
        patience: calm looks before a step back.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.step = Step.NOTHING
        self.taken = dict.fromkeys((Step.METERS, Step.MIXES, Step.CONCEALMENT), 0)
        self.dropped = 0
        self.patience = PATIENCE_LOOKS
        self._readings: deque[float] = deque(maxlen=LOOKS)  # since the last step
        self._last: deque[float] = deque(maxlen=LOOKS)
        self._calm_looks = 0
        self._looks = 0
        self._undone: dict[Step, int] = {}
        self._rest_looks = 0
        self._missing = 0
        self._busy = self._full = False
        self._playing = self._next_dropped = 1

    @property
    def left_out(self) -> list[Step]:
        """All that is, in the order in which it came to that."""
        return [step for step in self.taken if step <= self.step]

    def look(self, readings: Readings, playing: int = 1) -> int:
        """A second has passed; how many of so many who play are to be let go, the newest."""
        if self.limit is None:
            return 0
        self._playing = playing
        self._looks += 1
        self._rest_looks = max(self._rest_looks - 1, 0)
        own = max(readings.mean_work, readings.cpu)
        self._busy, self._full = own >= self.limit * BUSY, own >= self.limit * CALM
        used = readings.used(self.limit)
        worst = max(used[resource] for resource in WATCHED)
        self._readings.append(worst)
        self._last.append(worst)
        calm = median(self._last) < self.limit * CALM
        self._calm_looks = self._calm_looks + 1 if calm else 0
        if len(self._readings) == LOOKS:
            if median(self._readings) >= self.limit:
                return self._go_on()
            self._next_dropped = 1
        if self._calm_looks >= self.patience:
            self._go_back()
        return 0

    def hurry(self, ticks: int, missed: int) -> int:
        """A quarter of a second has passed; as ``look``.

        Args:
            ticks, missed: of that time, made and left out.
        """
        if self.limit is None:
            return 0
        bad = missed > MISSED_SHARE * (ticks + missed) and self._busy
        self._missing = self._missing + 1 if bad else 0
        if self._missing < HURRY:
            return 0
        return self._go_on()

    def _go_on(self) -> int:
        """One step further."""
        self._calm_looks = self._missing = 0
        if self.step is Step.CONCEALMENT:
            if self._rest_looks or not self._full:
                return 0
            self._rest_looks = BETWEEN_CLIENTS
            self._readings.clear()
            first, most = (max(1, int(x * self._playing)) for x in (FIRST_SHARE, MOST_SHARE))
            going = min(max(self._next_dropped, first), most)
            self._next_dropped = 2 * going
            self.dropped += going
            return going
        self._readings.clear()
        self.step = Step(self.step + 1)
        self.taken[self.step] += 1
        undone = self._undone.get(self.step)
        if undone is not None and self._looks - undone <= SOON_LOOKS:
            self.patience = min(2 * self.patience, LONGEST_LOOKS)
        return 0

    def _go_back(self) -> None:
        """One step back, or patience as it was."""
        self._calm_looks = 0
        if self.step is Step.NOTHING:
            self.patience = max(self.patience // 2, PATIENCE_LOOKS)
            return
        self._undone[self.step] = self._looks
        self._readings.clear()
        self.step = Step(self.step - 1)
