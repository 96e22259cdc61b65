"""What single listeners hear of single sources: levels, places, master, cross-fades, no clicks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import PatchMode, RxState
from tests.workers import twins
from tests.workers.arenas import arena_of
from tests.workers.desk import Desk, decoded, desk_of
from tests.workers.twins import Doubles, Floats
from workers.mix import add_four, glide
from workers.mixer import make_sources, mix_tick
from workers.monitors import load_orders

PERIOD = 32
gains = st.sampled_from([0.0, 0.25, 1.0, 1.7])


@given(
    st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_four_at_a_time_is_one_after_the_other(
    slopes: list[tuple[float, float]], moving: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    strips = rng.normal(size=(5, 2, PERIOD)).astype(np.float32)
    sources, channels = rng.integers(0, 5, 4), rng.integers(0, 2, 4)
    before = np.array([slope[0] for slope in slopes])
    after = np.array([slope[1] for slope in slopes]) if moving else before
    output = rng.normal(size=PERIOD)
    expected = output.copy()
    for k in range(4):
        strip = strips[sources[k], channels[k]].astype(np.float64)
        expected += strip * twins.slope(before[k], after[k], PERIOD)
    add_four(strips, sources, channels, before, after, PERIOD, moving, output)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-12)
    if not moving:
        np.testing.assert_array_equal(output, expected)


@given(st.floats(-4, 4), st.floats(-4, 4), st.integers(1, 50))
def test_a_glide_is_straight_and_arrives(before: float, goal: float, ticks: int) -> None:
    now, way = before, []
    for left in range(ticks, 0, -1):
        now = glide(now, goal, left)
        way.append(now)
    assert way[-1] == goal
    straight = before + (goal - before) * np.arange(1, ticks + 1) / ticks
    np.testing.assert_allclose(way, straight, atol=1e-12)


def order(
    desk: Desk, slot: int, row: dict[int, tuple[float | None, float | None]], fade: int = 1
) -> None:
    """A listener's row as the supervisor writes it and the mixer publishes that it did."""
    arena = desk.arena
    arena.pair[slot], arena.pair_pan[slot] = np.nan, 0.0
    for source, (gain, pan) in row.items():
        arena.pair[slot, source] = np.nan if gain is None else gain
        arena.pair_pan[slot, source] = 0.0 if pan is None else 2 + pan / 100
    record = arena.slots[slot]
    record["overrides"] = len(row)
    record["row_changes"] += 1
    record["row_fade"] = fade
    control = arena.control[0]
    control["hub_changes"] += 1
    control["hub_fade"] = fade
    control["levels"] += 2
    arena.clock[0]["levels"][:] = control["levels"]
    load_orders(arena, 0, 0, 0, desk.lane.rows, desk.lane.monitors)


def hear(desk: Desk, strips: dict[int, Floats], slot: int = 0) -> Doubles:
    desk.publish(strips)
    return decoded(desk.serve(slot)[-1])


def steady(*levels: float) -> Floats:
    """Strips of constant samples."""
    return np.repeat(np.array([levels], np.float32).T, PERIOD, axis=1)


def law(pan: float | None, strips: int, upmix: bool) -> tuple[float, float]:
    """Gains of channels 1 and 2, by docs/levels.md."""
    if pan is None:
        return 1.0, 1.0 if strips > 1 or upmix else 0.0
    left, right = (math.sin((100 + side * pan) * math.pi / 400) for side in (-1, 1))
    if strips == 1:
        return left, right
    return min(1.0, math.sqrt(2) * left), min(1.0, math.sqrt(2) * right)


