"""What a hub may run out of, and how much of it is in use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.door import Refusal


class Resource(StrEnum):
    """What may be used up; a label of metrics, so never changed."""

    TICKS = "ticks"
    """Time of a tick, of the process that needs most of it."""
    LATENESS = "lateness"
    """The same, gone before a tick has begun."""
    CPU = "cpu"
    """The cores of the audio processes."""
    THROTTLE = "throttle"
    """CPU that the kernel does not give although there is some."""
    LINE = "line"
    """Bandwidth."""


REFUSALS = {
    Resource.TICKS: Refusal.TICKS_FULL,
    Resource.LATENESS: Refusal.TICKS_LATE,
    Resource.CPU: Refusal.CPU_FULL,
    Resource.THROTTLE: Refusal.CPU_THROTTLED,
    Resource.LINE: Refusal.LINE_FULL,
}
"""What newcomers are refused for where there is too little of it."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Shares of what there is, in the last second; above 1 there was not enough.

    Attributes:
        work: of a period, the 99th percentile of work on a tick, of the busiest process.
        mean_work: the mean of the same.
        lateness: of a period, the 99th percentile of how late ticks began; one that was missed is
            a period late.
        cpu: of the cores' time that audio may have, what the audio processes used.
        throttled: 1 if the kernel has kept them from running, else 0.
        line: of the bandwidth, what the formats of all clients need in the fuller direction; 0
            where the bandwidth is not known.
    """

    work: float = 0.0
    mean_work: float = 0.0
    lateness: float = 0.0
    cpu: float = 0.0
    throttled: float = 0.0
    line: float = 0.0

    def used(self, limit: float) -> dict[Resource, float]:
        """What counts beside a limit.

        Ticks that take long or come late, and a kernel that lets nobody run, count when the hub
        has much to do itself: else it is the machine's doing, and a client more or less changes
        nothing.
        """
        busy = max(self.mean_work, self.cpu) >= limit * BUSY
        return {
            Resource.TICKS: self.work if busy else self.mean_work,
            Resource.LATENESS: self.lateness if busy else 0.0,
            Resource.CPU: self.cpu,
            Resource.THROTTLE: self.throttled if busy else 0.0,
            Resource.LINE: self.line,
        }


BUSY = 0.5
"""Of a limit."""
