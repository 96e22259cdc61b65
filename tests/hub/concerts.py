"""A living hub as a data plane: players come in by its door, and its arena is read beside it.

So a take (``tests.workers.takes``) judges every sample that a whole hub returns, while its control
socket is asked for this and that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shared.arena import Arena, attach_arena
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub
from tests.hub.musicians import say_hello
from tests.workers.players import Player
from tests.workers.rig import DataPlane

EXACT = ("--queue", "7", "--drift", "off", "--match-clients", "off")
"""Options of a hub that has time for a busy machine, and resamples nobody."""


class Concert(DataPlane):
    """Players are called p0, p1 and so on, in the order in which they come."""

    def __init__(self, hub: LiveHub) -> None:
        self.hub = hub
        self.arena = arena_of(hub.process.pid)
        self.rate = int(self.arena.header[0]["rate_hz"])
        self.period = int(self.arena.header[0]["period_frames"])
        self.names: dict[Player, str] = {}

    def join(self, *players: Player, queue: int | None = None, shared: bool = False) -> None:
        for player in players:
            name = self.names.setdefault(player, f"p{len(self.names)}")
            port = say_hello(self.hub.port, name, player.socket.getsockname()[1])
            assert port is not None, f"the hub will not have {name}"
            player.hub = ("127.0.0.1", port)
            (player.slot,) = [one["slot"] for one in self.hub.present() if one["port"] == port]
            if queue is not None:
                self.hub.ask("queue", client=player.slot, queue=queue)

    def leave(self, *players: Player) -> None:
        for player in players:
            player.say_goodbye()
        ports = {player.hub[1] for player in players}
        wait_until(lambda: not ports & self._ports(), DEADLINE_S, "all have left")
        for player in players:
            player.close()

    def _ports(self) -> set[Any]:
        return {one["port"] for one in self.hub.present()}


def arena_of(supervisor: int) -> Arena:
    """The arena of a hub that runs, by its supervisor's descriptor of it."""
    for link in Path(f"/proc/{supervisor}/fd").iterdir():
        if "tuttihub-arena" in os.readlink(link):
            fd = os.open(link, os.O_RDWR)
            try:
                return attach_arena(fd)
            finally:
                os.close(fd)
    raise AssertionError(f"process {supervisor} has no arena")
