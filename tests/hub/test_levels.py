"""Gains: what is set, what the arena carries, and what is forgotten."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.hearing import Heard
from hub.levels import MAX_GAIN, PATIENCE_S, PLAIN_FADE_S, Levels, from_db, to_db
from hub.monitors import Monitors
from shared.layout import PatchMode
from tests.hub.listening import make_arena
from tests.hub.loops import in_a_loop

SLOTS = 6


@pytest.fixture
def levels() -> Levels:
    return Levels(make_arena(SLOTS))


def changes(levels: Levels) -> list[int]:
    """Of each listener's row."""
    counts: list[int] = levels._arena.slots["row_changes"].tolist()
    return counts


def pair(levels: Levels, listener: int, source: int) -> float | None:
    """What a lane would read: None is 'as the preset says'."""
    arena = levels._arena
    value = float(arena.pair[listener, source])
    if int(arena.slots[listener]["overrides"]) == 0 or math.isnan(value):
        return None
    return value


def strip(levels: Levels, slot: int) -> float:
    return float(levels._arena.slots[slot]["gain"])


def test_a_strip_is_at_unity_until_it_is_set(levels: Levels) -> None:
    assert strip(levels, 2) == 1.0
    levels.set_gain(2, 0.5)
    assert strip(levels, 2) == 0.5
    levels.set_gain(2, None)
    assert strip(levels, 2) == 1.0


def test_a_mute_keeps_the_gain_for_later(levels: Levels) -> None:
    levels.set_gain(2, 0.5)
    levels.set_muted(2, True)
    assert (strip(levels, 2), levels.gain(2)) == (0.0, 0.5)
    levels.set_gain(2, 0.25)
    assert strip(levels, 2) == 0.0
    levels.set_muted(2, False)
    assert strip(levels, 2) == 0.25


def test_an_override_is_written_counted_and_announced(levels: Levels) -> None:
    levels.set_pair(1, 3, 0.5)
    assert pair(levels, 1, 3) == 0.5
    assert levels._arena.slots[1]["overrides"] == 1
    assert changes(levels) == [0, 1, 0, 0, 0, 0]
    assert [pair(levels, 1, source) for source in (0, 1, 2, 4, 5)] == [None] * 5


def test_an_override_taken_back_is_the_presets_again(levels: Levels) -> None:
    levels.set_pair(1, 3, 0.5)
    levels.set_pair(1, 3, None)
    assert pair(levels, 1, 3) is None
    assert np.isnan(levels._arena.pair[1]).all()
    assert changes(levels) == [0, 2, 0, 0, 0, 0]


def test_taking_back_what_was_never_set_is_no_news(levels: Levels) -> None:
    levels.set_pair(1, 3, None)
    assert changes(levels) == [0] * SLOTS
    assert not levels._arena.pair[1].any()  # not even touched


def test_a_left_slot_is_forgotten_as_strip_listener_and_source(levels: Levels) -> None:
    levels.set_gain(2, 0.5)
    levels.set_muted(2, True)
    levels.set_pair(2, 3, 0.5)  # what it hears
    levels.set_pair(4, 2, 0.5)  # who hears it
    levels.set_pair(4, 3, 0.75)
    before = changes(levels)

    levels.clear(2)

    assert (strip(levels, 2), levels.gain(2), levels.muted(2)) == (1.0, 1.0, False)
    assert np.isnan(levels._arena.pair[2]).all()  # a lane reads the row when told
    assert pair(levels, 4, 2) is None
    assert pair(levels, 4, 3) == 0.75
    news = [slot for slot in range(SLOTS) if changes(levels)[slot] != before[slot]]
    assert news == [2, 4]


def test_clearing_what_was_never_set_is_no_news(levels: Levels) -> None:
    levels.clear(2)
    assert changes(levels) == [0] * SLOTS


@pytest.mark.parametrize("gain", [-0.1, MAX_GAIN * 1.01, math.inf, math.nan])
def test_gains_out_of_range_are_refused(levels: Levels, gain: float) -> None:
    with pytest.raises(ValueError, match="is not in 0"):
        levels.set_gain(0, gain)
    with pytest.raises(ValueError, match="is not in 0"):
        levels.set_pair(0, 1, gain)
    assert strip(levels, 0) == 1.0
    assert levels.hearing.listeners() == set()


@given(st.floats(-120.0, 24.0))
def test_decibels_and_back(gain_db: float) -> None:
    assert to_db(from_db(gain_db)) == pytest.approx(gain_db, abs=1e-9)


def test_silence_has_no_decibels() -> None:
    assert (from_db(-math.inf), to_db(0.0)) == (0.0, -math.inf)


def test_patch_and_master_write_no_row(levels: Levels) -> None:
    """Lanes would load all of them in one tick: what all go by has a counter of its own."""
    control = levels._arena.control[0]
    levels.set_pair(1, 3, 0.5)
    with levels.together(fade_s=2.0):
        levels.set_master(0.5)
        levels.set_patch(PatchMode.LOOPBACK)
    assert (control["master"], control["patch"], control["hub_changes"]) == (0.5, 1, 1)
    assert control["hub_fade"] == 750
    assert changes(levels) == [0, 1, 0, 0, 0, 0]
    assert levels._arena.slots["row_fade"].tolist() == [0, 1, 0, 0, 0, 0]