@settings(max_examples=40)
@given(
    st.sampled_from(list(PatchMode)),
    st.lists(
        st.tuples(st.none() | gains, st.none() | st.sampled_from([-100.0, -40.0, 0.0, 70.0])),
        min_size=3,
        max_size=3,
    ),
    st.sampled_from([1.0, 0.5]),
    st.booleans(),
    st.integers(1, 4),
)
def test_levels_and_places_arrive_in_a_straight_line(
    mode: PatchMode,
    wanted: list[tuple[float | None, float | None]],
    master: float,
    upmix: bool,
    fade: int,
) -> None:
    strips = {0: steady(0.5, 0.125), 1: steady(0.25), 2: steady(0.0625, 0.75)}
    with desk_of(slots=3, period=PERIOD, upmix=upmix) as desk:
        desk.listener(0, frames=PERIOD, bits=32, wants=2)
        desk.mode(PatchMode.FULL_MIX)
        for _ in range(2):
            start = hear(desk, strips)[:, -1]
        desk.mode(mode)
        desk.arena.control[0]["master"] = master
        row = {k: told for k, told in enumerate(wanted) if told != (None, None)}
        order(desk, 0, row, fade)
        heard = np.concatenate([hear(desk, strips) for _ in range(fade + 1)], axis=1)
    others, own = twins.preset(mode)
    end = np.zeros(2)
    for source, strip in strips.items():
        gain, pan = wanted[source]
        patched = others + (own if source == 0 else 0.0)
        level = master * (patched if gain is None else gain)
        for channel in range(2):
            heard_of = strip[min(channel, len(strip) - 1), 0]
            end[channel] += level * law(pan, len(strip), upmix)[channel] * heard_of
    ramp = np.minimum(np.arange(1, (fade + 1) * PERIOD + 1) / (fade * PERIOD), 1.0)
    expected = start[:, None] + (end - start)[:, None] * ramp
    np.testing.assert_allclose(heard, expected, atol=2e-6)


@pytest.mark.parametrize("upmix", [False, True])
def test_a_place_of_ones_own_survives_a_place_for_all_without_a_click(upmix: bool) -> None:
    """The mixer gives a mono source a second strip and takes it back."""
    side = 1.0 if upmix else 0.0
    one, two = steady(1.0), steady(0.7, 0.7)
    there = np.stack([twins.slope(a, b, PERIOD) for a, b in ((1.0, 0.7), (side, 0.7))]).astype(
        np.float32
    )
    back = np.stack([twins.slope(a, b, PERIOD) for a, b in ((0.7, 1.0), (0.7, side))]).astype(
        np.float32
    )
    tour: list[Floats] = [one, one, one, there, two, two, back, one, one]
    with desk_of(slots=3, period=PERIOD, upmix=upmix) as desk:
        desk.listener(0, frames=PERIOD, bits=32, wants=2)
        desk.mode(PatchMode.FULL_MIX)
        hear(desk, {1: one})
        order(desk, 0, {1: (0.8, 30.0)})
        heard = [hear(desk, {1: strip}) for strip in tour]
    steps = np.abs(np.diff(np.concatenate(heard, axis=1)))
    assert steps.max() <= 3.0 / PERIOD
    np.testing.assert_allclose(heard[2][:, -1], 0.8 * np.array(law(30.0, 1, upmix)), atol=1e-6)
    np.testing.assert_allclose(heard[-1][:, -1], 0.8 * np.array(law(30.0, 1, upmix)), atol=1e-6)


def test_what_is_half_written_is_not_heard() -> None:
    with arena_of(slots=2, period=PERIOD) as arena:
        sources = make_sources(2)
        rx = arena.rx[0]
        arena.rings[0, 0] = 1.0
        rx["ring_frames"], rx["channels"], rx["session"] = 4096, 1, 1
        rx["watermark"], rx["state"] = 1 << 40, RxState.ACTIVE
        heard, order_of = [], arena.slots[0]
        for tick in range(8):
            if tick == 2:
                arena.control[0]["levels"] += 1
                order_of["gain"], arena.control[0]["patch"] = 0.0, PatchMode.LOOPBACK
            if tick == 4:
                order_of["strip_changes"], order_of["strip_fade"] = 1, 2
                arena.control[0]["levels"] += 1
            mix_tick(arena, tick, sources)
            heard.append(arena.buses[tick % 4, 0].copy())
            patch = int(arena.clock[0]["patch"][tick % 4])
            assert (patch == PatchMode.LOOPBACK) == (tick >= 4)
            assert arena.clock[0]["levels_read"] == (0 if tick < 4 else 2)
    assert [float(block[-1]) for block in heard] == [1, 1, 1, 1, 0.5, 0, 0, 0]
    assert np.abs(np.diff(np.concatenate(heard))).max() <= 1.01 / PERIOD
