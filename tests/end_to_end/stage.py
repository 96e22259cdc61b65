"""Where a test plays: JACK servers for the session, a hub, clients and their logs."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.hubs import AnyHub, Hub, OriginalHub, against_original
from tests.end_to_end.measuring import Take, record
from tests.end_to_end.peers import RATE_HZ, JackServer, JackTripClient
from tests.end_to_end.sound import Voice


class Jacks:
    """Dummy JACK servers by period, each started when first needed.

    There is room for eight, or on a machine where tests may not have memory of their own for
    eight of all test runs together: so a session keeps one, and all others end with the test
    that needed them. Were each of three runs side by side to keep three, they would wait for
    each other for ever.
    """

    KEPT = 128
    """The period that nearly all tests play at."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._servers: dict[int, JackServer] = {}

    def __call__(self, period: int = 128) -> JackServer:
        server = self._servers.get(period)
        if server is None or not server.process.running:
            server = self._servers[period] = JackServer(self.directory, period)
        return server

    def rest(self) -> None:
        """Nobody plays now: those that few need end."""
        for period in self._servers.keys() - {self.KEPT}:
            self._servers.pop(period).stop()

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()


@dataclass(slots=True)
class Stage:
    """Where a test plays: its hub, its clients, its logs."""

    directory: Path
    jacks: Jacks
    hubs: list[AnyHub] = field(default_factory=list)
    clients: list[JackTripClient] = field(default_factory=list)
    own_jack: JackServer | None = None
    odd_jacks: list[JackServer] = field(default_factory=list)

    def jack_to_lose(self, period: int = 128, rate_hz: int = RATE_HZ) -> JackServer:
        """A JACK server for this test alone, in place of the one it had before.

        For a client that is to crash, which costs the others on its server some cycles, and
        may make `jackd` refuse newcomers for a while.
        """
        if self.own_jack is not None:
            self.own_jack.stop()
        self.own_jack = JackServer(self.directory, period, rate_hz)
        return self.own_jack

    def odd_jack(self, rate_hz: int, period: int = 128) -> JackServer:
        """One more JACK server for this test alone, whose clock is off.

        JackTrip presents as 48 kHz what is less than 100 Hz away from it.
        """
        self.odd_jacks.append(JackServer(self.directory, period, rate_hz))
        return self.odd_jacks[-1]

    def hub(
        self,
        patch: int,
        period: int = 128,
        options: Sequence[str] = (),
        *,
        follows_clocks: bool = False,
    ) -> Hub:
        """Start the hub under test. (The original, if it stands in, is used as one.)

        Args:
            follows_clocks: as hubs do unless told otherwise. Where a machine halts, JACK's dummy
                driver loses time again and again: a clock that is off, and nobody is to resample
                what is compared bit by bit (`record_exactly`).
        """
        hub: Any
        if against_original():
            hub = OriginalHub(self.directory, patch, period, options)
        else:
            clocks = () if follows_clocks else ("--drift", "off", "--match-clients", "off")
            hub = Hub(self.directory, patch, period, [*clocks, *options])
        self.hubs.append(hub)
        started: Hub = hub
        return started

    def client(
        self, hub: Hub, name: str, sends: int = 1, receives: int = 1, **details: Any
    ) -> JackTripClient:
        """Start a client (see `start_client`) and wait until it hears of the hub."""
        client = self.start_client(hub, name, sends, receives, **details)
        client.wait_connected()
        return client

    def start_client(
        self,
        hub: Hub,
        name: str,
        sends: int = 1,
        receives: int = 1,
        *,
        period: int = 128,
        jack: JackServer | None = None,
        **details: Any,
    ) -> JackTripClient:
        """Start a client on `jack`, else on the session's server of this period.

        `details` are as for `JackTripClient`.
        """
        client = JackTripClient(
            jack or self.jacks(period),
            self.directory,
            name,
            details.pop("hub_port", hub.port),
            sends,
            receives,
            **details,
        )
        self.clients.append(client)
        return client

    def everybody_in(self, hub: Hub) -> list[JackTripClient]:
        """All clients that are running, once the hub has each of them in its mix."""
        running = [client for client in self.clients if client.process.running]
        hub.wait_for_clients(len(running))
        hub.settle()
        return running

    def record(
        self,
        hub: Hub,
        voices: Mapping[tuple[str, int], Voice],
        clients: Sequence[JackTripClient],
        **details: Any,
    ) -> Take:
        return record(hub, self.directory, voices, clients, **details)

    def record_exactly(
        self,
        hub: Hub,
        voices: Mapping[tuple[str, int], Voice],
        clients: Sequence[JackTripClient],
        **details: Any,
    ) -> Take:
        """The same of a hub that follows clocks, to be compared bit by bit.

        Who is resampled stays so, and no repetition would help: then all begin anew.
        """
        if hub.resampled():
            self.begin_anew(hub, clients)
        take = self.record(hub, voices, clients, **details)
        take.disturbances += [f"hub: {name} is resampled" for name in hub.resampled()]
        return take

    def begin_anew(self, hub: Hub, clients: Sequence[JackTripClient]) -> None:
        """End these clients, who are all the hub has, and start them again."""
        for client in clients:
            client.stop()
        hub.wait_for_clients(0)
        for client in clients:
            client.restart()
        hub.wait_for_clients(len(clients))
        hub.settle()

    def close(self, failed: bool) -> None:
        """End everything; after a test that passed, each hub as a user would."""
        with ExitStack() as whatever_happens:
            whatever_happens.callback(self.jacks.rest)
            if self.own_jack is not None:
                whatever_happens.callback(self.own_jack.stop)
            for jack in self.odd_jacks:
                whatever_happens.callback(jack.stop)
            for hub in self.hubs:
                whatever_happens.callback(hub.kill)
            for client in self.clients:
                whatever_happens.callback(client.stop)
            if failed:
                return
            for client in self.clients:
                client.process.send(signal.SIGINT)
            for client in self.clients:
                client.stop()
            for hub in self.hubs:
                hub.stop()