_SLOT = st.integers(0, SLOTS - 1)
_GAIN = st.none() | st.sampled_from([0.0, 0.25, 1.0, 4.0])


@given(
    st.lists(st.tuples(_SLOT, _SLOT, _GAIN) | _SLOT | st.tuples(_SLOT, st.booleans()), max_size=40)
)
def test_the_arena_says_what_was_set(
    steps: list[tuple[int, int, float | None] | int | tuple[int, bool]],
) -> None:
    levels = Levels(make_arena(SLOTS))
    wanted: dict[tuple[int, int], float] = {}
    held: set[int] = set()
    for step in steps:
        match step:
            case int(slot):
                levels.clear(slot)
                held.discard(slot)
                wanted = {key: gain for key, gain in wanted.items() if slot not in key}
            case (slot, hold):
                levels.set_held(slot, bool(hold))
                (held.add if hold else held.discard)(slot)
            case (listener, source, gain):
                levels.set_pair(listener, source, gain)
                wanted.pop((listener, source), None)
                if gain is not None:
                    wanted[listener, source] = gain
    for listener in range(SLOTS):
        row = {s: g for (owner, s), g in wanted.items() if owner == listener}
        written = {} if listener in held else row  # a lane is told nothing of who is held
        assert levels._arena.slots[listener]["overrides"] == len(written)
        assert levels._arena.slots[listener]["held"] == (listener in held)
        assert strip(levels, listener) == (0.0 if listener in held else 1.0)
        for source in range(SLOTS):
            assert pair(levels, listener, source) == written.get(source)


def test_who_is_admitted_finds_what_was_set_meanwhile(levels: Levels) -> None:
    levels.set_held(1, True)
    levels.set_gain(1, 0.5)
    levels.set_pair(1, 3, 0.25)
    assert (strip(levels, 1), pair(levels, 1, 3), changes(levels)) == (0, None, [0] * SLOTS)
    levels.set_held(1, False)
    assert (strip(levels, 1), pair(levels, 1, 3)) == (0.5, 0.25)
    assert changes(levels) == [0, 1, 0, 0, 0, 0]


def place(levels: Levels, slot: int) -> list[float]:
    record = levels._arena.slots[slot]
    names = ("panned", "pan_left", "pan_right", "balance_left", "balance_right")
    return [float(record[name]) for name in names]


def test_a_place_is_written_and_forgotten_with_the_slot(levels: Levels) -> None:
    levels.set_pan(2, -100)
    assert place(levels, 2) == [1, 1.0, 0.0, 1.0, 0.0]
    levels.set_pan(2, 0)
    assert place(levels, 2) == pytest.approx([1, 0.5**0.5, 0.5**0.5, 1.0, 1.0])
    assert levels.pan(2) == 0
    levels.clear(2)
    assert (levels.pan(2), place(levels, 2)[0]) == (None, 0)
    with pytest.raises(ValueError, match="101"):
        levels.set_pan(2, 101)


@in_a_loop
async def test_what_waits_to_be_written_keeps_its_own_fade() -> None:
    """A mute in the same burst as a scene that fades is there at once, and the scene is not."""
    levels = Levels(make_arena(SLOTS))
    slots, clock = levels._arena.slots, levels._arena.clock[0]
    clock["pid"] = 1  # a mixer that reads nothing: what comes after the first waits
    levels.set_gain(0, 0.9)
    with levels.together(fade_s=10.0):
        levels.set_gain(1, 0.5)
        levels.set_gain(2, 0.5)
        levels.set_pair(4, 1, 0.25)
    levels.set_muted(1, True)
    levels.set_pair(5, 1, 0.25)
    assert strip(levels, 2) == 1.0
    await asyncio.sleep(2 * PATIENCE_S)

    assert [strip(levels, slot) for slot in (0, 1, 2)] == [0.9, 0.0, 0.5]
    assert slots["strip_fade"][:3].tolist() == [1, 1, 3750]
    assert slots["row_fade"][4:].tolist() == [3750, 1]


@in_a_loop
async def test_who_comes_does_not_hurry_a_fade_that_waits_to_be_written() -> None:
    levels = Levels(make_arena(SLOTS))
    levels.set_members("low", {1})
    levels._arena.clock[0]["pid"] = 1  # a mixer that reads nothing
    levels.set_gain(0, 0.9)
    with levels.together(fade_s=10.0):
        levels.set_pair(4, 1, 0.25)
        levels.set_heard(5, "low", Heard(gain=0.5))
    levels.set_members("low", {1, 2})
    await asyncio.sleep(2 * PATIENCE_S)
    assert pair(levels, 5, 2) == 0.5
    assert levels._arena.slots["row_fade"][4:].tolist() == [3750, 3750]


