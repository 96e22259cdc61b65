"""The kernel's pause of real-time processes: whether there is one, and whether it bites.

Linux lets the real-time processes of a core run for ``kernel.sched_rt_runtime_us`` of each
``kernel.sched_rt_period_us``, 950 of 1000 ms unless somebody has changed it, and then stops them
all until the next: no tick for 50 ms. (Newer ones without real-time groups give as much to
ordinary processes that wait.) It keeps no count of that, so it is told from what the hub's own
processes have used of their busiest core, and from ticks that were missed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FULL = 0.97
"""Of what is allowed: who used so much was paused, or will be."""
NEAR = 0.8
"""Others' real-time processes may use the rest: then a pause is seen by the ticks it costs."""
HALF = 0.5
"""Of the ticks within a pause that are missed where it was one."""


@dataclass(frozen=True, slots=True)
class RealtimeLimit:
    """What real-time processes may have of a core.

    Attributes:
        runtime_s, period_s: so much of each.
    """

    runtime_s: float
    period_s: float

    @property
    def share(self) -> float:
        return self.runtime_s / self.period_s

    @property
    def pause_s(self) -> float:
        """How long nobody of them runs."""
        return self.period_s - self.runtime_s

    def missed(self, tick_s: float) -> int:
        """Ticks within a pause."""
        return int(self.pause_s / tick_s)

    def paused(self, used: float, missed: int, tick_s: float) -> bool:
        """Whether it has bitten, in about a second.

        Args:
            used: of what is allowed, on the busiest core.
            missed: ticks, in that time.
        """
        together = missed >= max(1.0, HALF * self.missed(tick_s))
        return missed > 0 and (used >= FULL or (used >= NEAR and together))


def realtime_limit(root: Path = Path("/")) -> RealtimeLimit | None:
    """What the kernel allows; None: all there is, or nothing, and then nobody is real-time."""
    try:
        runtime_us, period_us = (
            int((root / "proc/sys/kernel" / f"sched_rt_{name}_us").read_text())
            for name in ("runtime", "period")
        )
    except (OSError, ValueError):
        return None
    if not 0 < runtime_us < period_us:
        return None
    return RealtimeLimit(runtime_us / 1e6, period_us / 1e6)
