"""JACK's cycles as ticks: what is numbered how, and what the mixer makes of a clock that comes and
goes. Times are synthetic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arena import Arena
from shared.layout import STRIP_DEPTH
from tests.workers.arenas import T0_NS, arena_of
from workers.hubtime import tick_time
from workers.jacktime import (
    STEADY_BEATS,
    beat,
    cycle_tick,
    keep_time,
    look_for_beat,
    number_cycle,
)

PERIOD, RATE = 128, 48000
PERIOD_NS = PERIOD * 10**9 // RATE
WRAP = 1 << 32


@pytest.fixture
def arena() -> Iterator[Arena]:
    with arena_of(period=PERIOD, rate_hz=RATE) as made:
        yield made


def number(arena: Arena, frames: int, at_ns: int) -> int:
    return int(number_cycle(arena.header[0], arena.jack[0], frames % WRAP, at_ns))


@given(first=st.integers(0, WRAP - 1), phase=st.integers(-PERIOD_NS // 2, PERIOD_NS // 2))
def test_cycles_are_ticks_one_after_the_other(first: int, phase: int) -> None:
    """Whatever JACK's clock says, and over its end, from the nearest tick on."""
    with arena_of(period=PERIOD, rate_hz=RATE) as arena:
        begun = T0_NS + 50 * PERIOD_NS + phase
        told = [number(arena, first + PERIOD * k, begun + PERIOD_NS * k) for k in range(6)]
        assert told[0] == -1
        assert told[1] in (50, 51, 52)
        assert abs(begun + PERIOD_NS - tick_time(arena.header[0], told[1])) <= PERIOD_NS // 2 + 2
        assert told[1:] == list(range(told[1], told[1] + 5))


@given(left_out=st.integers(1, 1000))
def test_cycles_that_were_left_out_leave_out_ticks(left_out: int) -> None:
    with arena_of(period=PERIOD, rate_hz=RATE) as arena:
        number(arena, 0, T0_NS + 10 * PERIOD_NS)
        assert number(arena, PERIOD, T0_NS + 11 * PERIOD_NS) == 11
        # JACK's clock does not know of an xrun: it counts on
        later = T0_NS + left_out * PERIOD_NS
        assert number(arena, 2 * PERIOD, later + 12 * PERIOD_NS) == -1
        assert number(arena, 3 * PERIOD, later + 13 * PERIOD_NS) == -1
        assert number(arena, 4 * PERIOD, later + 14 * PERIOD_NS) == 14 + left_out
        assert int(arena.jack[0]["resyncs"]) == 1


