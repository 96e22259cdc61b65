"""The door: which sources may come in, and how often. Pure logic, ``now`` is an argument.

A source is asked about twice. ``knock``, as soon as its TCP connection is there and before
it costs anything, in this order::

    banned        a ban is on its network
    denied        --deny names it
    not-allowed   there are --allow's, and none names it
    too-often     its bucket of connections is empty (--handshake-rate)

and when it has said its hello, by ``hub.membership``: account-banned, too-many
(--max-per-source), locked, and what the hub has too little of (``hub.overload``). A refused
source is sent away without an answer: the protocol has no code that would tell it why, and an
answer costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hub.addresses import IPAddress
from hub.bans import Ban, Bans
from hub.buckets import Buckets
from hub.networks import Network, NetworkSet, source_key

AUTO_PER_SOURCE = 256
"""Clients a source: a whole choir behind one router has room."""
AUTO_PER_MINUTE = 600
"""Connections a source a minute: the choir may come at once, and come again."""
MAX_WAITING = 64
"""Hellos of a source whose sound is yet to come: each costs a slot and a process for a while."""
MAX_SOURCES = 16_384
"""Of which the door knows how often they came; 4.3 MiB."""
LOCK_GRACE_S = 600.0
"""Who left so long before the door was locked still gets in again."""


class Refusal(StrEnum):
    """Why the door is closed to somebody; a label of the metric, so never changed."""

    BANNED = "banned"
    DENIED = "denied"
    NOT_ALLOWED = "not-allowed"
    TOO_OFTEN = "too-often"
    TOO_MANY = "too-many"
    LOCKED = "locked"
    TICKS_FULL = "ticks-full"
    TICKS_LATE = "ticks-late"
    CPU_FULL = "cpu-full"
    CPU_THROTTLED = "cpu-throttled"
    LINE_FULL = "line-full"


@dataclass(frozen=True, slots=True)
class DoorRules:
    """What the hub was told at its start.

    Attributes:
        allow: who may come; empty: everybody.
        deny: who may not, even if allowed.
        per_source: clients a source; None: AUTO_PER_SOURCE, but the hub's own machine any number.
        per_minute: TCP connections a source a minute, and at once; None as above.
        locked: no newcomers from the start.
        waiting_room: newcomers wait to be admitted.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    per_source: int | None = None
    per_minute: int | None = None
    locked: bool = False
    waiting_room: bool = False


class Door:
    """Open to whom its rules and the bans leave it open.

    Attributes:
        bans: those that stand.
        locked: no newcomers.
        locked_s: since when.
        waiting_room: newcomers wait to be admitted.
    """

    def __init__(self, rules: DoorRules | None = None, bans: Iterable[Ban] = ()) -> None:
        self.rules = rules or DoorRules()
        self.bans = Bans(bans)
        self.locked = self.rules.locked
        self.locked_s = 0.0
        self._allow = NetworkSet(self.rules.allow)
        self._deny = NetworkSet(self.rules.deny)
        self.waiting_room = self.rules.waiting_room
        per_minute = self.rules.per_minute or AUTO_PER_MINUTE
        self._connections = Buckets(per_minute, per_minute / 60.0, MAX_SOURCES)

    def knock(self, address: IPAddress, now: float, unix_s: float) -> Refusal | None:
        """What a source that has connected is refused for, before it has said anything.

        Args:
            now: any monotonic clock.
            unix_s: Unix time, on which bans are.
        """
        if self.bans.on(address, "", unix_s) is not None:
            return Refusal.BANNED
        if address in self._deny:
            return Refusal.DENIED
        if self._allow and address not in self._allow:
            return Refusal.NOT_ALLOWED
        limited = self.rules.per_minute is not None or not address.is_loopback
        if limited and not self._connections.take(source_key(address), now):
            return Refusal.TOO_OFTEN
        return None

    def crowded(self, address: IPAddress, present: int) -> bool:
        """Whether a source of which so many are present has all that it may have."""
        limit = self.rules.per_source
        if limit is None:
            return not address.is_loopback and present >= AUTO_PER_SOURCE
        return present >= limit

    def hasty(self, address: IPAddress, waiting: int) -> bool:
        """Whether a source has so many hellos without sound that it must wait with the next."""
        return not address.is_loopback and waiting >= MAX_WAITING

    def lock(self, now: float) -> bool:
        """Let no newcomers in from now on; False when that is no news."""
        if self.locked:
            return False
        self.locked, self.locked_s = True, now
        return True

    def unlock(self) -> bool:
        """Let newcomers in; False when that is no news."""
        was, self.locked = self.locked, False
        return was

    def knows(self, left_s: float) -> bool:
        """Whether somebody who left at this time may come back although the door is locked."""
        return not self.locked or left_s >= self.locked_s - LOCK_GRACE_S
