"""What went wrong lately, in words: the audio path only counts, here the counts are read.

Every few seconds each counter of trouble is compared with its last value; what grew is one
log event a client (the worst few) and one for the hub's own clock. All is well: no event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from shared.arena import Arena, Records

log = structlog.get_logger()

INTERVAL_S = 10.0
WORST = 5
"""Clients that are named; of the others only how many they are."""

RX_TROUBLE = (
    "lost", "late", "underruns", "overflows", "restarts", "kernel_drops", "malformed", "foreign"
)  # fmt: skip
TX_TROUBLE = ("errors",)
CLOCK_TROUBLE = ("missed", "overruns", "starved")
LANE_TROUBLE = ("missed",)


@dataclass(frozen=True, slots=True)
class Present:
    """A client to look at."""

    slot: int
    session: int
    name: str


@dataclass(slots=True)
class Accounts:
    """Last values of the counters; ``report`` logs what grew and returns it."""

    arena: Arena
    _clients: dict[int, dict[str, int]] = field(default_factory=dict)  # by session
    _hub: dict[str, int] = field(default_factory=dict)

    def report(self, present: Sequence[Present]) -> dict[str, dict[str, int]]:
        """Compare with the last time; what grew, by client's name, and '' for the hub."""
        grown: dict[str, dict[str, int]] = {}
        now = self._read_hub()
        if trouble := _growth(now, self._hub):
            grown[""] = trouble
            log.warning("hub in trouble", **trouble)
        self._hub = now
        clients = {client.session: self._read_client(client.slot) for client in present}
        worst: list[tuple[int, Present, dict[str, int]]] = []
        for client in present:
            trouble = _growth(clients[client.session], self._clients.get(client.session, {}))
            if trouble:
                grown[client.name] = trouble
                worst.append((sum(trouble.values()), client, trouble))
        self._clients = clients
        worst.sort(key=lambda entry: -entry[0])
        for _, client, trouble in worst[:WORST]:
            log.info("client in trouble", slot=client.slot, name=client.name, **trouble)
        if len(worst) > WORST:
            log.info("more clients in trouble", clients=len(worst) - WORST)
        return grown

    def _read_hub(self) -> dict[str, int]:
        found = _read(self.arena.clock[0], CLOCK_TROUBLE)
        for name in LANE_TROUBLE:
            found[f"lanes_{name}"] = int(self.arena.lanes[name].sum())
        return found

    def _read_client(self, slot: int) -> dict[str, int]:
        found = _read(self.arena.rx[slot], RX_TROUBLE)
        found |= _read(self.arena.tx[slot], TX_TROUBLE)
        return found


def _read(record: Records, names: Sequence[str]) -> dict[str, int]:
    return {name: int(record[name]) for name in names}


def _growth(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in now.items() if n > before.get(name, 0)}
