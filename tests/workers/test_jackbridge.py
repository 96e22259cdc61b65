"""What the bridge makes of who comes and goes, and of a JACK server that turns some away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from shared.arena import Arena, create_arena
from shared.callbacks import Callback
from shared.jacklayout import JackState
from shared.layout import JACK_NAME_BYTES, PatchMode, RxState
from workers.jackbridge import ASK_S, MAX_ASK_S, Bridge, BridgeSettings
from workers.jackclock import Client, JackFacts, JackUnavailable

PERIOD, RATE_HZ, SLOTS = 64, 48000, 4


@dataclass
class HandClient:
    """A JACK client without JACK."""

    name: str
    facts: JackFacts

    def activate(self) -> None: ...
    def close(self) -> None: ...
    def disconnect(self, source: str, destination: str) -> None: ...

    def connect(self, source: str, destination: str) -> bool:
        return True

    def ports(self, **wanted: bool) -> list[str]:
        return []


@dataclass(slots=True)
class HandBridge(Bridge):
    """A bridge to a server that lets in whom it likes.

    Attributes:
        full: nobody but the beat.
        asked: who has asked to be let in.
    """

    full: bool = False
    asked: list[str] = field(default_factory=list)

    def _client(
        self,
        name: str,
        callback: Callback,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        data: int = 0,
    ) -> Client:
        if self.beat is not None:
            self.asked.append(name)
            if self.full:
                raise JackUnavailable("no")
        return HandClient(name, JackFacts(PERIOD, RATE_HZ))


@pytest.fixture
def arena() -> Arena:
    fd, arena = create_arena(slots=SLOTS, rate_hz=RATE_HZ, period_frames=PERIOD, jack=True)
    os.close(fd)
    arena.control[0]["slots_high"] = SLOTS
    arena.control[0]["patch"] = PatchMode.NONE
    return arena


def opened(arena: Arena, *, alone: bool = True) -> HandBridge:
    bridge = HandBridge(arena, -1, BridgeSettings(alone=alone))
    assert bridge._open()
    return bridge


def seat(arena: Arena, slot: int, name: str, group: int) -> None:
    record, rx = arena.slots[slot], arena.rx[slot]
    record["session"] = rx["session"] = 10 + slot
    record["jack_group"] = 1 + group
    record["jack_name"] = np.frombuffer(name.encode().ljust(JACK_NAME_BYTES, b"\0"), np.uint8)
    rx["state"], rx["channels"], rx["wants"], rx["span"] = RxState.ACTIVE, 1, 1, PERIOD


def test_who_is_turned_away_is_let_in_soon_and_a_full_server_is_asked_ever_more_seldom(
    arena: Arena,
) -> None:
    bridge, jack = opened(arena), arena.jack[0]
    seat(arena, 0, "anna", 0)
    seat(arena, 1, "bert", 1)
    bridge.full = True
    tries: list[float] = []
    for tenth in range(600):
        before = len(bridge.asked)
        bridge._turn(tenth / 10)
        tries += [tenth / 10] * (len(bridge.asked) - before)
    assert np.diff(tries).round().tolist() == [ASK_S, 2.0, 4.0, 8.0] + [MAX_ASK_S] * 4
    assert (jack["clients"], jack["left_out"]) == (0, 2)
    assert set(bridge.asked) == {"anna"}  # there is no room for one, so the other is not tried
    bridge.full = False
    for tenth in range(600, 720):
        bridge._turn(tenth / 10)
    assert (jack["clients"], jack["left_out"]) == (2, 0)
    bridge.full = True
    seat(arena, 2, "carl", 2)
    bridge._turn(100.0)
    bridge.full = False
    bridge._turn(100.0 + ASK_S)
    assert (jack["clients"], jack["left_out"]) == (3, 0)


def test_a_server_is_told_to_be_there_once_there_are_ports(arena: Arena) -> None:
    bridge, jack = opened(arena), arena.jack[0]
    seat(arena, 0, "anna", 0)
    told: list[int] = []
    look = Bridge._look

    def watched(self: Bridge, now_s: float) -> None:
        told.append(int(jack["state"]))
        look(self, now_s)
        told.append(int(jack["state"]))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(HandBridge, "_look", watched)
        bridge._turn(0.0)
    assert told == [JackState.OFF, JackState.OFF]
    assert (jack["state"], jack["ports"]) == (JackState.RUNNING, 2)


def test_who_leaves_a_section_is_heard_until_its_sound_has_faded(arena: Arena) -> None:
    """Its place is let go when it is somebody else's, and not before."""
    bridge = opened(arena, alone=False)
    seat(arena, 0, "choir", 3)
    seat(arena, 1, "choir", 3)
    bridge._turn(0.0)
    group = bridge.groups[3]
    assert list(group.who) == [(0, 10), (1, 11)]
    arena.rx[0]["state"] = RxState.ENDED
    bridge._turn(1.0)
    assert list(group.who) == [(1, 11), (0, 10)]
    arena.slots[0]["session"] = 0  # its slot is free
    bridge._turn(2.0)
    assert list(group.who) == [(1, 11), (0, 10)]
    arena.rx[0]["session"] = 12
    bridge._turn(3.0)
    assert list(group.who) == [(1, 11)]
    arena.rx[1]["state"] = RxState.ENDED  # the last one
    bridge._turn(4.0)
    assert bridge.groups[3].who == ((1, 11),)
    bridge._turn(8.0)
    assert not bridge.groups
