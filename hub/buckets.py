"""How often a source may do something: a token bucket each. Pure logic, ``now`` is an argument.

So many times at once, and then as often as tokens come back; nobody ever owes any, so that
whoever stops may soon go on. Memory is bounded, whatever comes: a bucket that is full again is
as good as none, and of too many the one not used for the longest time goes.
"""

from __future__ import annotations

from collections import OrderedDict

Source = tuple[int, int]
"""Of ``hub.networks.source_key``."""


class Buckets:
    """Buckets by source.

    Args:
        depth: tokens of a full one.
        per_s: that come back.
        limit: buckets at most.
    """

    def __init__(self, depth: float, per_s: float, limit: int) -> None:
        self._depth, self._per_s, self._limit = depth, per_s, limit
        self._buckets: OrderedDict[Source, tuple[float, float]] = OrderedDict()  # tokens, then

    def __len__(self) -> int:
        return len(self._buckets)

    def empty(self, source: Source, now: float) -> bool:
        """Whether there is no token left; takes none."""
        return self._tokens(source, now) < 1.0

    def take(self, source: Source, now: float) -> bool:
        """Take one token; False when there is none."""
        tokens = self._tokens(source, now)
        taken = tokens >= 1.0
        self._buckets.pop(source, None)
        while len(self._buckets) >= self._limit:
            self._buckets.popitem(last=False)
        self._buckets[source] = (tokens - taken, now)
        return taken

    def _tokens(self, source: Source, now: float) -> float:
        tokens, then = self._buckets.get(source, (self._depth, now))
        return min(self._depth, tokens + max(0.0, now - then) * self._per_s)
