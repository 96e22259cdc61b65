"""A console and its desk over a house, and a line to them."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

from hub.commands import answer
from hub.console import Console
from hub.desk import Desk
from hub.door import DoorRules
from hub.events import Event
from hub.snapshot import told_row
from tests.hub.houses import House


class Studio:
    """A house, its console, and a line to them."""

    def __init__(self, scenefile: Path | None = None, rules: DoorRules | None = None) -> None:
        self.told: list[Event] = []
        self.house = House(rules, tell=self.told.append)
        self.console = Console(
            self.house.membership, self.house.directory, scenefile, self.told.append
        )
        self.desk = Desk(
            self.house.arena, self.house.directory, self.house.membership, self.house.porter,
            lambda: None, self.console,
        )  # fmt: skip

    def reply(self, op: str, **fields: object) -> dict[str, Any]:
        request = json.dumps({"v": 1, "op": op, **fields}).encode()
        reply: dict[str, Any] = json.loads(asyncio.run(answer(request, self.desk)))
        return reply

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        reply = self.reply(op, **fields)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def refused(self, op: str, **fields: object) -> tuple[str, str]:
        before = self.written()
        reply = self.reply(op, **fields)
        assert not reply["ok"], reply
        assert self.written() == before
        return reply["error"]["code"], reply["error"]["message"]

    def hears(self, listener: int, source: int) -> tuple[float | None, float | None]:
        """Gain and pan in the arena; None: as without."""
        levels, pans = told_row(self.house.arena, listener)
        gain, pan = float(levels[source]), float(pans[source])
        return None if math.isnan(gain) else gain, round((pan - 2) * 100, 3) if pan else None

    def written(self) -> dict[str, Any]:
        """All levels in the arena."""
        arena, slots = self.house.arena, range(len(self.house.arena.slots))
        return {
            "strips": [[float(arena.slots[s][n]) for n in ("gain", "panned")] for s in slots],
            "rows": [[self.hears(a, b) for b in slots] for a in slots],
            "hub": (int(arena.control[0]["patch"]), float(arena.control[0]["master"])),
        }
