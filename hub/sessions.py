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

Whoever is asked for by number, slot, name, musician or UDP port is found without a look at the
others, so that a join costs the same however many are here.

Who takes over whom is for ``hub.identity`` to say. Until the old session's receiver and the
newcomer's own have ended, both slots stay occupied.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from hub.addresses import IPAddress, address_bytes
from hub.door import Refusal
from hub.identity import Key, musician_key, nameless_name
from hub.networks import source_key

K = TypeVar("K")

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
        self._free = bytearray(b"\1" * slots)  # 1: can be given
        self._resting: dict[int, float] = {}  # when it was left, by slot, oldest first
        self._by_number: dict[int, Session] = {}
        self._by_slot: dict[int, Session] = {}
        self._by_name: dict[str, Session] = {}
        self._by_key: _Groups[Key] = _Groups()
        self._by_peer_port: _Groups[int | None] = _Groups()
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
        return self._by_name.get(name)

    def of_musician(self, key: Key) -> Collection[Session]:
        """The sessions of all who go by one key."""
        return self._by_key[key]

    def met_by(self, newcomer: Session, peer_port: int) -> list[Session]:
        """By slot, whom a newcomer could be, or be in the way of, at a UDP port of its own."""
        found = {*self._by_key[newcomer.key], *self._by_peer_port[peer_port]} - {newcomer}
        return sorted(found, key=lambda session: session.slot)

    def of_source(self, address: IPAddress) -> int:
        """How many sessions an address's source has (see ``hub.networks``)."""
        return self._sources[source_key(address)]

    def waiting_of(self, address: IPAddress) -> int:
        """How many of them have yet to send anything."""
        key = source_key(address)
        return sum(session.source == key for session in self.waiting())

    @property
    def full(self) -> bool:
        return not self._resting and self._free.find(1) < 0

    @property
    def slots_high(self) -> int:
        """One more than the highest slot in use or resting: the mixer looks no further."""
        return self._free.rfind(0) + 1

    def settle(self, now: float, faded: Callable[[int], bool] = lambda slot: True) -> list[int]:
        """Slots whose rest is over, and voice faded: from now on they are as good as new."""
        rested = []
        for slot, left_s in self._resting.items():
            if left_s > now - self._rest_s or not faded(slot):
                break
            rested.append(slot)
        for slot in rested:
            del self._resting[slot]
            self._free[slot] = 1
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
        return self._enter(
            Session(
                self._next_number(),
                slot,
                unique_name(wanted_name, self._by_name),
                wanted_name,
                address,
                port,
                now,
                account,
            )
        )

    def _take_slot(self, prefer: int | None, avoid: Collection[int]) -> int:
        if prefer in self._resting:
            del self._resting[prefer]
            return prefer
        lowest = self._free.find(1)
        if lowest < 0:
            oldest = next(iter(self._resting))
            del self._resting[oldest]
            return oldest
        if prefer is not None and self._free[prefer]:
            slot = prefer
        else:
            slot = lowest
            while slot in avoid:
                slot = self._free.find(1, slot + 1)
            if slot < 0:
                slot = lowest
        self._free[slot] = 0
        return slot

    def rename(self, session: Session, wanted: str) -> None:
        """Show a session under a name, if nobody else is."""
        if wanted not in self._by_name:
            del self._by_name[session.name]
            session.name = wanted
            self._by_name[wanted] = session

    def follow(self, session: Session, peer_port: int) -> None:
        """Note that a client's datagrams come from a port, or from another one now."""
        self._by_peer_port.discard(session.peer_port, session)
        session.peer_port = peer_port
        self._by_peer_port.add(peer_port, session)

    def alone_at(self, peer_port: int) -> bool:
        """Whether no more than one client, of whatever address, has this UDP port."""
        return len(self._by_peer_port[peer_port]) <= 1

    def rival(self, newcomer: Session, peer_port: int) -> Session | None:
        """The session that holds the newcomer's address and port already, if any.

        It may be LEAVING; then the newcomer had better knock again a little later.
        """
        address = address_bytes(newcomer.address)
        for other in self._by_peer_port[peer_port]:
            if (
                other is not newcomer
                and other.phase in (Phase.ACTIVE, Phase.LEAVING)
                and address_bytes(other.address) == address
            ):
                return other
        return None

    def admit(self, session: Session, peer_port: int, now: float) -> None:
        """Let a waiting session in."""
        _require(session, Phase.WAITING)
        self._enter_phase(session, Phase.ACTIVE)
        self.follow(session, peer_port)
        session.joined_s = now

    def take_over(self, newcomer: Session, old: Session, peer_port: int, now: float) -> None:
        """Begin to put a waiting session in the place of an active one."""
        _require(newcomer, Phase.WAITING)
        _require(old, Phase.ACTIVE)
        self._enter_phase(old, Phase.LEAVING)
        self._enter_phase(newcomer, Phase.MOVING)
        old.leaving_s = newcomer.leaving_s = now
        self.follow(newcomer, peer_port)
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
        self._resting[newcomer.slot] = now
        wanted = old.name if old.wanted_name == newcomer.wanted_name else newcomer.wanted_name
        back = self._enter(
            Session(
                self._next_number(),
                old.slot,
                unique_name(wanted, self._by_name),
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
        self._resting[session.slot] = now

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _enter(self, session: Session) -> Session:
        self._by_number[session.number] = session
        self._by_slot[session.slot] = session
        self._by_name[session.name] = session
        self._by_key.add(session.key, session)
        self._by_peer_port.add(session.peer_port, session)
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
        del self._by_name[session.name]
        self._by_key.discard(session.key, session)
        self._by_peer_port.discard(session.peer_port, session)
        del self._phases[session.phase][session.number]
        self._sources[session.source] -= 1
        if not self._sources[session.source]:
            del self._sources[session.source]


class _Groups(Generic[K]):
    """Sessions by something that several may have in common, in the order they came to it."""

    def __init__(self) -> None:
        self._groups: dict[K, dict[Session, None]] = {}

    def __getitem__(self, key: K) -> Collection[Session]:
        return self._groups.get(key, {}).keys()

    def add(self, key: K, session: Session) -> None:
        self._groups.setdefault(key, {})[session] = None

    def discard(self, key: K, session: Session) -> None:
        group = self._groups[key]
        del group[session]
        if not group:
            del self._groups[key]


def unique_name(wanted: str, taken: Container[str]) -> str:
    """The name, or JACK's way of telling namesakes apart: ``name-01``, ``name-02``..."""
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
