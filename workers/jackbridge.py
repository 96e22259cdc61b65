"""The JACK bridge: a process of its own that makes the hub's clients appear in a local JACK graph.

Its Python only opens, names, connects and closes; the sound is JACK's threads' and kernels'
(``workers.jackports``). The mixer is another process, which misses nothing when this one or the
JACK server dies::

    jackd ── cycle ──► groups' callbacks ──► beat ──► futex ──► mixer: tick ──► clients
                        │ rings → receive_k   │ cycle = tick
                        └ send_k → arena      └ time of the cycle

A life of this process is one of the JACK server: libjack does not come clean out of a server that
has gone, so the process ends with it, and the next waits for the next server.
"""

from __future__ import annotations

import gc
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from shared.arena import Arena
from shared.callbacks import Callback
from shared.jacklayout import JackState
from shared.layout import EndpointSlot, PatchMode, RxState
from shared.messages import WorkerExit
from workers import jackports, realtime
from workers.jackcables import AGAIN_S, Cabling
from workers.jackclock import Client, JackClient, JackUnavailable
from workers.jackgroup import MAX_DELAY_S, Group, Member, Shape, Workshop, make_desk
from workers.jackports import VOICE, play_beat, play_group

BEAT_NAME, BEAT_PORT = "tuttihub", "cycle"
POLL_S = 0.02
LOOK_S = 0.5
"""Between two looks at all there is, when nobody has come or gone."""
RETRY_S = 0.5
"""Between two looks for a JACK server."""
HUNG_S = 1.0
"""A server that lets no cycle run for so long stands still."""
LINGER_S = 3.0
"""Ports of who has left stay so long: who comes back finds its cables."""
ASK_S, MAX_ASK_S = 1.0, 10.0
"""Where JACK let somebody not in, it is asked again for one of them: at first so soon, for it turns
newcomers away while one of its clients is late; then ever more seldom, for it may have no room."""
CLOSING_S = 0.3


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """What the bridge is told.

    Attributes:
        server: JACK server's name; None: the default one.
        alone: a JACK client for each of the hub's; else for each section, or for all.
        include: server's sound joins in in modes 2 and 4.
        connect: make the connections of modes 0 and 3.
        broadcast: packets that broadcast ports are behind; 0: there are none.
    """

    server: str | None = None
    alone: bool = True
    include: bool = False
    connect: bool = True
    broadcast: int = 0

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Self:
        """From an order's words."""
        return cls(
            server=words.get("server"),
            alone=bool(words.get("alone", True)),
            include=bool(words.get("include")),
            connect=bool(words.get("connect", True)),
            broadcast=int(words.get("broadcast", 0)),
        )


class Wanted(NamedTuple):
    """A group that there should be."""

    name: str
    shape: Shape
    who: tuple[Member, ...]


