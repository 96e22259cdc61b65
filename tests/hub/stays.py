"""Stays of clients, seen from the arena, with a staff that only takes notes."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from hub.addresses import Peer
from hub.berths import Berths
from hub.membership import Membership
from hub.pans import Section
from hub.ports import PortPool
from hub.sessions import Phase, Session
from hub.values import Queue
from loadtest.conduct.ports import PORTS
from shared.layout import EndReason, RxState
from shared.protocol import Hello
from tests.hub.listening import directory, make_arena

SLOTS = 4
QUEUE = Queue(0, headroom_ms=3)
HOME = Peer(ip_address("127.0.0.1"), 40000, ip_address("127.0.0.1"))


PID = 4321
"""Of all receivers."""


class Notes:
    """A staff that starts nobody."""

    def __init__(self) -> None:
        self.hired: list[tuple[int, int]] = []
        self.dismissed: list[int] = []
        self.alone: list[int] = []
        self.sharing: set[int] = set()

    def hire_receiver(self, slot: int, session: int, *, alone: bool = False) -> None:
        self.hired.append((slot, session))
        self.alone += [session] * alone

    def dismiss_receiver(self, session: int) -> None:
        self.dismissed.append(session)

    def release(self, session: int) -> None:
        self.sharing.discard(session)


class House:
    """A membership, and a hand that plays the receivers' part in the arena."""

    def __init__(self, lanes: int = 0, sections: Sequence[Section] = ()) -> None:
        self.arena = make_arena(SLOTS, lanes)
        self.staff = Notes()
        self.directory = directory()
        pool = PortPool(PORTS.take(8), 8)
        self.membership = Membership(
            self.arena,
            self.directory,
            Berths(pool, self.directory.hub),
            self.staff,
            lanes,
            QUEUE,
            sections=sections,
        )
        self.table = self.membership.table

    def enter(self, name: str = "Anna", now: float = 0.0) -> Session:
        port = self.membership.welcome(Hello(4464, name, True), HOME, now)
        assert port is not None
        session = next(s for s in self.table.sessions() if s.port == port)
        self.receiver(session, RxState.WAITING)
        return session

    def receiver(self, session: Session, state: RxState, **fields: int) -> None:
        """What its receiver would write."""
        record = self.arena.rx[session.slot]
        record["session"] = session.number
        record["pid"] = PID
        for name, value in fields.items():
            record[name] = value
        record["state"] = state

    def knock(self, session: Session, peer_port: int, now: float = 0.0) -> None:
        self.receiver(session, RxState.KNOCKING, peer_port=peer_port, frames=64)
        self.membership.poll(now)

    def join(self, peer_port: int, name: str = "Anna", now: float = 0.0) -> Session:
        session = self.enter(name, now)
        self.knock(session, peer_port, now)
        assert session.phase is Phase.ACTIVE
        self.receiver(session, RxState.ACTIVE)
        return session

    def end(self, session: Session, reason: EndReason, now: float = 0.0, status: int = 0) -> None:
        self.receiver(session, RxState.ENDED, end_reason=reason)
        self.membership.receiver_ended([session.number], status, now)

    def slot(self, session: Session, field: str) -> Any:
        return self.arena.slots[session.slot][field]
