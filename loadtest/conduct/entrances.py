"""Clients come in and go: handshakes, orders to the generator, and the record of it all.

Only the main thread's event loop is here; the generator obeys within a millisecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.clients.state import ABSENT, LEAVE, PLAY, VANISH, State
from loadtest.clients.wires import BASE, ORDERS, Wires, client_address, set_hub
from loadtest.conduct.handshake import HandshakeError, Introduction, shake_hands
from loadtest.conduct.outcome import EventKind, Joined
from loadtest.scenario.model import Scenario, Sources
from shared.atomics import store_release
from shared.kernels import kernel

OBEY_S = 5.0
"""A generator that has not obeyed by then is not running."""
DISOBEYED = "the generator does not obey"
_POLL_S = 0.002
_ORDERS = ORDERS


@kernel
def place_order(run, clients, orders, index, wish):
    """Tell the generator what is wished of a client; what was written about it before is seen."""
    store_release(clients[index], "wish", wish)
    orders[run[0].orders % _ORDERS] = index
    store_release(run[0], "orders", run[0].orders + 1)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event whose time is not yet counted from the opening."""

    at_ns: int
    kind: EventKind
    client: int
    text: str = ""


class Entrances:
    """Lets clients in and out.

    Attributes:
        joins: every time that a client came in.
        happened: joins, leaves and refusals.
        problems: refusals of clients that are not optional, a line each.
        own_faults: what the generator should have done, and did not.
        playing: (CLOCK_MONOTONIC ns, clients in), whenever it changed.
    """

    def __init__(
        self,
        scenario: Scenario,
        state: State,
        wires: Wires,
        *,
        family: int,
        host: str,
        port: int,
        udp_ports: list[int],
        base: tuple[int, int] = BASE,
    ) -> None:
        """udp_ports: that the sockets are bound to; host: numeric."""
        self.joins: list[Joined] = []
        self.happened: list[Happened] = []
        self.problems: list[str] = []
        self.own_faults: list[str] = []
        self.playing: list[tuple[int, int]] = []
        self._scenario, self._state, self._wires = scenario, state, wires
        self._family, self._host, self._port = family, host, port
        self._udp_ports, self._base = udp_ports, base
        self._in: dict[int, Joined] = {}
        self._sections = [
            section for section in scenario.sections for _ in range(section.clients)
        ]  # fmt: skip

    @property
    def present(self) -> list[int]:
        """The clients that are in."""
        return list(self._in)

    def hub_port(self, index: int) -> int:
        """The UDP port that it was answered; 0 while it is away."""
        return self._in[index].hub_port if index in self._in else 0

    def label(self, index: int) -> str:
        """What a client calls itself: its section's name, and its number from 1."""
        section = self._sections[index]
        return f"{section.name} {index - self._scenario.members(section.name).start + 1}"

    async def join(self, index: int) -> bool:
        """Bring a client in; it plays on return. False: it was refused."""
        if index in self._in:
            return True
        if not await self._obeyed(lambda: bool(self._state.clients["stage"][index] == ABSENT)):
            self._disobeyed()
            self._note(EventKind.NOTE, index, f"cannot come back: {DISOBEYED}")
            return False
        try:
            answer = await shake_hands(self._host, self._port, self._introduction(index))
        except HandshakeError as error:
            self._refuse(index, str(error))
            return False
        clients = self._state.clients
        self._wires.post.links["left_port"][index] = clients["hub_port"][index]
        set_hub(self._wires, index, self._family, self._host, answer.hub_port)
        clients["hub_port"][index] = answer.hub_port
        clients["generation"][index] += 1
        joined = Joined(
            index, int(clients["generation"][index]), answer.hub_port, answer.started_ns,
            answer.answered_ns,
        )  # fmt: skip
        self._order(index, PLAY)
        self._in[index] = joined
        self.joins.append(joined)
        self._note(EventKind.JOIN, index)
        return True

    def leave(self, index: int, *, vanish: bool) -> None:
        """Take a client out: with exit packets, or without a word. No-op when it is away."""
        joined = self._in.pop(index, None)
        if joined is None:
            return
        joined.first_ns = int(self._state.clients["first_ns"][index])
        self._order(index, VANISH if vanish else LEAVE)
        self._note(EventKind.LEAVE, index, "without a word" if vanish else "")

    def leave_all(self) -> None:
        """Everybody goes, politely."""
        for index in self.present:
            self.leave(index, vanish=False)

    async def all_out(self) -> None:
        """Until the generator has obeyed all orders; if it does not, that is its fault."""
        run = self._state.run
        if not await self._obeyed(lambda: bool(run["obeyed"][0] >= run["orders"][0])):
            self._disobeyed()

    async def _obeyed(self, done: Callable[[], bool]) -> bool:
        """Whether the generator has done something within its time.

        A client that was told to leave must have left before it is written about anew.
        """
        deadline = time.monotonic() + OBEY_S
        while not done():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _disobeyed(self) -> None:
        if DISOBEYED not in self.own_faults:
            self.own_faults.append(DISOBEYED)

    def _refuse(self, index: int, why: str) -> None:
        self._note(EventKind.REFUSED, index, why)
        if not self._sections[index].optional:
            self.problems.append(f"client {index} ({self.label(index)}): {why}")

    def _introduction(self, index: int) -> Introduction:
        section = self._sections[index]
        by_address = self._scenario.sources == Sources.ADDRESSES
        return Introduction(
            section.hello,
            self.label(index),
            self._udp_ports[index % len(self._udp_ports)],
            client_address(index, self._base) if by_address else "",
            section.username,
            section.password,
        )

    def _order(self, index: int, wish: int) -> None:
        state = self._state
        place_order(state.run, state.clients, self._wires.post.orders, index, wish)

    def _note(self, kind: EventKind, index: int, text: str = "") -> None:
        now_ns = time.monotonic_ns()
        self.happened.append(Happened(now_ns, kind, index, text))
        if kind is not EventKind.REFUSED:
            self.playing.append((now_ns, len(self._in)))
