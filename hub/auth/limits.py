"""How often a source may fail. Pure logic, ``now`` is an argument.

A token bucket a source: a failure costs a token, tokens come back with time. A source is an
IPv4 address or an IPv6 network of 64 bits, which is what one household has.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from hub.addresses import IPAddress

FAILURES_AT_ONCE = 20
"""As many as a class of pupils behind one router may need."""
FAILURES_PER_MINUTE = 10.0
MAX_SOURCES = 4096
"""Beyond that the one that has not failed for longest is forgotten."""
_IPV6_HOST_BITS = 64


def source_of(address: IPAddress) -> tuple[int, int]:
    """What is counted as one source: version and network."""
    if isinstance(address, IPv4Address):
        return (4, int(address))
    return (6, int(address) >> _IPV6_HOST_BITS)


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
        source = source_of(address)
        self._buckets.pop(source, None)
        while len(self._buckets) >= MAX_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[source] = (tokens - 1.0, now)

    def _tokens(self, address: IPAddress, now: float) -> float:
        tokens, then = self._buckets.get(source_of(address), (float(FAILURES_AT_ONCE), now))
        return min(float(FAILURES_AT_ONCE), tokens + (now - then) * FAILURES_PER_MINUTE / 60.0)
