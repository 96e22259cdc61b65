"""A control socket that answers, with what was asked of it kept for the test to see."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.conditions.condition import Raised
from hub.conditions.looks import View, take_look
from hub.conditions.watch import CLIENT_CONDITIONS
from hub.conditions.whole import WHOLE
from hub.conditions.words import with_words
from hub.control import ControlSocket
from hub.directory import ClientInfo, Directory, HubInfo
from hub.events import LockSet
from hub.networks import Network
from hub.publisher import Publisher
from hub.rendezvous import events_endpoint
from hub.snapshot import client_status, hub_status
from hub.values import Queue
from shared.arena import Arena, create_arena
from shared.layout import PatchMode, RxState

START_S = 10.0
BAN = {"network": "192.0.2.1", "since_s": 1.0, "until_s": None, "reason": "", "name": "Anna"}


def directory(*clients: ClientInfo) -> Directory:
    """A hub's directory with these clients."""
    hub = HubInfo("1.2.3", 4321, 4464, 61002, 8, started_s=1_700_000_000.0, mixer_pid=4400)
    return Directory(hub, {client.slot: client for client in clients})


def make_arena(slots: int = 8, lanes: int = 0) -> Arena:
    """A hub's arena: 48 kHz, 128 frames, full mix."""
    fd, arena = create_arena(slots=slots, rate_hz=48000, period_frames=128, lanes=lanes)
    os.close(fd)  # the mapping stays
    arena.control[0]["patch"] = PatchMode.FULL_MIX
    return arena


def seat(arena: Arena, slot: int, session: int, **rx: int | float) -> None:
    """Fill a slot's receiving record as an active stereo client's."""
    record = arena.rx[slot]
    wanted: dict[str, int | float] = {
        "state": RxState.ACTIVE,
        "session": session,
        "peer_port": 50000 + slot,
        "frames": 128,
        "rate_code": 3,
        "rate_hz": 48000,
        "span": 128.0,
        "bits": 16,
        "channels": 2,
        "wants": 2,
        "redundancy": 1,
        **rx,
    }
    for name, value in wanted.items():
        record[name] = value
    arena.slots[slot]["session"] = session
    arena.tx[slot]["session"] = session


def raised(*slugs: str, since_s: float = 40.0) -> tuple[Raised, ...]:
    """These conditions, raised then, in an empty hub."""
    known = {condition.slug: condition for condition in (*CLIENT_CONDITIONS, *WHOLE)}
    arena = make_arena()
    view = View(arena)
    view.add(take_look(arena, [], 0, since_s))
    return tuple(Raised(known[slug], since_s, view, 0) for slug in slugs)


@dataclass
class RecordingHub:
    """Says yes to all, and remembers it."""

    arena: Arena = field(default_factory=make_arena)
    directory: Directory = field(default_factory=directory)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    holds: bool = True
    """Whether somebody waits to be admitted, and there is the ban that is to end."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """The bans."""
    endpoint: str = ""
    """Where it is asked."""
    has_jack: bool = False
    turns: int = 0
    """Of the loop that serves it, 5 ms apart or more."""
    publisher: Publisher = field(default_factory=Publisher)
    """Over TCP, tells of locks."""
    console: Any = None
    """Not asked: tests/hub/test_console.py has a real one."""

    def ping(self) -> dict[str, Any]:
        return {"version": "1.2.3", "pid": 4321}

    async def status(self) -> dict[str, Any]:
        state = hub_status(self.arena, self.directory, time.monotonic_ns(), time.time())
        return with_words(state)

    async def clients(self) -> list[dict[str, Any]]:
        return client_status(self.arena, self.directory.listed(), time.monotonic_ns())

    def find(self, client: int | str) -> int | None:
        slots = [c.slot for c in self.directory.listed() if client in (c.slot, c.name)]
        return slots[0] if slots else None

    def set_patch(self, mode: PatchMode) -> None:
        self.asked.append(("patch", mode))

    def set_gain(self, source: int, gain: float | None) -> None:
        self.asked.append(("gain", source, gain))

    def set_pair(self, listener: int, source: int, gain: float | None) -> None:
        self.asked.append(("pair", listener, source, gain))

    def set_pan(self, client: int, pan: float | None) -> None:
        self.asked.append(("pan", client, pan))

    def release_guard(self, client: int) -> None:
        self.asked.append(("guard", client))

    def set_limiter(self, on: bool) -> None:
        self.asked.append(("limiter", on))

    def set_muted(self, client: int, muted: bool) -> None:
        self.asked.append(("mute", client, muted))

    def set_queue(self, client: int, queue: Queue) -> None:
        self.asked.append(("queue", client, queue))

    def kick(self, client: int) -> bool:
        self.asked.append(("kick", client))
        return True

    def lock(self) -> bool:
        self.asked.append(("lock",))
        self.publisher.tell(LockSet(locked=True))
        return True

    def unlock(self) -> bool:
        self.asked.append(("unlock",))
        return False

    def set_waiting_room(self, on: bool) -> int:
        self.asked.append(("waiting-room", on))
        return 2

    def admit(self, client: int) -> bool:
        self.asked.append(("admit", client))
        return self.holds

    def refuse(self, client: int) -> bool:
        self.asked.append(("refuse", client))
        return self.holds

    async def ban_client(self, client: int, for_s: float | None, reason: str) -> dict[str, Any]:
        self.asked.append(("ban client", client, for_s, reason))
        return {**BAN, "kicked": [client], "others": 2, "saved": False}

    async def ban(self, target: Network | str, for_s: float | None, reason: str) -> dict[str, Any]:
        self.asked.append(("ban", target, for_s, reason))
        return {**BAN, "kicked": [], "others": 0, "saved": True}

    async def unban(self, target: Network | str) -> dict[str, Any] | None:
        self.asked.append(("unban", target))
        return {**BAN, "saved": True} if self.holds else None

    def bans(self) -> list[dict[str, Any]]:
        return list(self.listed)

    def shut_down(self) -> None:
        self.asked.append(("shutdown",))


@contextmanager
def listening(endpoint: str, hub: RecordingHub, keys: Path | None = None) -> Iterator[RecordingHub]:
    """Serve the hub's control socket from a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        control = ControlSocket(endpoint, hub, keys)
        control.start()
        hub.endpoint = control.endpoint
        if keys is not None:
            hub.publisher.bind_tcp(events_endpoint(endpoint), keys)
        ready.set()
        while not end.is_set():
            hub.turns += 1
            await asyncio.sleep(0.005)
        await control.close()
        hub.publisher.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(START_S), "control socket did not come up"
        yield hub
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()
