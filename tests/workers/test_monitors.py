"""Monitor mixes: the same as if every listener had a row of every source, and no step on the way.

The hub's own levels write the arena and a lane's kernels read it; what is expected comes from the
rules alone, source by source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.hearing import Heard
from hub.levels import Levels
from shared.layout import PatchMode
from tests.workers import twins
from tests.workers.desk import SESSION, Desk, decoded, desk_of
from tests.workers.twins import Doubles, Floats
from workers.transmit import Lane, adopt, make_lane, serve_tick

PERIOD = 128
LISTENERS, SOURCES = 4, 6
SECTIONS = ("high", "low", "all")
PERIOD_S = PERIOD / 48000
STRIPS: dict[int, Floats] = {
    slot: np.repeat(np.array([levels], np.float32).T, PERIOD, axis=1)
    for slot, levels in enumerate(
        [(0.5, 0.125), (0.25,), (0.0625, 0.75), (0.375,), (0.1, 0.2), (0.3,)]
    )
}
RANGE = 1.7 * sum(float(strip.max()) for strip in STRIPS.values())
"""No coefficient of the gains used here is greater."""

parties = st.sampled_from([*SECTIONS, 0, 1, 2, 3, 5])
gains = st.none() | st.sampled_from([0.0, 0.25, 1.0, 1.7])
pans = st.none() | st.sampled_from([-100.0, -40.0, 0.0, 70.0])
flags = st.sampled_from([None, None, None, False, True])
rules = st.tuples(parties, parties, st.builds(Heard, gains, pans, flags, flags))
members = st.tuples(st.sampled_from(SECTIONS), st.sets(st.integers(0, SOURCES - 1)))
modes = st.sampled_from([mode for mode in PatchMode if mode != PatchMode.RESERVED])
masters = st.sampled_from([1.0, 0.5])
held = st.tuples(st.just("held"), st.integers(0, LISTENERS - 1), st.booleans())
changes = st.lists(rules | members | modes | masters | held, min_size=1, max_size=3)


class Hall:
    """Levels, listeners, and what they hear tick by tick."""

    def __init__(self, desk: Desk, lanes: int = 1) -> None:
        self.desk, self.lanes = desk, [desk.lane]
        self.levels = Levels(desk.arena)
        for slot in range(SOURCES):
            self.levels.clear(slot)
        for slot in range(LISTENERS):
            desk.listener(slot, frames=PERIOD, bits=32, wants=2)
        for _ in range(lanes - 1):
            self.lanes.append(self.another_lane())

    def another_lane(self) -> Lane:
        lane = make_lane(len(self.desk.arena.slots), PERIOD, 48000)
        lane.fds[:LISTENERS], lane.sessions[:LISTENERS] = self.desk.hub.fileno(), SESSION
        return lane

    def tick(self, strips: dict[int, Floats] = STRIPS) -> dict[int, Doubles]:
        """(2, PERIOD) of each listener."""
        desk, several = self.desk, len(self.lanes) > 1
        desk.publish(strips)
        desk.arena.clock[0]["levels"][:] = desk.arena.control[0]["levels"]
        heard: dict[int, Doubles] = {}
        for index, lane in enumerate(self.lanes):
            lanes = len(self.lanes) if several else 0
            serve_tick(desk.arena, index + several, lanes, desk.tick, desk.wall_us, lane)
            slots = range(index, LISTENERS, len(self.lanes))
            heard |= zip(slots, (decoded(datagram) for datagram in desk.heard()), strict=True)
        return heard

    def play(self, ticks: int, strips: dict[int, Floats] = STRIPS) -> dict[int, Doubles]:
        """(2, ticks · PERIOD) of each listener."""
        blocks = [self.tick(strips) for _ in range(ticks)]
        return {
            slot: np.concatenate([block[slot] for block in blocks], axis=1)
            for slot in range(LISTENERS)
        }

    def expected(self, listener: int) -> Doubles:
        """(2,) heard in the end, by the rules."""
        levels, heard = self.levels, np.zeros(2)
        row = levels.row(listener)
        others, own = (0.0, 0.0) if levels.held(listener) else twins.preset(levels.patch)
        for source, strip in STRIPS.items():
            gain, pan = row.get(source, (None, None))
            patched = others + (own if source == listener else 0.0)
            level = levels.master * (patched if gain is None else gain)
            for channel in range(2):
                of_strip = strip[min(channel, len(strip) - 1), 0]
                heard[channel] += level * law(pan, len(strip))[channel] * of_strip
        return heard

    def change(self, change: object) -> None:
        match change:
            case PatchMode():
                self.levels.set_patch(change)
            case float(master):
                self.levels.set_master(master)
            case (str(), int(slot), bool(hold)):
                self.levels.set_held(slot, hold)
            case (str(section), set(slots)):
                self.levels.set_members(section, slots)
            case (int() | str() as who, int() | str() as what, Heard() as how):
                if {who, what} & set(SECTIONS) <= self.levels.hearing.sections.keys():
                    self.levels.set_heard(who, what, how)


def law(pan: float | None, strips: int) -> tuple[float, float]:
    """Gains of channels 1 and 2, by docs/levels.md."""
    if pan is None:
        return 1.0, 1.0 if strips > 1 else 0.0
    left, right = (math.sin((100 + side * pan) * math.pi / 400) for side in (-1, 1))
    if strips == 1:
        return left, right
    return min(1.0, math.sqrt(2) * left), min(1.0, math.sqrt(2) * right)


@contextmanager
def hall_of(lanes: int = 1) -> Iterator[Hall]:
    with desk_of(slots=SOURCES, period=PERIOD) as desk:
        desk.mode(PatchMode.FULL_MIX)
        yield Hall(desk, lanes)


def straight(before: Doubles, after: Doubles, ticks: int) -> Doubles:
    """(2, ticks · PERIOD) from one to the other."""
    ramp = np.arange(1, ticks * PERIOD + 1) / (ticks * PERIOD)
    return before[:, None] + (after - before)[:, None] * ramp


@settings(max_examples=60)
@given(
    st.lists(st.tuples(changes, st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=6),
    st.sampled_from([1, 2]),
)
def test_everybody_hears_what_the_rules_say_and_no_step(
    steps: list[tuple[list[object], int, int]], lanes: int
) -> None:
    """Changes come while others are still fading; in the end all has arrived."""
    with hall_of(lanes) as hall:
        for section, slots in (("high", {0, 1}), ("low", {2, 3}), ("all", set(range(5)))):
            hall.levels.set_members(section, slots)
        played = [hall.play(2)]
        for wanted, fade, ticks in steps:
            with hall.levels.together(fade * PERIOD_S):
                for change in wanted:
                    hall.change(change)
            played.append(hall.play(ticks))
        played.append(hall.play(6))
        for slot in range(LISTENERS):
            sound = np.concatenate([block[slot] for block in played], axis=1)
            np.testing.assert_allclose(sound[:, -1], hall.expected(slot), atol=2e-6)
            assert np.abs(np.diff(sound)).max() <= 2 * RANGE / PERIOD
        if not any(monitor.listeners for monitor in hall.levels._monitors._known.values()):
            assert not hall.desk.arena.slots["monitor"].any()


def test_a_rule_between_sections_is_one_row_whoever_is_in_them() -> None:
    with hall_of() as hall:
        slots, monitors = hall.desk.arena.slots, hall.desk.arena.monitors
        hall.levels.set_members("high", {0, 1, 2})
        hall.levels.set_members("low", {3, 4, 5})
        hall.levels.set_heard("high", "low", Heard(gain=0.25, pan=-40.0))
        assert slots["monitor"].tolist() == [1, 1, 1, 0, 0, 0]
        assert monitors["overrides"].tolist()[:3] == [0, 3, 0]
        assert not slots["overrides"].any()
        hall.play(2)
        assert not hall.lanes[0].rows.counts.any()

        hall.levels.set_heard("high", "high", Heard(gain=0.5))
        assert slots["overrides"].tolist() == [1, 1, 1, 0, 0, 0]  # its own voice, each
        hall.levels.set_heard(0, 4, Heard(muted=True))
        assert slots["overrides"].tolist() == [2, 1, 1, 0, 0, 0]
        written = slots["row_changes"].tolist()
        hall.levels.set_members("low", {3, 4})
        assert slots["row_changes"].tolist() == written
        assert monitors["overrides"][1] == 5
        hall.play(2)
        for slot in range(LISTENERS):
            np.testing.assert_allclose(hall.tick()[slot][:, -1], hall.expected(slot), atol=2e-6)


def test_what_a_listener_has_of_its_own_stays_while_its_section_fades() -> None:
    """A source that it has muted is not heard for a moment, whatever its section is given."""
    only = {4: STRIPS[4]}
    with hall_of() as hall:
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_members("low", {3, 4})
        hall.levels.set_heard("high", "low", Heard(gain=0.5))
        hall.levels.set_heard(0, 4, Heard(muted=True))
        before = hall.play(2, only)
        with hall.levels.together(6 * PERIOD_S):
            hall.levels.set_heard("high", "low", Heard(gain=1.5, pan=70.0))
        heard = hall.play(7, only)
        assert np.abs(heard[0]).max() <= 1e-6
        after = STRIPS[4][:, 0] * 1.5 * np.array(law(70.0, 2))
        way = straight(before[1][:, -1], after, 6)
        np.testing.assert_allclose(heard[1][:, : 6 * PERIOD], way, atol=2e-6)


@pytest.mark.parametrize("fading", ["section", "listener", "monitor"])
def test_who_comes_does_not_cut_off_a_fade(fading: str) -> None:
    """Of those who hear its section, and it is heard as it should be from its first sample on."""
    ticks, rest = 8, {slot: strip for slot, strip in STRIPS.items() if slot != 5}
    with hall_of() as hall:
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_members("low", {3, 4})
        if fading != "monitor":
            hall.levels.set_heard("high", "low", Heard(gain=0.5))
        if fading == "listener":
            hall.levels.set_heard(0, "low", Heard(gain=1.0))
        before = hall.play(2, rest)[0][:, -1]
        with hall.levels.together(ticks * PERIOD_S):
            hall.levels.set_heard(0 if fading == "listener" else "high", "low", Heard(gain=0.125))
        faded = hall.play(3, rest)[0]
        hall.levels.set_members("low", {3, 4, 5})
        faded = np.concatenate([faded, hall.play(ticks - 3, rest)[0]], axis=1)
        after = STRIPS[0][:, 0] + STRIPS[2][:, 0] + np.array([STRIPS[1][0, 0], 0.0])
        after += 0.125 * (STRIPS[4][:, 0] + np.array([STRIPS[3][0, 0], 0.0]))
        np.testing.assert_allclose(faded, straight(before, after, ticks), atol=2e-6)
        whole = hall.tick()[0]
    np.testing.assert_allclose(whole[0], after[0] + 0.125 * STRIPS[5][0, 0], atol=2e-6)


@pytest.mark.parametrize("ticks", [1, 2])
def test_patch_and_master_take_over_what_fades(ticks: int) -> None:
    """On a monitor, on the bus, with a row, and on the way from one monitor to another."""
    with hall_of() as hall:
        for section, slots in (("high", {0}), ("low", {3}), ("all", {4})):
            hall.levels.set_members(section, slots)
        hall.levels.set_heard("high", "all", Heard(gain=0.5))
        hall.levels.set_heard("low", "all", Heard(gain=0.25))
        hall.levels.set_pair(2, 4, 0.25)
        hall.play(2)
        with hall.levels.together(8 * PERIOD_S):
            hall.levels.set_master(0.5)
            hall.levels.set_members("low", ())
            hall.levels.set_members("high", {0, 3})
        before = hall.play(3)
        with hall.levels.together(ticks * PERIOD_S):
            hall.levels.set_master(0.0)
        after = hall.play(ticks)
        for slot in range(LISTENERS):
            assert np.abs(before[slot][:, -1]).min() > 0.1
            np.testing.assert_allclose(after[slot][:, -1], 0.0, atol=2e-6)


def test_who_begins_anew_while_all_fade_does_not_hear_itself() -> None:
    """Its own voice is taken out of its monitor as that has it, not as it will be."""
    only = {0: STRIPS[0]}
    with hall_of() as hall:
        desk = hall.desk
        hall.levels.set_patch(PatchMode.FAN_OUT_NO_SELF)
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_heard("high", 5, Heard(gain=0.5))
        hall.play(2, only)
        with hall.levels.together(8 * PERIOD_S):
            hall.levels.set_master(0.1)
        hall.play(3, only)
        desk.arena.rx[0]["session"] = desk.lane.sessions[0] = SESSION + 1
        heard = np.abs(hall.play(7, only)[0])
    assert heard[:, PERIOD:].max() <= 1e-6
    # its part rises while its monitor falls: no straight line, a quarter off it at most
    assert heard[:, :PERIOD].max() <= 0.5 * (0.9 / 8) / 4 + 1e-6


def test_the_first_of_a_section_does_not_cut_off_the_fade_of_who_hears_it() -> None:
    rest = {slot: strip for slot, strip in STRIPS.items() if slot < 3}
    with hall_of() as hall:
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_members("low", ())
        hall.levels.set_heard("high", "low", Heard(gain=0.25))
        before = hall.play(2, rest)[0][:, -1]
        with hall.levels.together(8 * PERIOD_S):
            hall.levels.set_master(0.1)
        faded = hall.play(3, rest)[0]
        hall.levels.set_members("low", {3})
        faded = np.concatenate([faded, hall.play(5, rest)[0]], axis=1)
        np.testing.assert_allclose(faded, straight(before, 0.1 * before, 8), atol=2e-6)
        np.testing.assert_allclose(hall.tick()[0][:, -1], hall.expected(0), atol=2e-6)


def test_one_who_is_given_another_monitor_is_cross_faded() -> None:
    """In a straight line, and through a third one before the second is all there."""
    with hall_of() as hall:
        for section, gain in (("high", 0.25), ("low", 1.5), ("all", 0.0)):
            hall.levels.set_members(section, ())
            hall.levels.set_heard(section, 5, Heard(gain=gain))
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_members("low", {2})
        hall.levels.set_members("all", {3})
        before = hall.play(2)[0][:, -1]
        with hall.levels.together(4 * PERIOD_S):
            hall.levels.set_members("high", {1})
            hall.levels.set_members("low", {0, 2})
        first = hall.play(2)[0]
        half = before + (hall.expected(0) - before) / 2
        np.testing.assert_allclose(first, straight(before, half, 2), atol=2e-6)
        with hall.levels.together(4 * PERIOD_S):
            hall.levels.set_members("low", {2})
            hall.levels.set_members("all", {0, 3})
        second = hall.play(5)[0]
        way = straight(half, hall.expected(0), 4)
        np.testing.assert_allclose(second[:, : 4 * PERIOD], way, atol=2e-6)
        assert np.count_nonzero(hall.lanes[0].monitors.heard[0]) == 1


def test_a_lane_that_is_replaced_goes_on_with_what_is_ordered() -> None:
    with hall_of() as hall:
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_heard("high", 4, Heard(gain=0.25))
        hall.levels.set_heard(0, 5, Heard(gain=0.5))
        hall.play(2)
        hall.lanes = [hall.another_lane()]
        adopt(hall.desk.arena, 0, 0, hall.lanes[0])
        heard = hall.play(2)
        for slot in range(LISTENERS):
            way = straight(np.zeros(2), hall.expected(slot), 1)
            np.testing.assert_allclose(heard[slot][:, :PERIOD], way, atol=2e-6)
            np.testing.assert_allclose(heard[slot][:, -1], hall.expected(slot), atol=2e-6)


def test_a_monitor_changes_nothing_of_what_rules_do_not_tell_of() -> None:
    """24 bit: the mixes of those who have one are exact sums, as the bus is."""
    rng = np.random.default_rng(3)
    strips: dict[int, Floats] = {
        slot: (rng.integers(-(1 << 20), 1 << 20, (2, PERIOD)) / (1 << 23)).astype(np.float32)
        for slot in range(SOURCES)
    }
    with hall_of() as hall:
        hall.levels.set_patch(PatchMode.FAN_OUT_NO_SELF)
        hall.levels.set_members("high", {0, 1})
        hall.levels.set_heard("high", 5, Heard(muted=True))
        hall.play(2, strips)
        heard = hall.tick(strips)
    for slot in (0, 1):
        rest = [strips[source] for source in range(5) if source != slot]
        np.testing.assert_array_equal(heard[slot], np.sum(rest, axis=0, dtype=np.float64))
