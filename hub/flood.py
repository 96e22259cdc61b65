"""Keeps floods out of the log: so many lines of a kind, and the rest as one sum.

A token bucket for every event and client, and a wider one for every event of all clients
together. What has no token is counted; the next line that has one tells how many were left
out before it, and ``sums`` tells of those after which no other came.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

MAX_KEYS = 4096
"""Buckets that are kept; enough for each client of a full hub to have some."""

CLIENT_PER_S, CLIENT_BURST = 1.0, 20.0
"""Lines of one event and one client: so many a second in the long run, so many at once."""
EVENT_PER_S, EVENT_BURST = 50.0, 2000.0
"""Lines of one event, all clients together; a full hub may come, and go, at once."""

_WHO = ("slot", "name", "peer", "address", "account")
"""Fields that tell whom an event is about."""


class Limiter:
    """Lets so many events of a kind through a second, and counts the others.

    May be used from any thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS
    ) -> None:
        self._clock, self._max_keys = clock, max_keys
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], tuple[float, float, int]] = {}
        """By event and who: tokens, when that was, events left out since the last line."""
        self._forgotten: Counter[str] = Counter()

    def limited(
        self, event: str, per_s: float = 1.0, who: str = "", burst: float = 0.0
    ) -> int | None:
        """None: keep quiet. Otherwise: go on, so many were left out since the last time.

        Args:
            burst: how many may come at once; at least one, and one second's.
        """
        key, depth = (event, who), max(1.0, per_s, burst)
        with self._lock:
            now = self._clock()
            tokens, then, left_out = self._buckets.pop(key, (depth, now, 0))
            tokens = min(depth, tokens + (now - then) * per_s)
            if len(self._buckets) >= self._max_keys:
                oldest = next(iter(self._buckets))  # the one not asked for the longest
                self._forgotten[oldest[0]] += self._buckets.pop(oldest)[2]
            if tokens < 1.0:
                self._buckets[key] = (tokens, now, left_out + 1)
                return None
            self._buckets[key] = (tokens - 1.0, now, 0)
            return left_out

    def left_out(self, event: str, times: int) -> None:
        """Count events that somebody else has kept quiet about."""
        with self._lock:
            self._forgotten[event] += times

    def sums(self) -> Counter[str]:
        """Events left out that no line has told of yet, each time anew."""
        with self._lock:
            found = +self._forgotten
            self._forgotten.clear()
            for key, (tokens, then, left_out) in self._buckets.items():
                if left_out:
                    found[key[0]] += left_out
                    self._buckets[key] = (tokens, then, 0)
            return found


class Flood:
    """A structlog processor that drops what is too much of one kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients, self._events = Limiter(clock), Limiter(clock)

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        what = str(event["event"])
        who = repr([event[name] for name in _WHO if name in event])
        before = self._clients.limited(what, CLIENT_PER_S, who, CLIENT_BURST)
        if before is None:
            raise structlog.DropEvent
        among = self._events.limited(what, EVENT_PER_S, "", EVENT_BURST)
        if among is None:
            self._clients.left_out(what, before)
            raise structlog.DropEvent
        if before + among:
            event["suppressed"] = event.get("suppressed", 0) + before + among
        return event

    def sums(self) -> Counter[str]:
        """Events left out that no line has told of yet, each time anew."""
        return self._clients.sums() + self._events.sums()
