"""A hub's membership, reception and porter; receivers and clock are played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hub.addresses import Peer
from hub.berths import Berths
from hub.door import Door, DoorRules
from hub.events import Tell, nobody
from hub.membership import Membership
from hub.networks import Network
from hub.overload.admission import Admission
from hub.porter import Porter
from hub.ports import PortPool
from hub.sessions import Session
from hub.values import Queue
from loadtest.conduct.ports import PORTS
from shared.layout import EndReason, RxState
from shared.protocol import Hello
from tests.hub.listening import directory, make_arena

SLOTS = 6
HERE = ip_address("127.0.0.1")
UNIX_S = 1e9


class Staff:
    """Starts nobody."""

    sharing: frozenset[int] = frozenset()

    def hire_receiver(self, slot: int, session: int, *, alone: bool = False) -> None: ...
    def dismiss_receiver(self, session: int) -> None: ...
    def release(self, session: int) -> None: ...


class House:
    """A hub's membership and porter; receivers and the clock are played by hand.

    Attributes:
        now: monotonic and, beyond UNIX_S, wall clock.
    """

    def __init__(
        self,
        rules: DoorRules | None = None,
        banfile: Path | None = None,
        tell: Tell = nobody,
        admission: Admission | None = None,
    ) -> None:
        self.now = 100.0
        self.arena, self.directory = make_arena(SLOTS), directory()
        pool = PortPool(PORTS.take(12), 12)
        door = Door(rules)
        self.membership = Membership(
            self.arena,
            self.directory,
            Berths(pool, self.directory.hub),
            Staff(),
            0,
            Queue(4),
            door,
            tell=tell,
            admission=admission,
        )
        self.table, self.levels = self.membership.table, self.membership.levels
        self.membership.reception._unix_s = lambda: UNIX_S + self.now
        self.porter = Porter(
            self.membership, self.directory, banfile, lambda: UNIX_S + self.now, tell
        )

    def hello(
        self, name: str = "Anna", *, address: str = "192.0.2.1", udp_port: int = 4464,
        account: str = "",
    ) -> Session | None:  # fmt: skip
        peer = Peer(ip_address(address), 40000, HERE)
        port = self.membership.welcome(Hello(udp_port, name, True, account), peer, self.now)
        return None if port is None else next(s for s in self.table.sessions() if s.port == port)

    def knock(self, session: Session, port: int = 4464) -> None:
        """Its first datagram comes."""
        self.write(
            session, RxState.KNOCKING, peer_port=port, rate_code=3, frames=64,
            joined_ns=int(self.now * 1e9),
        )  # fmt: skip
        self.poll()

    def join(self, name: str = "Anna", port: int = 4464, **hello: Any) -> Session:
        session = self.hello(name, **hello)
        assert session is not None
        self.knock(session, port)
        if session.active:
            self.write(session, RxState.ACTIVE, valid_ns=int(self.now * 1e9))
        return session

    def heard(self, session: Session) -> None:
        self.arena.rx[session.slot]["valid_ns"] = int(self.now * 1e9)

    def write(self, session: Session, state: RxState, **fields: int) -> None:
        rx = self.arena.rx[session.slot]
        rx["session"] = session.number
        for name, value in fields.items():
            rx[name] = value
        rx["state"] = state

    def poll(self) -> None:
        self.membership.poll(self.now)

    def end(self, session: Session, reason: EndReason = EndReason.CLIENT_EXIT) -> None:
        """Its receiver ends, and its slot has rested."""
        self.write(session, RxState.ENDED, end_reason=reason)
        self.membership.receiver_ended([session.number], 0, self.now)
        self.now += 1.0
        self.arena.clock[0]["tick"] = 1 << 40
        self.poll()

    def obey(self) -> None:
        """All receivers that were told to end do so."""
        for session in self.table.going():
            self.write(session, RxState.ENDED, end_reason=EndReason.REPLACED)
        for session in self.table.going():
            self.membership.receiver_ended([session.number], 0, self.now)
        self.poll()

    def slot(self, session: Session, field: str) -> Any:
        return self.arena.slots[session.slot][field]

    def ban(
        self, target: Network | str, for_s: float | None = None, reason: str = "", name: str = ""
    ) -> dict[str, Any]:
        return asyncio.run(self.porter.ban(target, for_s, reason, self.now, name))

    def unban(self, target: Network | str) -> dict[str, Any] | None:
        return asyncio.run(self.porter.unban(target))

    @property
    def refused(self) -> dict[str, int]:
        return self.directory.hub.hellos_refused


Build = Callable[..., House]
