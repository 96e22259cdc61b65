"""Namesakes behind one router in any order of events: nobody who lives is ever pushed out."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.identity import SILENT_S
from hub.sessions import Session
from shared.layout import EndReason, RxState, StopOrder
from tests.hub.houses import SLOTS, House

TIMEOUT_S = 10.0


@dataclass(eq=False)
class Client:
    """One client program behind the router.

    Attributes:
        port: the router's, as the hub sees it.
        served: the hub's, by which its session is known whatever becomes of it.
    """

    name: str
    port: int
    served: int
    since: float
    alive: bool = True
    died: float = 0.0


class Router(RuleBasedStateMachine):
    """Clients start, crash, and are started again; the living are heard every 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.clients: list[Client] = []

    def teardown(self) -> None:
        self.house.membership.close()

    def session(self, client: Client) -> Session | None:
        found = (s for s in self.house.table.sessions() if s.port == client.served)
        return next(found, None)

    @precondition(lambda self: len(self.house.table) < SLOTS)
    @rule(name=st.sampled_from(["Anna", "Anna", "Berta", ""]), port=st.integers(1, 3))
    def start(self, name: str, port: int) -> None:
        if any(client.alive and client.port == port for client in self.clients):
            return
        session = self.house.hello(name)
        if session is not None:
            self.clients.append(Client(name, port, session.port, self.house.now))
            self.house.write(session, RxState.WAITING, valid_ns=int(self.house.now * 1e9))

    @precondition(lambda self: any(client.alive for client in self.clients))
    @rule(data=st.data(), politely=st.booleans())
    def stop(self, data: st.DataObject, politely: bool) -> None:
        client = data.draw(st.sampled_from([c for c in self.clients if c.alive]))
        client.alive, client.died = False, self.house.now
        session = self.session(client)
        if politely and session is not None and session.active:
            self.house.end(session)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.9, 2.1, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        end = self.house.now + seconds
        while self.house.now < end:
            self.house.now += min(0.01 if seconds < 0.1 else 0.1, seconds)
            for client in self.clients:
                self.play(client)
            self.house.poll()
            if round(self.house.now * 100) % 3 == 0:  # receivers take their time
                self.house.obey()

    def play(self, client: Client) -> None:
        """What its receiver does meanwhile."""
        session, house = self.session(client), self.house
        if session is None or session in house.table.going():
            return
        rx = house.arena.rx[session.slot]
        if not client.alive:
            if house.now - client.died >= TIMEOUT_S and rx["state"] != RxState.ENDED:
                house.end(session, EndReason.SILENCE)
        elif session.active:
            house.write(session, RxState.ACTIVE, valid_ns=int(house.now * 1e9))
        elif rx["state"] != RxState.KNOCKING:
            house.write(
                session, RxState.KNOCKING, peer_port=client.port, rate_code=3, frames=64,
                joined_ns=int(house.now * 1e9), valid_ns=int(house.now * 1e9),
            )  # fmt: skip

    @invariant()
    def the_living_are_here(self) -> None:
        for client in self.clients:
            if not client.alive:
                continue
            session = self.session(client)
            assert session is not None, client
            assert self.house.slot(session, "stop") == StopOrder.NONE
            if self.house.now - client.since > SILENT_S + 0.5:
                assert session.active, client

    @invariant()
    def nobody_has_anothers_name_or_port(self) -> None:
        sessions = self.house.table.sessions()
        assert len({s.name for s in sessions}) == len(sessions)
        served = [s.peer_port for s in sessions if s.active]
        assert len(set(served)) == len(served)
        assert len({s.musician for s in sessions}) == len(sessions)


TestRouter = Router.TestCase
TestRouter.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