@dataclass(slots=True)
class Bridge:
    """Ports for who is there, until the hub or the JACK server ends.

    Attributes:
        refused: for whom JACK had no room, by the group's number.
        room_s, pause_s: when it is asked again, and how long after the last time.
        more: there are more groups to open; one is opened a turn.
    """

    arena: Arena
    life: int
    settings: BridgeSettings
    beat: Client | None = None
    cabling: Cabling | None = None
    groups: dict[int, Group] = field(default_factory=dict)
    refused: dict[int, tuple[Member, ...]] = field(default_factory=dict)
    room_s: float = 0.0
    pause_s: float = 0.0
    more: bool = False
    patch: PatchMode = PatchMode.NONE
    workshop: Workshop = field(init=False)
    beat_desk: npt.NDArray[np.int64] = field(init=False)
    counted: list[int] = field(default_factory=lambda: [0, 0])
    calls: tuple[int, float] = (0, 0.0)
    seen: tuple[bytes, ...] = ()
    look_s: float = 0.0
    cable_s: float = 0.0

    def __post_init__(self) -> None:
        voices = np.zeros(len(self.arena.slots), VOICE)
        self.workshop = Workshop(self.arena, self._client, self.settings.alone, voices)
        self.beat_desk = make_desk(self.arena)

    def run(self) -> int:
        """A ``WorkerExit``."""
        gc.enable()
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        jack = self.arena.jack[0]
        jack["pid"] = os.getpid()
        jack["base_ticks"] = -1
        for name in ("clients", "ports", "left_out", "patience", "graph_ns"):
            jack[name] = 0  # what its former server was like says nothing of this one
        life = select.poll()
        life.register(self.life, select.POLLIN)
        while True:
            jack["turns"] += 1
            pause_s = RETRY_S
            if self.beat is not None or self._open():
                if self._gone():
                    jack["state"] = JackState.WAITING
                    jack["deaths"] += 1
                    return int(WorkerExit.JACK_GONE)  # closing clients of a dead server may hang
                with suppress(JackUnavailable):  # what that means, the next turn tells
                    self._turn(time.monotonic())
                pause_s = 0.0 if self.more else POLL_S
            if life.poll(1000 * pause_s):
                return int(WorkerExit.HUB_GONE)
            if self.arena.control[0]["stop"]:
                self._close()
                return int(WorkerExit.DONE)

    def _open(self) -> bool:
        """Find the JACK server."""
        jack, settings = self.arena.jack[0], self.settings
        data = self.beat_desk.ctypes.data
        try:
            self.beat = self._client(BEAT_NAME, play_beat, inputs=[BEAT_PORT], data=data)
            self.beat.activate()
        except JackUnavailable:
            self.beat = None
            jack["state"] = JackState.WAITING
            return False
        self.cabling = Cabling(
            self.beat,
            f"{self.beat.name}:{BEAT_PORT}",
            connect=settings.connect,
            include=settings.include,
            upmix=bool(self.arena.header[0]["upmix"]),
        )
        self.calls = 0, time.monotonic()
        return True

    def _client(
        self,
        name: str,
        callback: Callback,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        data: int = 0,
    ) -> Client:
        """Open a client of the JACK server, which the beat's hears for; as ``JackClient``."""
        clock = self.beat if isinstance(self.beat, JackClient) else None
        server = self.settings.server
        return JackClient(
            name, callback, inputs=inputs, outputs=outputs, server=server, data=data, clock=clock
        )

    def _gone(self) -> bool:
        assert self.beat is not None
        return self.beat.facts.gone is not None

    def _turn(self, now_s: float) -> None:
        """Tell how JACK is, and bring ports and connections up to date if it answers."""
        assert self.beat is not None
        hung = self._stands_still(now_s)
        if hung:  # whoever asks it something would wait
            self.more = False
        else:
            seen = self._see()
            if self.more or seen != self.seen or now_s >= self.look_s:
                self.seen, self.look_s = seen, now_s + LOOK_S
                self._look(now_s)
        self._tell(self.beat, hung)  # that it is there is said once there are ports

    def _stands_still(self, now_s: float) -> bool:
        """Whether JACK has let no cycle run for a while."""
        calls, since_s = int(self.beat_desk[jackports.CALLS]), self.calls[1]
        if calls != self.calls[0]:
            self.calls = calls, now_s
            return False
        return calls > 0 and now_s - since_s > HUNG_S

    def _see(self) -> tuple[bytes, ...]:
        """Who is there, in few words: other ones when somebody has come or gone."""
        arena, at = self.arena, self._present()
        told = [arena.slots["session"][at], *(arena.rx[name][at] for name in ("channels", "wants"))]
        return tuple(each.tobytes() for each in (at, *told, arena.control["patch"]))

    def _present(self) -> npt.NDArray[np.intp]:
        """Slots of who is to have ports."""
        high = int(self.arena.control[0]["slots_high"])
        slots, rx = self.arena.slots[:high], self.arena.rx[:high]
        sessions = slots["session"]
        there = (sessions != 0) & (slots["jack_group"] != 0) & (slots["held"] == 0)
        return np.flatnonzero(there & (rx["session"] == sessions) & (rx["state"] == RxState.ACTIVE))

    def _look(self, now_s: float) -> None:
        """Bring ports, connections and what is told of them up to date."""
        wanted = dict(self._wanted())
        self.more = False
        for number in [n for n, group in self.groups.items() if group.client.facts.gone]:
            self._shut(number)  # JACK has thrown out this one alone
        for number in [n for n in self.groups if n not in wanted]:
            self._leave(number, now_s)
        for number in [n for n in self.refused if n not in wanted]:
            del self.refused[number]
        for number, group in wanted.items():
            self._serve(number, group, now_s)
        self._cable(now_s)
        jack = self.arena.jack[0]
        jack["clients"] = len(self.groups)
        jack["ports"] = sum(group.shape.ports for group in self.groups.values())
        jack["left_out"] = sum(len(who) for who in self.refused.values())

    def _tell(self, beat: Client, hung: bool) -> None:
        """What JACK has told, to the arena."""
        jack, header, facts = self.arena.jack[0], self.arena.header[0], beat.facts
        xruns, changes = facts.xruns, facts.period_changes
        jack["xruns"] += xruns - self.counted[0]
        jack["period_changes"] += changes - self.counted[1]
        self.counted = [xruns, changes]
        jack["rate_hz"], jack["period_frames"] = facts.rate_hz, facts.period_frames
        fits = facts.rate_hz == header["rate_hz"] and facts.period_frames == header["period_frames"]
        state = JackState.RUNNING if fits else JackState.MISFIT
        state = JackState.FREEWHEEL if facts.freewheel else state
        jack["state"] = JackState.HUNG if hung else state
        for name in ("garbled", "gaps"):
            jack[name] = self.arena.jack_groups[name].sum()

    def _wanted(self) -> Iterator[tuple[int, Wanted]]:
        """Groups that there should be, by number."""
        if self.arena.header[0]["endpoint"]:
            yield self._of_endpoint()
            return
        arena, found = self.arena, dict[int, tuple[str, Shape, list[Member]]]()
        for slot in self._present().tolist():
            record, rx = arena.slots[slot], arena.rx[slot]
            number = int(record["jack_group"]) - 1
            shape = Shape(2, 2, self._delay(float(arena.header[0]["period_frames"])))
            if self.settings.alone:
                delay = self._delay(float(rx["span"]))
                shape = Shape(int(rx["channels"]), int(rx["wants"]), delay)
            _, _, who = found.setdefault(number, (_name_of(record), shape, []))
            who.append((slot, int(record["session"])))
        for number, (name, shape, members) in found.items():
            yield number, Wanted(name, shape, tuple(members))

    def _delay(self, packet: float) -> int:
        """Frames that broadcast ports are behind, by those of a packet."""
        most = MAX_DELAY_S * int(self.arena.header[0]["rate_hz"])
        return min(round(self.settings.broadcast * packet), most)

    def _of_endpoint(self) -> tuple[int, Wanted]:
        """The one group of an endpoint, which is there before the other side is.

        What it sends to the other side is what the stream hears.
        """
        device, stream = self.arena.rx[EndpointSlot.DEVICE], self.arena.slots[EndpointSlot.STREAM]
        session = int(self.arena.slots[EndpointSlot.PEER]["session"])
        shape = Shape(receives=int(device["wants"]), sends=int(device["channels"]))
        who = ((int(EndpointSlot.PEER), session),) if session else ()
        return int(stream["jack_group"]) - 1, Wanted(_name_of(stream), shape, who)

    def _serve(self, number: int, wanted: Wanted, now_s: float) -> None:
        """See to it that a group has ports, and the right members."""
        group = self.groups.get(number)
        if group is not None and (group.wanted, group.shape) != (wanted.name, wanted.shape):
            self._shut(number)
            group = None
        if group is None:
            group = self._adopt(number, wanted) or self._make(number, wanted, now_s)
        if group is None:
            return
        group.idle_s = None
        who = wanted.who if self.settings.alone else (*wanted.who, *self._ending(group, wanted))
        if group.who != who:
            self._seat(number, group, who)

    def _ending(self, group: Group, wanted: Wanted) -> Iterator[Member]:
        """Who has left, and is heard until its sound has faded."""
        for slot, session in group.who:
            rx = self.arena.rx[slot]
            ended = rx["session"] == session and rx["state"] == RxState.ENDED
            if ended and (slot, session) not in wanted.who:
                yield slot, session

    def _seat(self, number: int, group: Group, who: tuple[Member, ...]) -> None:
        """Other members, of whom one alone hears the group's ports as its own."""
        group.seat(who)
        alone = self.settings.alone and not self.arena.header[0]["endpoint"]
        self.arena.jack_groups[number]["session"] = who[0][1] if alone and who else 0

    def _adopt(self, number: int, wanted: Wanted) -> Group | None:
        """Ports that somebody of this name has left, cables and all."""
        for other, group in self.groups.items():
            same = (group.wanted, group.shape) == (wanted.name, wanted.shape)
            if same and group.idle_s is not None and self.settings.alone:
                del self.groups[other]
                self.groups[number] = group
                group.desk[jackports.GROUP] = number
                self.arena.jack_groups[number]["sends"] = wanted.shape.sends
                return group
        return None

    def _make(self, number: int, wanted: Wanted, now_s: float) -> Group | None:
        """Open a JACK client for a group; None when there is no room for it, or not in this turn.

        Where there is no room for one, the others are not tried until there is for it.
        """
        if self.refused and now_s < self.room_s:
            self.refused[number] = wanted.who
            return None
        if self.more:
            return None
        self.more = True  # whoever comes next has to wait for the next turn
        record = self.arena.jack_groups[number]
        record["ticks"], record["sends"] = -1, wanted.shape.sends
        try:
            group = self.workshop.make(number, wanted.name, wanted.shape)
            self._seat(number, group, wanted.who)
            self._activate(group)
        except JackUnavailable:
            if not self._gone():
                self.pause_s = min(max(ASK_S, 2 * self.pause_s), MAX_ASK_S)
                self.refused[number], self.room_s = wanted.who, now_s + self.pause_s
            return None
        self.refused.pop(number, None)
        self.pause_s = 0.0
        self.groups[number] = group
        return group

    @staticmethod
    def _activate(group: Group) -> None:
        try:
            group.client.activate()
        except JackUnavailable:
            group.client.close()
            raise

    def _leave(self, number: int, now_s: float) -> None:
        """A group without members: its ports stay for a while."""
        group = self.groups[number]
        if group.idle_s is None:
            group.idle_s = now_s
        elif now_s - group.idle_s > LINGER_S:
            self._shut(number)

    def _shut(self, number: int) -> None:
        self.groups.pop(number).client.close()
        self.arena.jack_groups[number]["ticks"] = -1
        self.room_s = 0.0  # there is room again

    def _cable(self, now_s: float) -> None:
        """Cables of who is new, of all when the mode is another, and now and then those missing."""
        assert self.cabling is not None
        patch = PatchMode(int(self.arena.control[0]["patch"]))
        due = [group for group in self.groups.values() if not group.cables]
        if patch is not self.patch or now_s >= self.cable_s:
            due = list(self.groups.values())
            self.cable_s = now_s + AGAIN_S
        self.patch = patch
        if due:
            self.cabling.find_card()
        for group in due:
            self.cabling.cable(group, patch)

    def _close(self) -> None:
        """Leave JACK in order, as far as there is time."""
        until = time.monotonic() + CLOSING_S
        if self.arena.jack[0]["state"] == JackState.HUNG:
            return
        for group in self.groups.values():
            if time.monotonic() < until:
                group.client.close()
        if self.beat is not None and time.monotonic() < until:
            self.beat.close()


def _name_of(slot: Any) -> str:
    """What a slot's JACK client is to be called."""
    name: str = slot["jack_name"].tobytes().rstrip(b"\0").decode(errors="replace")
    return name or "client"


def prepare_bridge() -> int:
    """Load the callbacks' machine code; how many of them had to be compiled."""
    callbacks = (play_group, play_beat)
    return sum(bool(callback.address) and callback.anew for callback in callbacks)


def run_bridge(arena: Arena, life: int, settings: BridgeSettings, real: bool) -> int:
    """The bridge's life, after its fork."""
    if real:
        realtime.lock_arena(arena)
    return Bridge(arena, life, settings).run()
