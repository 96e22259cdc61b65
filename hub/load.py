"""How much of its time the hub works when it works longest: the load that ends in missed ticks."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from hub.snapshot import lanes_in_use, quantile_ns
from shared.arena import Arena

SPAN = 10
"""Looks that a load is of: ten seconds, with one a second."""
SHARE = 0.99
"""Of the ticks whose work is within the load."""


class Load:
    """Looks at the histograms of work, the mixer's and each separate lane's."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        header = arena.header[0]
        self._period_ns = int(header["period_frames"]) * 1e9 / int(header["rate_hz"])
        self._lanes = [lane for lane in lanes_in_use(arena) if lane > 0]
        self._looks: deque[npt.NDArray[np.int64]] = deque([self._work()], maxlen=SPAN + 1)

    def look(self) -> float:
        """The 99th percentile of the work on a tick in the last looks, in periods.

        Of the busiest process: each of them must be done within a period.
        """
        self._looks.append(self._work())
        grown = np.maximum(self._looks[-1] - self._looks[0], 0).astype(np.float64)
        return (
            max(quantile_ns(row.tolist(), SHARE) if row.any() else 0.0 for row in grown)
            / self._period_ns
        )

    def _work(self) -> npt.NDArray[np.int64]:
        return np.vstack([self._arena.clock["work"], self._arena.lanes["work"][self._lanes]])
