"""Live hubs for the tests of the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hub.client import HubClient
from hub.door import DoorRules
from tests.end_to_end.hubs import Hub
from tests.end_to_end.processes import wait_until
from tests.hub.houses import Build, House

DEADLINE_S = 15.0


class LiveHub(Hub):
    """A hub in processes of its own, and a line to its control socket."""

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            async with HubClient(self.control) as client:
                return await client.request(op, **fields)

        return asyncio.run(ask())

    def state(self) -> dict[str, Any]:
        return self.ask("status")

    def present(self) -> list[dict[str, Any]]:
        clients: list[dict[str, Any]] = self.ask("clients")["clients"]
        return clients

    def find(self, name: str) -> dict[str, Any] | None:
        """State of the client of this name, if it is here."""
        return next((client for client in self.present() if client["name"] == name), None)

    def active(self, name: str) -> dict[str, Any]:
        """State of this client, as soon as it is heard."""

        def ready() -> dict[str, Any] | None:
            client = self.find(name)
            return client if client is not None and client["state"] == "active" else None

        found = wait_until(ready, DEADLINE_S, f"{name} is active")
        assert found is not None
        return found

    def missed_ticks(self) -> int:
        """Ticks that this machine was too busy for: each is a packet less for everybody."""
        return int(self.state()["hub"]["mixer"]["missed"])

    def empty(self) -> None:
        """Wait until nobody is here."""
        wait_until(lambda: not self.present(), DEADLINE_S, "the hub is empty")


StartHub = Callable[..., LiveHub]


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[StartHub]:
    """Starts hubs; after the test they must stop cleanly, unless they ended before."""
    hubs: list[LiveHub] = []

    def start(*options: str, **settings: Any) -> LiveHub:
        directory = tmp_path / str(len(hubs))  # its log must not be another's
        directory.mkdir()
        hub = LiveHub(directory, options=("--max-clients", "24", *options), **settings)
        hubs.append(hub)
        return hub

    try:
        yield start
        for hub in hubs:
            if hub.process.running:
                hub.stop()
    finally:
        for hub in hubs:
            hub.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """One full-mix hub for all tests of a module that leave it as they found it."""
    hub = LiveHub(tmp_path_factory.mktemp("hub"), options=("--max-clients", "24"))
    try:
        yield hub
        hub.stop()
    finally:
        hub.kill()


@pytest.fixture
def build() -> Iterator[Build]:
    houses: list[House] = []

    def build(rules: DoorRules | None = None, banfile: Path | None = None) -> House:
        houses.append(House(rules, banfile))
        return houses[-1]

    yield build
    for house in houses:
        house.membership.close()
    structlog.reset_defaults()


@pytest.fixture
def house(build: Build) -> House:
    return build()