@in_a_loop
async def test_neither_who_comes_back_nor_what_is_refused_cuts_off_a_fade() -> None:
    levels = Levels(make_arena(SLOTS))
    slots, control = levels._arena.slots, levels._arena.control[0]
    levels.set_members("low", {1})
    levels._arena.clock[0]["pid"] = 1  # a mixer that reads nothing
    levels.set_gain(0, 0.9)
    with levels.together(fade_s=10.0):
        levels.set_gain(2, 0.5)
        levels.set_master(0.5)
        levels.set_pair(4, 1, 0.25)
        levels.set_heard(5, "low", Heard(gain=0.5))
    before = levels.state()
    with levels.together():
        levels.set_gain(2, 0.1)
        levels.set_gain(3, 0.1)
        levels.set_master(0.1)
        levels.set_pair(4, 1, 0.1)
        levels.restore(before)
    levels.set_heard(5, 2, Heard(gain=0.7), ordered=False)
    written = slots["strip_changes"][3]
    await asyncio.sleep(2 * PATIENCE_S)
    assert (strip(levels, 2), strip(levels, 3), control["master"]) == (0.5, 1.0, 0.5)
    assert (pair(levels, 4, 1), pair(levels, 5, 1)) == (0.25, 0.5)
    assert pair(levels, 5, 2) == pytest.approx(0.7)
    assert (slots["strip_fade"][2], control["hub_fade"]) == (3750, 3750)
    assert slots["row_fade"][4:].tolist() == [3750, 3750]
    assert slots["strip_changes"][3] == written


def test_a_monitors_number_is_anothers_only_after_the_cross_fade() -> None:
    monitors = Monitors(capacity=3)
    violins, brass = monitors.find(("violins",), 0.0), monitors.find(("brass",), 0.0)
    assert violins is not None
    assert brass is not None
    assert (violins.number, brass.number, monitors.high) == (1, 2, 3)
    assert monitors.find(("violins",), 0.0) is violins
    for listener, monitor in ((4, violins), (5, brass), (6, brass)):
        monitors.turn(listener, monitor, 0.0)
    monitors.turn(4, brass, until_s=10.0)
    assert monitors.find(("basses",), 9.9) is None
    basses = monitors.find(("basses",), 10.0)
    assert basses is not None
    assert basses.number == 1
    assert monitors.find(("basses", "brass"), 10.0) is None, "nobody hears the basses' yet"
    assert monitors.of(4) is brass


def test_who_finds_no_monitor_has_all_of_it_in_its_own_row() -> None:
    levels = Levels(make_arena(2))
    for section in ("high", "low"):
        levels.set_members(section, {int(section == "low")})
        levels.set_heard(section, "high", Heard(gain=0.5))
    slots = levels._arena.slots
    assert slots["monitor"].tolist() == [1, 0]
    assert slots["overrides"].tolist() == [1, 1]  # own voice, and the rule itself
    assert pair(levels, 1, 0) == 0.5


def test_plain_mixes_are_what_the_patch_says_until_they_are_no_longer() -> None:
    arena = make_arena()
    levels = Levels(arena)
    for slot in range(4):
        levels.clear(slot)
    levels.set_pair(0, 1, 0.25)
    levels.set_members("strings", (2, 3))
    levels.set_heard("strings", 1, Heard(gain=0.5))
    levels.set_gain(1, 0.75)
    levels.set_held(3, True)

    def heard() -> list[tuple[int, int]]:
        return [
            (int(arena.slots[k]["overrides"]), int(arena.slots[k]["monitor"])) for k in range(4)
        ]

    own = heard()
    assert any(row != (0, 0) for row in own)
    levels.set_plain(True)
    assert heard() == [(0, 0)] * 4
    assert arena.slots[0]["row_fade"] == round(PLAIN_FADE_S * 48000 / 128)
    assert (arena.slots[1]["gain"], arena.slots[3]["gain"], arena.slots[3]["held"]) == (
        0.75,
        0.0,
        1,
    )
    levels.set_pair(1, 0, 0.125)  # set meanwhile, heard afterwards
    levels.set_held(3, False)
    assert heard() == [(0, 0)] * 4
    assert levels.row(0) == {1: (0.25, None)}
    levels.set_plain(False)
    assert heard()[0] == own[0]
    assert heard()[1] == (1, 0)
    assert heard()[3] == heard()[2] == own[2]
    assert arena.pair[0, 1] == 0.25


@in_a_loop
async def test_a_strip_that_nobody_hears_yet_is_told_to_the_mixer() -> None:
    """It reads strips when their number has changed, and is even again."""
    levels = Levels(make_arena(SLOTS))
    control = levels._arena.control[0]
    levels._arena.clock[0]["pid"] = 1  # a mixer that reads nothing: all else must wait
    levels.set_gain(1, 0.5)
    levels.set_gain(1, 0.25)
    before = int(control["levels"])
    levels.write_unheard(1)
    assert (strip(levels, 1), control["levels"]) == (0.25, before + 2)
