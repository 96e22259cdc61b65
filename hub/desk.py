"""What can be asked of a hub over its control socket, carried out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from hub.conditions.words import with_words
from hub.console import Console
from hub.directory import Directory
from hub.events import GuardReleased, Kicked, LimiterSet, QueueSet
from hub.membership import Membership
from hub.networks import Network
from hub.porter import Porter
from hub.snapshot import client_status, hub_status
from hub.values import Queue
from shared.arena import Arena
from shared.layout import PatchMode

log = structlog.get_logger()

CLIENTS_A_TURN = 32
"""Looked at before others have their turn: a full hub's would take tens of milliseconds."""


class Desk:
    """Implements ``hub.commands.Hub``.

    Args:
        stop: asks the supervisor to end the hub.
        console: of it; one without scenes unless given.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Directory,
        membership: Membership,
        porter: Porter,
        stop: Callable[[], None],
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(membership, directory)
        self._looking = asyncio.Lock()
        self._arena = arena
        self._directory = directory
        self._membership = membership
        self._porter = porter
        self._stop = stop

    @property
    def has_jack(self) -> bool:
        return self.console.has_jack

    def ping(self) -> dict[str, Any]:
        return {"version": self._directory.hub.version, "pid": self._directory.hub.pid}

    async def status(self) -> dict[str, Any]:
        clients = await self.clients()
        now_ns, now_s = time.monotonic_ns(), time.time()
        return with_words(hub_status(self._arena, self._directory, now_ns, now_s, clients))

    async def clients(self) -> list[dict[str, Any]]:
        async with self._looking:  # or many who ask at once take as many turns at a time
            listed, told = self._directory.listed(), []
            for k in range(0, len(listed), CLIENTS_A_TURN):
                # who has left meanwhile may have a newcomer in its slot
                here = self._directory.clients
                some = [who for who in listed[k : k + CLIENTS_A_TURN] if here.get(who.slot) is who]
                told += client_status(self._arena, some, time.monotonic_ns())
                await asyncio.sleep(0)
            return told

    def find(self, client: int | str) -> int | None:
        table = self._membership.table
        found = table.by_slot(client) if isinstance(client, int) else table.by_name(client)
        return None if found is None else found.slot

    def set_patch(self, mode: PatchMode) -> None:
        self.console.set_patch(mode)

    def set_gain(self, source: int, gain: float | None) -> None:
        self.console.levels.set_gain(source, gain)
        self.console.show(source)
        log.info("gain set", source=source, name=self._name(source), gain=gain)

    def set_pair(self, listener: int, source: int, gain: float | None) -> None:
        rule = self.console.levels.hearing.rule(listener, source)
        self.console.set_heard(listener, source, rule.changed(gain=gain))

    def set_pan(self, client: int, pan: float | None) -> None:
        self.console.levels.set_pan(client, pan)
        self.console.show(client)
        log.info("pan set", slot=client, name=self._name(client), pan=pan)

    def release_guard(self, client: int) -> None:
        record = self._arena.slots[client]
        record["guard_released"] = record["session"]
        log.info("guard lets a client be", slot=client, name=self._name(client))
        self.console.tell(GuardReleased(slot=client, name=self._name(client)))

    def set_limiter(self, on: bool) -> None:
        self._arena.control[0]["limiter"] = int(on)
        log.info("limiter set", on=on)
        self.console.tell(LimiterSet(slot=None, name=None, on=on))

    def set_muted(self, client: int, muted: bool) -> None:
        self.console.levels.set_muted(client, muted)
        self.console.show(client)
        log.info(
            "client muted" if muted else "client unmuted", slot=client, name=self._name(client)
        )

    def set_queue(self, client: int, queue: Queue) -> None:
        self._membership.set_queue(client, queue)
        log.info("queue set", slot=client, name=self._name(client), queue=str(queue))
        self.console.tell(QueueSet(slot=client, name=self._name(client), queue=str(queue)))

    def kick(self, client: int) -> bool:
        session = self._membership.table.by_slot(client)
        if session is None or not self._membership.kick(session, time.monotonic()):
            return False
        log.info("client kicked", slot=client, name=session.name)
        self.console.tell(Kicked(slot=client, name=session.name))
        return True

    def lock(self) -> bool:
        return self._porter.lock(time.monotonic())

    def unlock(self) -> bool:
        return self._porter.unlock()

    def set_waiting_room(self, on: bool) -> int:
        return self._porter.set_waiting_room(on)

    def admit(self, client: int) -> bool:
        session = self._membership.table.by_slot(client)
        return session is not None and self._porter.admit(session)

    def refuse(self, client: int) -> bool:
        session = self._membership.table.by_slot(client)
        return session is not None and self._porter.refuse(session, time.monotonic())

    async def ban_client(self, client: int, for_s: float | None, reason: str) -> dict[str, Any]:
        session = self._membership.table.by_slot(client)
        assert session is not None  # the caller has found it
        target = self._porter.target_of(session)
        return await self._porter.ban(target, for_s, reason, time.monotonic(), session.name)

    async def ban(self, target: Network | str, for_s: float | None, reason: str) -> dict[str, Any]:
        return await self._porter.ban(target, for_s, reason, time.monotonic())

    async def unban(self, target: Network | str) -> dict[str, Any] | None:
        return await self._porter.unban(target)

    def bans(self) -> list[dict[str, Any]]:
        return self._porter.bans()

    def shut_down(self) -> None:
        log.info("shutdown asked for over the control socket")
        self._stop()

    def _name(self, slot: int) -> str:
        return self._directory.clients[slot].name
