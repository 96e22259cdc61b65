"""The places of musicians who left, so that they find them when they come back. Pure logic.

A *place* is a musician's slot, shown name, gain, mute, pan, queue, limiter and concealment; what
listeners had of single sources is remembered beside them by pairs of musicians, since slots may
have other owners by then. A place is kept when a session that was let in ends, and taken by the
first who comes back for it, in a new session::

    let in ──► (plays) ── ends ──► kept ── same musician is let in ──► taken
                                     └── 12 hours, or a thousand others ──► forgotten

Of namesakes who left from one source the one gets its place back that last was at the UDP
port that the newcomer announces, or else the one who left last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hub.hearing import Heard
from hub.identity import Key
from hub.values import Queue

KEPT_S = 12 * 3600.0
MAX_PLACES = 1024
MAX_PAIRS = 65_536
AVOIDED = 32
"""So many slots of those who left last are given to others only when no other is free."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is remembered of one musician.

    Attributes:
        musician: number of who it is.
        key: by what it is known.
        udp_port: that it announced in its hello.
        admitted: whether it may come past a lock or a waiting room: nobody wanted it gone.
        left_s: when its session ended.
        sections: that it was in; told: what it had of others, or they of it: whether it is the
            listener, section, how.
        reconnects: times that it had come back by then.
        dropped: it was let go since the hub had too much to do.
        limited, underrun: its own limiter and concealment, as ``slots`` of the arena has them.
    """

    musician: int
    key: Key
    udp_port: int
    slot: int
    name: str
    gain: float
    muted: bool
    pan: float | None
    queue: Queue
    admitted: bool
    left_s: float
    sections: tuple[str, ...] = ()
    told: tuple[tuple[bool, str, Heard], ...] = ()
    reconnects: int = 0
    limited: int = 0
    underrun: int = 0
    dropped: bool = False


class Places:
    """Places by musician, the one left last at the end."""

    def __init__(self, limit: int = MAX_PLACES, kept_s: float = KEPT_S) -> None:
        self._limit, self._kept_s = limit, kept_s
        self._places: OrderedDict[int, Place] = OrderedDict()
        self._by_key: dict[Key, list[int]] = {}  # musicians, the one who left last at the end
        self._pairs: OrderedDict[tuple[int, int], Heard] = OrderedDict()
        self._by_musician: dict[int, set[tuple[int, int]]] = {}  # keys of _pairs
        self._last_musician = 0

    def __len__(self) -> int:
        return len(self._places)

    def new_musician(self) -> int:
        """Number of somebody who is not known."""
        self._last_musician += 1
        return self._last_musician

    def keep(self, place: Place) -> None:
        """Remember a place; ``left_s`` of one call is not before that of the last."""
        self.forget(place.musician, pairs=False)
        while len(self._places) >= self._limit:
            self.forget(next(iter(self._places)))
        self._places[place.musician] = place
        self._by_key.setdefault(place.key, []).append(place.musician)
        self.expire(place.left_s)

    def find(self, key: Key, udp_port: int, now: float) -> Place | None:
        """The place that somebody would get who comes back now."""
        self.expire(now)
        fitting = [self._places[musician] for musician in self._by_key.get(key, ())]
        same_port = [place for place in fitting if place.udp_port == udp_port]
        found = same_port or fitting
        return found[-1] if found else None

    def take(self, key: Key, udp_port: int, now: float) -> Place | None:
        """The same, and it is that musician's own again; its pairs stay to be taken."""
        place = self.find(key, udp_port, now)
        if place is not None:
            self.forget(place.musician, pairs=False)
        return place

    def avoided(self) -> set[int]:
        """Slots whose last owners may be back soon."""
        recent = zip(reversed(self._places.values()), range(AVOIDED), strict=False)
        return {place.slot for place, _ in recent}

    def forget(self, musician: int, *, pairs: bool = True) -> None:
        """Let somebody be unknown."""
        place = self._places.pop(musician, None)
        if place is not None:
            fellows = self._by_key[place.key]
            fellows.remove(musician)
            if not fellows:
                del self._by_key[place.key]
        if pairs:
            for pair in list(self._by_musician.get(musician, ())):
                self._drop_pair(pair)

    def expire(self, now: float) -> None:
        """Forget whose time is over."""
        while self._places:
            oldest = next(iter(self._places.values()))
            if now - oldest.left_s <= self._kept_s:
                return
            self.forget(oldest.musician)

    def keep_pairs(self, pairs: Iterable[tuple[int, int, Heard]]) -> None:
        """Remember what listeners had of sources: (listener, source, how), as musicians."""
        for listener, source, heard in pairs:
            pair = (listener, source)
            self._drop_pair(pair)
            while len(self._pairs) >= MAX_PAIRS:
                self._drop_pair(next(iter(self._pairs)))
            self._pairs[pair] = heard
            for musician in pair:
                self._by_musician.setdefault(musician, set()).add(pair)

    def take_pairs(self, musician: int, present: set[int]) -> Iterator[tuple[int, int, Heard]]:
        """What there is between a musician and those present; it is theirs again."""
        for pair in list(self._by_musician.get(musician, ())):
            if present.issuperset(pair):
                heard = self._pairs[pair]
                self._drop_pair(pair)
                yield *pair, heard

    def _drop_pair(self, pair: tuple[int, int]) -> None:
        if self._pairs.pop(pair, None) is None:
            return
        for musician in set(pair):
            others = self._by_musician[musician]
            others.discard(pair)
            if not others:
                del self._by_musician[musician]
