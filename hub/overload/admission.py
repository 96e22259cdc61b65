"""Whether newcomers are let in: pure logic, looked at once a second.

::

            the middle one of the last LOOKS readings is at the limit or above
    open ─────────────────────────────────────────────────────────────────────► shut
         ◄─────────────────────────────────────────────────────────────────────
            it was below CALM of the limit for REOPEN_LOOKS looks in a row

for each resource on its own. The middle one: a bad second or two of a machine is no load. Who came
too short a time ago to be seen in it is added at what the others cost, so that a storm of newcomers
does not get in before anybody has noticed; he who would be too many is refused, and the door stays
open for when the storm turns out to be light.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from hub.overload.resources import Readings, Resource

LOOKS = 5
CALM = 0.9
REOPEN_LOOKS = 10
UNSEEN_LOOKS = 3
"""So long a newcomer is not in the middle one of the readings."""
FIXED_COST = {Resource.TICKS: 32, Resource.CPU: 32, Resource.LINE: 1}
"""A hub's own work is not taken for its clients': cost is as if of so many of them, at least."""


class Admission:
    """The door as far as it depends on load.

    Args:
        limit: share of a resource that may be in use; None: everybody is let in.

    Attributes:
        used: the middle one of the last readings of each resource.
        shut: resources of which there is too little.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.used: dict[Resource, float] = dict.fromkeys(Resource, 0.0)
        self.shut: tuple[Resource, ...] = ()
        self._readings: deque[dict[Resource, float]] = deque(maxlen=LOOKS)
        self._calm_looks = dict.fromkeys(Resource, REOPEN_LOOKS)
        self._active = 0
        self._came: deque[int] = deque([0], maxlen=UNSEEN_LOOKS)

    def look(self, readings: Readings, active: int) -> None:
        """A second has passed.

        Args:
            active: clients that play.
        """
        limit = 1.0 if self.limit is None else self.limit
        self._active = active
        self._came.append(0)
        self._readings.append(readings.used(limit))
        # of few readings the lower one: a start is no load
        missing = [dict.fromkeys(Resource, 0.0)] * (LOOKS - len(self._readings))
        shut = []
        for resource in Resource:
            used = median(each[resource] for each in (*self._readings, *missing))
            calm = self._calm_looks[resource] + 1 if used < limit * CALM else 0
            was_shut = resource in self.shut
            if used >= limit or (was_shut and calm < REOPEN_LOOKS):
                shut.append(resource)
            self.used[resource], self._calm_looks[resource] = used, calm
        self.shut = () if self.limit is None else tuple(shut)

    def came(self) -> None:
        """A newcomer was let in."""
        self._came[-1] += 1

    def refuses(self) -> Resource | None:
        """What there would be too little of with one more, the worst first; None: come in."""
        if self.limit is None:
            return None
        if self.shut:
            return max(self.shut, key=self.used.__getitem__)
        expected = {resource: self.expected(resource) for resource in FIXED_COST}
        worst = max(expected, key=expected.__getitem__)
        return worst if sum(self._came) and expected[worst] >= self.limit else None

    def expected(self, resource: Resource) -> float:
        """What will be in use with those who came of late."""
        cost = self.used[resource] / max(self._active, FIXED_COST[resource])
        return self.used[resource] + cost * sum(self._came)