def test_one_cycle_that_was_woken_late_changes_no_number(arena: Arena) -> None:
    number(arena, 0, T0_NS)
    assert number(arena, PERIOD, T0_NS + PERIOD_NS) == 1
    assert number(arena, 2 * PERIOD, T0_NS + 29 * PERIOD_NS // 10) == -1
    assert number(arena, 3 * PERIOD, T0_NS + 3 * PERIOD_NS) == 3
    assert int(arena.jack[0]["resyncs"]) == 0


def test_nobody_knows_a_tick_before_the_first_beat(arena: Arena) -> None:
    assert cycle_tick(arena.jack[0], 4711, PERIOD) == -1


def cycle(arena: Arena, tick: int, began_ns: int) -> None:
    """A tick's cycle has begun at a time, and its sound is there."""
    arena.jack[0]["cycle_ns"][tick % STRIP_DEPTH] = began_ns
    arena.jack[0]["cycle"] = tick


def look_for(arena: Arena, off_ns: int, ticks: int) -> list[int]:
    """Look for a beat that is so far from the tick's first time; the hub's time at each tick."""
    jack, header, times = arena.jack[0], arena.header[0], []
    first = tick_time(header, 100) + off_ns
    seen, steady = -1, 0
    for tick in range(100, 100 + ticks):
        cycle(arena, tick, first + (tick - 100) * PERIOD_NS)
        seen, steady = look_for_beat(arena, tick, seen, steady)
        times.append(tick_time(header, tick))
        if jack["coupled"]:
            break
    return times


@given(off_ns=st.integers(-3 * PERIOD_NS // 4, 3 * PERIOD_NS // 4))
def test_ticks_glide_to_a_steady_clocks_phase(off_ns: int) -> None:
    """They never jump, let alone back, and are there in time that nobody notices."""
    with arena_of(period=PERIOD, rate_hz=RATE) as arena:
        times = look_for(arena, off_ns, 60)
        assert arena.jack[0]["coupled"] == 1
        assert arena.jack[0]["taken"] == 1
        assert len(times) >= STEADY_BEATS
        steps = [after - before for before, after in pairwise(times)]
        assert all(abs(step - PERIOD_NS) <= PERIOD_NS // 64 + 1 for step in steps)
        newest = int(arena.jack[0]["cycle"])
        began_ns = arena.jack[0]["cycle_ns"][newest % STRIP_DEPTH]
        assert abs(began_ns - tick_time(arena.header[0], newest)) <= PERIOD_NS // 16


def test_a_clock_that_is_lost_soon_is_taken_later_and_later(arena: Arena) -> None:
    """One that held is taken at once; the first that was late is waited for a tick longer."""
    jack, timespec = arena.jack[0], np.zeros(2, np.int64)

    def miss() -> None:
        jack["cycle"] = 0
        assert not keep_time(arena, 1000, timespec)

    waits = []
    for turn in range(5):
        waits.append(len(look_for(arena, 0, 1000)))
        if turn == 0:
            miss()
            assert jack["coupled"]
        assert jack["behind"]
        miss()
        assert not jack["coupled"]
    assert waits == [4, 8, 16, 32, 64]
    look_for(arena, 0, 1000)
    jack["ticks"] += 11 * RATE // PERIOD
    miss()
    assert not jack["coupled"]
    assert len(look_for(arena, 0, 1000)) == STEADY_BEATS
    assert not jack["behind"]


@pytest.mark.parametrize(("share", "behind"), [(0.3, 0), (0.7, 0), (0.8, 1), (0.95, 1)])
def test_the_sound_of_a_slow_graph_is_used_a_period_later(
    arena: Arena, share: float, behind: int
) -> None:
    """It is never lost, and takes its sound in time when it has been quick for ten seconds."""
    jack, header, timespec = arena.jack[0], arena.header[0], np.zeros(2, np.int64)
    slow, words = round(share * PERIOD_NS), arena.jack.ctypes.data
    number(arena, -PERIOD, T0_NS - PERIOD_NS)
    seen, steady, ticks = -1, 0, 12 * RATE // PERIOD
    for tick in range(2 * ticks):
        took = slow if tick < ticks else PERIOD_NS // 4
        if not jack["coupled"]:
            seen, steady = look_for_beat(arena, tick, seen, steady)
        elif jack["behind"] or took > 3 * PERIOD_NS // 4:
            assert not keep_time(arena, tick, timespec)  # it begins at its time
        beat(header, jack, words, tick * PERIOD, tick_time(header, tick), took)
        assert jack["cycle"] == tick
        if tick > 300 and not jack["behind"] and jack["coupled"]:
            assert keep_time(arena, tick, timespec)
        if 300 < tick <= ticks:
            assert jack["behind"] == behind
    assert (jack["coupled"], jack["behind"], jack["lost"], jack["taken"]) == (1, 0, 0, 1)
    assert jack["slow_cycles"] == (ticks if share > 0.75 else 0)
    assert jack["graph_ns"] == pytest.approx(PERIOD_NS / 4, rel=0.01)


def test_time_follows_the_earliest_of_cycles_that_are_woken_late(arena: Arena) -> None:
    """Up to 800 µs late, and 100 ppm slower than the hub."""
    jack, header, rng = arena.jack[0], arena.header[0], np.random.default_rng(3)
    timespec = np.zeros(2, np.int64)
    period_ns = PERIOD_NS * 1.0001
    jack["coupled"] = 1
    late = rng.uniform(0, 800_000, 4000)
    ahead = []
    for tick in range(4000):
        due_ns = T0_NS + tick * period_ns
        cycle(arena, tick, round(due_ns + late[tick]))
        assert keep_time(arena, tick, timespec)
        ahead.append(tick_time(header, tick) - due_ns)
    settled = np.array(ahead[2000:])
    assert settled.max() < 300_000  # what receivers have ready before
    assert settled.min() > -50_000


@pytest.mark.parametrize("cycles", [[100, 100, 100, 100, 100], [100, 101, 90, 103, 104]])
def test_an_unsteady_clock_is_not_taken(arena: Arena, cycles: list[int]) -> None:
    seen, steady = -1, 0
    for tick, newest in enumerate(cycles, start=100):
        cycle(arena, newest, tick_time(arena.header[0], newest))
        seen, steady = look_for_beat(arena, tick, seen, steady)
    assert arena.jack[0]["coupled"] == 0
