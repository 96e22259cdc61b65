"""JACK's callbacks and what listeners hear of them, against their twins, whatever happens."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.arena import Arena
from shared.layout import MIN_RING_FRAMES, STRIP_DEPTH, RxState
from tests.workers import jack_twin
from tests.workers.arenas import arena_of
from tests.workers.jack_ports import PERIOD, Ports
from tests.workers.jack_twin import Player, Strip
from workers.jacktime import rebase
from workers.local import add_local, aim_local, forget_local, make_local

SLOTS = 3
FIRST = 5
GROUP = 2

gains = st.sampled_from([0.0, 0.25, 1.0, 2.0])
places = st.none() | st.tuples(gains, gains)


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, Any]]:
    """What happens before a cycle, to whom."""
    kind = st.one_of(
        st.tuples(st.just("order"), st.integers(0, SLOTS - 1),
                  st.tuples(gains, places, st.integers(0, 3))),
        st.tuples(st.just("torn"), st.integers(0, SLOTS - 1), st.booleans()),
        st.tuples(st.just("cut"), st.integers(0, SLOTS - 1), st.sampled_from([0.0, 0.5, 1.0])),
        st.tuples(st.just("late"), st.integers(0, SLOTS - 1), st.booleans()),
        st.tuples(st.just("leaves"), st.integers(0, SLOTS - 1), st.none()),
        st.tuples(st.just("comes"), st.integers(0, SLOTS - 1), st.none()),
        st.tuples(st.just("jumps"), st.just(0), st.integers(2, 9)),
        st.tuples(st.just("lost"), st.just(0), st.none()),
    )  # fmt: skip
    return draw(st.lists(kind, max_size=2))


class House:
    """Clients in an arena, and the same for the twin."""

    def __init__(self, arena: Arena, channels: list[int]) -> None:
        self.arena = arena
        self.late = [False] * SLOTS
        self.players: list[Player] = []
        rng = np.random.default_rng(3)
        for slot, count in enumerate(channels):
            sound = rng.uniform(-0.5, 0.5, (count, MIN_RING_FRAMES)).astype(np.float32)
            self.players.append(Player(1 + slot, sound, 0))
            rx = arena.rx[slot]
            rx["state"], rx["session"], rx["channels"] = RxState.ACTIVE, 1 + slot, count
            rx["ring_frames"] = MIN_RING_FRAMES
            arena.rings[slot, :count, :MIN_RING_FRAMES] = sound

    @property
    def members(self) -> list[tuple[int, int]]:
        return [(slot, player.session) for slot, player in enumerate(self.players)]

    def happen(self, what: str, slot: int, how: Any) -> None:
        player, rx, record = self.players[slot], self.arena.rx[slot], self.arena.slots[slot]
        match what:
            case "order":
                gain, place, fade = how
                player.strip = Strip(gain, place, player.strip.changes + 1, fade)
                record["strip_changes"], record["strip_fade"] = player.strip.changes, fade
                record["gain"], record["panned"] = gain, place is not None
                for name in ("pan", "balance"):
                    record[f"{name}_left"], record[f"{name}_right"] = place or (9.0, 9.0)
            case "torn":
                self.arena.control[0]["levels"] = 2 * 7 + how
                for each in self.players:
                    each.torn = how
            case "cut":
                player.cut = rx["cut"] = how
            case "late":
                self.late[slot] = how
            case "leaves":
                player.alive = False
                rx["state"] = RxState.ENDED
            case "comes":
                player.session += SLOTS
                player.alive, rx["session"], rx["state"] = True, player.session, RxState.ACTIVE

    def receive(self, tick: int) -> None:
        """What has come by this tick."""
        for slot, player in enumerate(self.players):
            player.until = (tick + (not self.late[slot])) * PERIOD
            self.arena.rx[slot]["watermark"] = player.until


@given(
    channels=st.lists(st.integers(1, 3), min_size=SLOTS, max_size=SLOTS),
    story=st.lists(happenings(), min_size=4, max_size=10),
    receives=st.integers(1, 3),
    sends=st.integers(0, 2),
    alone=st.booleans(),
    delay=st.sampled_from([0, 1, PERIOD - 1, 2 * PERIOD + 5]),
    hub=st.sampled_from([(False, False), (True, False), (False, True)]),
)
def test_a_group_plays_and_takes_what_its_twin_does(
    channels: list[int],
    story: list[list[tuple[str, int, Any]]],
    receives: int,
    sends: int,
    alone: bool,
    delay: int,
    hub: tuple[bool, bool],
) -> None:
    upmix, centre = hub
    rng = np.random.default_rng(4)
    with arena_of(slots=SLOTS, period=PERIOD, upmix=upmix) as arena:
        arena.header[0]["mono_centre"] = centre
        arena.jack_groups["ticks"] = -1
        house, ports = House(arena, channels), Ports(arena, receives, sends, alone, delay)
        twin = jack_twin.Group(
            receives, PERIOD, alone=alone, delay=delay, upmix=upmix, centre=centre
        )
        tick, garbled = FIRST, 0
        for before in story:
            lost = False
            for what, slot, how in before:
                tick += how if what == "jumps" else 0
                lost = lost or what == "lost"
                house.happen(what, slot, how)
            house.receive(tick)
            members = house.members[:1] if alone else house.members
            ports.seat(members)
            rebase(arena.jack[0], -1 if lost else 0, 0)
            ports.inputs[:] = rng.uniform(-1, 1, ports.inputs.shape)
            ports.inputs[rng.random(ports.inputs.shape) < 0.05] = np.nan
            heard = ports.cycle(tick)
            due = twin.cycle(-1 if lost else tick, members, house.players)
            assert np.allclose(heard, due, rtol=0, atol=1e-5)
            taken = np.flatnonzero(arena.jack_groups[GROUP]["ticks"] == tick)
            assert len(taken) == (not lost)
            if not lost:
                now = tick % STRIP_DEPTH
                garbled += int(np.count_nonzero(np.isnan(ports.inputs)))
                assert taken == [now]
                assert np.array_equal(
                    arena.jack_in[now, GROUP, :sends], np.nan_to_num(ports.inputs)
                )
            tick += 1
        assert arena.jack_groups[GROUP]["gaps"] == twin.gaps
        assert arena.jack_groups[GROUP]["garbled"] == garbled


@given(
    sends=st.integers(1, 3),
    wanted=st.integers(1, 3),
    story=st.lists(
        st.tuples(
            st.sampled_from(["there", "there", "there", "missing", "stranger"]),
            st.integers(0, 1),
            gains,
        ),
        min_size=3,
        max_size=12,
    ),
    folded=st.sampled_from([1.0, 0.5]),
)
def test_a_listener_hears_of_jack_what_its_twin_does(
    sends: int, wanted: int, story: list[tuple[str, int, float]], folded: float
) -> None:
    """Sound that is there or not, somebody else's ports, a graph that is slow for a while."""
    sound = np.random.default_rng(5).uniform(-1, 1, (40, sends, PERIOD)).astype(np.float32)
    with arena_of(slots=2, period=PERIOD) as arena:
        arena.slots[1]["jack_group"], arena.slots[1]["session"] = 1 + GROUP, 7
        group, local = arena.jack_groups[GROUP], make_local(2)
        group["sends"], group["ticks"] = sends, -1
        twin = jack_twin.Listener(wanted, PERIOD)
        forget_local(1, local)
        there = set[int]()
        for tick, (what, behind, gain) in enumerate(story, start=FIRST):
            now = tick % STRIP_DEPTH
            arena.clock[0]["mixed"][now] = tick
            arena.jack[0]["behinds"][now] = behind
            group["session"] = 6 if what == "stranger" else 7
            if what != "missing":
                there.add(tick)
                group["ticks"][now] = tick
                arena.jack_in[now, GROUP, :sends] = sound[tick]
            heard = np.zeros((wanted, PERIOD))
            aim_local(arena, now, 1, gain, folded, local)
            for channel in range(wanted):
                add_local(arena, 1, channel, PERIOD, local, heard[channel])
            has = what != "stranger" and tick - behind in there
            due = twin.tick(sound[tick - behind] if has else None, behind, gain, folded)
            assert np.allclose(heard, due, rtol=0, atol=1e-12)
