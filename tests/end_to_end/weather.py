"""What befalls datagrams on a bad network: pure, seeded, one direction of one client at a time.

A datagram's fate is drawn from the seed and from how many came before it, never from the
time: two runs lose the same datagrams.

    lost?  by itself, or in a burst (Gilbert-Elliott)
      |
    later  delay + jitter; unless `overtaking`, not before the one ahead of it
      |
    held   a share of them `reorder_ms` longer, past those behind
      |
    twice  a share of them again, `copy_ms` after the first
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import IntEnum

MS_NS = 1_000_000
JITTER_CUT = 20.0
"""No jitter is longer than so many times its mean."""


class Fate(IntEnum):
    """What became of a datagram."""

    PASSED = 0
    LOST = 1
    IN_BURST = 2
    """Lost in a burst of losses."""
    BLACKED_OUT = 3
    STRAY = 4
    """To a port that the network address translation no longer has, or before any from there."""


@dataclass(frozen=True, slots=True)
class Path:
    """One direction of a network.

    Attributes:
        loss: share of datagrams lost, each by itself.
        burst_begin, burst_end: chances that a burst of losses begins, ends, with a datagram.
        burst_loss: share lost within a burst.
        delay_ms: of all.
        jitter_ms: mean of an exponentially distributed delay beyond that.
        overtaking: whether jitter alone lets a datagram overtake another.
        reorder: share held back by `reorder_ms`, while others pass.
        duplicate: share that comes twice, the second `copy_ms` later.
    """

    loss: float = 0.0
    burst_begin: float = 0.0
    burst_end: float = 1.0
    burst_loss: float = 1.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    overtaking: bool = False
    reorder: float = 0.0
    reorder_ms: float = 4.0
    duplicate: float = 0.0
    copy_ms: float = 1.0


PERFECT = Path()


class Weather:
    """Fates of the datagrams of one client in one direction, one after another."""

    def __init__(self, path: Path, seed: str) -> None:
        self.path = path
        self._draws = random.Random(seed)
        self._burst = False
        self._last_ns = 0

    def fate(self, arrival_ns: int) -> tuple[Fate, list[int]]:
        """Of the next datagram: what, and the times at which it (or a copy) is to be let go."""
        path = self.path
        # Always as many draws, so that one setting does not change what another one does.
        lost, turn, in_burst, jitter, held, twice = (self._draws.random() for _ in range(6))
        self._burst = turn >= path.burst_end if self._burst else turn < path.burst_begin
        if self._burst and in_burst < path.burst_loss:
            return Fate.IN_BURST, []
        if lost < path.loss:
            return Fate.LOST, []
        late_ms = min(JITTER_CUT, _exponential(jitter)) * path.jitter_ms
        release_ns = arrival_ns + int((path.delay_ms + late_ms) * MS_NS)
        if not path.overtaking:
            release_ns = max(release_ns, self._last_ns)
        if held < path.reorder:
            release_ns += int(path.reorder_ms * MS_NS)
        else:
            self._last_ns = release_ns
        if twice < path.duplicate:
            return Fate.PASSED, [release_ns, release_ns + int(path.copy_ms * MS_NS)]
        return Fate.PASSED, [release_ns]


def _exponential(uniform: float) -> float:
    """Exponentially distributed with mean 1, of a number evenly distributed over 0..1."""
    return -math.log(1.0 - uniform)
