"""How often a source may fail. Pure logic, ``now`` is an argument.

A token bucket a source (``hub.networks``): a failure costs a token, tokens come back with
time. Nobody owes any, so that whoever stops guessing may soon try again.
"""

from __future__ import annotations

from hub.addresses import IPAddress
from hub.networks import source_key

FAILURES_AT_ONCE = 20
"""As many as a class of pupils behind one router may need."""
FAILURES_PER_MINUTE = 10.0
MAX_SOURCES = 4096
"""Beyond that the one that has not failed for longest is forgotten."""


class FailureLimit:
    """Who has failed too often of late."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, int], tuple[float, float]] = {}  # tokens, then

    def exceeded(self, address: IPAddress, now: float) -> bool:
        """Whether this source must not try again yet."""
        return self._tokens(address, now) < 1.0

    def failed(self, address: IPAddress, now: float) -> None:
        """Note a failure."""
        tokens = self._tokens(address, now)
        source = source_key(address)
        self._buckets.pop(source, None)
        while len(self._buckets) >= MAX_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[source] = (max(0.0, tokens - 1.0), now)

    def _tokens(self, address: IPAddress, now: float) -> float:
        tokens, then = self._buckets.get(source_key(address), (float(FAILURES_AT_ONCE), now))
        return min(float(FAILURES_AT_ONCE), tokens + (now - then) * FAILURES_PER_MINUTE / 60.0)
