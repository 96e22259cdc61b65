"""Who is in the hub: sessions and the slots they hold. Pure logic, ``now`` is an argument.

A *session* is one hello of one client, numbered from 1 and never again; a *slot* is a
strip of the mix and outlives a session only when a reconnecting client takes it over::

    open ──► WAITING ── admit ──► ACTIVE ── leave ──► LEAVING ── close ──► gone
                │
                └── take over ──► MOVING ── replace ──► ACTIVE, in the old one's slot
                                  (the old one: LEAVING)

A slot that was left rests for a moment before it is given again, so that the mixer can
let the old voice fade and nothing of it reaches the newcomer; when no other is free it is
given at once.

Who takes over whom is for ``hub.identity`` to say. Until the old session's receiver and the
newcomer's own have ended, both slots stay occupied.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from hub.addresses import IPAddress, address_bytes
from hub.door import Refusal
from hub.identity import Key, musician_key, nameless_name
from hub.networks import source_key

CRASH_LIMIT = 5
"""Deaths of its receiver within CRASH_WINDOW_S that end a session."""
CRASH_WINDOW_S = 10.0
REST_S = 0.25
"""How long a slot rests: long enough for a voice to fade, at any period."""


class Phase(Enum):
    """Where a session stands, as the supervisor sees it."""

    WAITING = "waiting"
    """Its port was answered; no valid datagram yet."""
    ACTIVE = "active"
    LEAVING = "leaving"
    """Told to end; its receiver has yet to do so."""
    MOVING = "moving"
    """A come-back on its way into the slot of the session it replaces."""


@dataclass(slots=True, eq=False)
class Session:
    """One client's stay.

    Attributes:
        number: unique for the hub's life.
        slot: strip in the arena.
        name: shown name, unique among those present.
        wanted_name: what it asked for, and what its name is made unique from.
        address: where its TCP connection came from; its datagrams must, too.
        port: the hub's UDP port that serves it.
        opened_s: time of its hello.
        account: user name it has proved with a password, or nothing.
        musician: number of who it is, the same at its next stay if it is recognised.
        held: waits in the waiting room.
        known: it was given a place that it had left.
        udp_port: that it announced in its hello.
        surplus: its source has all it may have; it can only take over one of them.
        unaffordable: the hub is too busy for a newcomer; it can only take over somebody's place.
        kicked: somebody wanted it gone.
        dropped: it was let go since the hub has too much to do.
        peer_port: the client's UDP port, once known.
        joined_s: when it was admitted.
        leaving_s: when it was told to end.
        replaces: number of the session whose slot this one moves to.
        restarts: receivers that had to be replaced.
        reconnects: times that this musician has come back, as far as it is remembered.
        round_trip_s: of its handshake.
    """

    number: int
    slot: int
    name: str
    wanted_name: str
    address: IPAddress
    port: int
    opened_s: float
    account: str = ""
    musician: int = 0
    held: bool = False
    known: bool = False
    udp_port: int = 0
    surplus: bool = False
    unaffordable: Refusal | None = None
    kicked: bool = False
    dropped: bool = False
    phase: Phase = Phase.WAITING
    peer_port: int | None = None
    joined_s: float | None = None
    leaving_s: float | None = None
    replaces: int | None = None
    restarts: int = 0
    reconnects: int = 0
    round_trip_s: float | None = None
    key: Key = field(init=False)
    """By what its musician is known."""
    source: tuple[int, int] = field(init=False)
    """Of its address (see ``hub.networks``)."""
    _crashes: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.key = musician_key(self.account, self.wanted_name, self.address)
        self.source = source_key(self.address)

    @property
    def active(self) -> bool:
        return self.phase is Phase.ACTIVE

    def crashed(self, now: float) -> bool:
        """Note a death of its receiver; whether there have been too many of late."""
        self.restarts += 1
        self._crashes.append(now)
        while self._crashes[0] < now - CRASH_WINDOW_S:
            self._crashes.popleft()
        return len(self._crashes) >= CRASH_LIMIT


class SessionTable:
    """All sessions and free slots of a hub with ``slots`` strips."""

    def __init__(self, slots: int, rest_s: float = REST_S) -> None:
        self.slots = slots
        self._rest_s = rest_s
        self._free = list(range(slots))  # a heap: the lowest is given first
        self._resting: deque[tuple[float, int]] = deque()  # (left at, slot), oldest first
        self._by_number: dict[int, Session] = {}
        self._by_slot: dict[int, Session] = {}
        self._phases: dict[Phase, dict[int, Session]] = {phase: {} for phase in Phase}
        self._sources: Counter[tuple[int, int]] = Counter()
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._by_number)

    def sessions(self) -> list[Session]:
        """All of them by slot; safe to call from any thread."""
        return sorted(list(self._by_slot.values()), key=lambda session: session.slot)

    def by_number(self, number: int) -> Session | None:
        return self._by_number.get(number)

    def by_slot(self, slot: int) -> Session | None:
        return self._by_slot.get(slot)

    def by_name(self, name: str) -> Session | None:
        """The session shown under exactly this name."""
        found = (session for session in self._by_slot.values() if session.name == name)
        return next(found, None)

    def of_source(self, address: IPAddress) -> int:
        """How many sessions an address's source has (see ``hub.networks``)."""
        return self._sources[source_key(address)]

    def waiting_of(self, address: IPAddress) -> int:
        """How many of them have yet to send anything."""
        key = source_key(address)
        return sum(session.source == key for session in self.waiting())

    @property
    def full(self) -> bool:
        return not self._free and not self._resting

    @property
    def slots_high(self) -> int:
        """One more than the highest slot in use or resting: the mixer looks no further."""
        return max([*self._by_slot, *(slot for _, slot in self._resting)], default=-1) + 1

    def settle(self, now: float, faded: Callable[[int], bool] = lambda slot: True) -> list[int]:
        """Slots whose rest is over, and voice faded: from now on they are as good as new."""
        rested = []
        while self._resting and self._resting[0][0] <= now - self._rest_s:
            if not faded(self._resting[0][1]):
                break
            rested.append(self._resting.popleft()[1])
        for slot in rested:
            heapq.heappush(self._free, slot)
        return rested

    def waiting(self) -> list[Session]:
        """Those whose first datagram is still to come, or to be answered."""
        return list(self._phases[Phase.WAITING].values())

    def going(self) -> list[Session]:
        """Those whose receiver was told to end."""
        return [*self._phases[Phase.LEAVING].values(), *self._phases[Phase.MOVING].values()]

    def open(
        self,
        wanted_name: str,
        address: IPAddress,
        port: int,
        now: float,
        account: str = "",
        *,
        prefer: int | None = None,
        avoid: Collection[int] = (),
    ) -> Session | None:
        """Take a slot for a newcomer; None when there is none.

        It is the preferred one if that is free or resting, or else the lowest free one that
        is not to be avoided, or else the lowest. Who asks for no name is called like its
        account, or else like its address.
        """
        if self.full:
            return None
        slot = self._take_slot(prefer, avoid)
        wanted_name = wanted_name or account or nameless_name(address)
        taken = {session.name for session in self._by_slot.values()}
        return self._enter(
            Session(
                self._next_number(),
                slot,
                unique_name(wanted_name, taken),
                wanted_name,
                address,
                port,
                now,
                account,
            )
        )

    def _take_slot(self, prefer: int | None, avoid: Collection[int]) -> int:
        resting = next((entry for entry in self._resting if entry[1] == prefer), None)
        if resting is not None:
            self._resting.remove(resting)
            return resting[1]
        if not self._free:
            return self._resting.popleft()[1]
        if prefer in self._free:
            slot = prefer
        else:
            slot = min((slot for slot in self._free if slot not in avoid), default=self._free[0])
        if slot == self._free[0]:
            return heapq.heappop(self._free)
        self._free.remove(slot)
        heapq.heapify(self._free)
        return slot

    def rename(self, session: Session, wanted: str) -> None:
        """Show a session under a name, if nobody else is."""
        other = self.by_name(wanted)
        if other is None:
            session.name = wanted

    def rival(self, newcomer: Session, peer_port: int) -> Session | None:
        """The session that holds the newcomer's address and port already, if any.

        It may be LEAVING; then the newcomer had better knock again a little later.
        """
        address = address_bytes(newcomer.address)
        for other in self._by_number.values():
            if (
                other is not newcomer
                and other.peer_port == peer_port
                and other.phase in (Phase.ACTIVE, Phase.LEAVING)
                and address_bytes(other.address) == address
            ):
                return other
        return None

    def admit(self, session: Session, peer_port: int, now: float) -> None:
        """Let a waiting session in."""
        _require(session, Phase.WAITING)
        self._enter_phase(session, Phase.ACTIVE)
        session.peer_port = peer_port
        session.joined_s = now

    def take_over(self, newcomer: Session, old: Session, peer_port: int, now: float) -> None:
        """Begin to put a waiting session in the place of an active one."""
        _require(newcomer, Phase.WAITING)
        _require(old, Phase.ACTIVE)
        self._enter_phase(old, Phase.LEAVING)
        self._enter_phase(newcomer, Phase.MOVING)
        old.leaving_s = newcomer.leaving_s = now
        newcomer.peer_port = peer_port
        newcomer.replaces = old.number

    def moves(self) -> list[tuple[Session, Session]]:
        """Take-overs under way, as (newcomer, old)."""
        return [
            (session, self._by_number[session.replaces])
            for session in self._phases[Phase.MOVING].values()
            if session.replaces is not None
        ]

    def replace(self, newcomer: Session, now: float) -> Session:
        """End a take-over: both sessions are gone, a new one is active in the old slot."""
        _require(newcomer, Phase.MOVING)
        assert newcomer.replaces is not None
        old = self._by_number[newcomer.replaces]
        self._remove(newcomer)
        self._remove(old)
        self._resting.append((now, newcomer.slot))
        taken = {session.name for session in self._by_slot.values()}
        wanted = old.name if old.wanted_name == newcomer.wanted_name else newcomer.wanted_name
        back = self._enter(
            Session(
                self._next_number(),
                old.slot,
                unique_name(wanted, taken),
                newcomer.wanted_name,
                newcomer.address,
                newcomer.port,
                newcomer.opened_s,
                newcomer.account,
                old.musician,
                old.held,
                old.known,
                phase=Phase.ACTIVE,
                peer_port=newcomer.peer_port,
                joined_s=now,
            )
        )
        back.udp_port = newcomer.udp_port
        back.round_trip_s = newcomer.round_trip_s
        back.reconnects = old.reconnects + 1
        return back

    def leave(self, session: Session, now: float) -> bool:
        """Note that a session was told to end; False if that is no news."""
        if session.phase in (Phase.LEAVING, Phase.MOVING):
            return False
        self._enter_phase(session, Phase.LEAVING)
        session.leaving_s = now
        return True

    def close(self, session: Session, now: float) -> None:
        """Forget a session and free its slot; not for the two sides of a take-over."""
        for _, old in self.moves():
            if old is session:
                raise ValueError(f"session {session.number} is being replaced, not closed")
        self._remove(session)
        self._resting.append((now, session.slot))

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _enter(self, session: Session) -> Session:
        self._by_number[session.number] = session
        self._by_slot[session.slot] = session
        self._phases[session.phase][session.number] = session
        self._sources[session.source] += 1
        return session

    def _enter_phase(self, session: Session, phase: Phase) -> None:
        del self._phases[session.phase][session.number]
        session.phase = phase
        self._phases[phase][session.number] = session

    def _remove(self, session: Session) -> None:
        del self._by_number[session.number]
        del self._by_slot[session.slot]
        del self._phases[session.phase][session.number]
        self._sources[session.source] -= 1
        if not self._sources[session.source]:
            del self._sources[session.source]


def unique_name(wanted: str, taken: Iterable[str]) -> str:
    """The name, or JACK's way of telling namesakes apart: ``name-01``, ``name-02``..."""
    taken = set(taken)
    if wanted not in taken:
        return wanted
    number = 1
    while (name := f"{wanted}-{number:02}") in taken:
        number += 1
    return name


def _require(session: Session, phase: Phase) -> None:
    if session.phase is not phase:
        raise ValueError(
            f"session {session.number} is {session.phase.value}, {phase.value} was wanted"
        )
