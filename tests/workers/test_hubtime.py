"""Hub samples, ticks and CLOCK_MONOTONIC, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.layout import HISTOGRAM_BUCKETS, HISTOGRAM_EDGES_NS
from tests.workers.arenas import T0_NS, arena_of
from workers.hubtime import bucket, frames_to_ns, ns_to_frames, tick_after, tick_time

SECOND = 1_000_000_000
CENTURY_NS = 100 * 365 * 86400 * SECOND
CENTURY_FRAMES = CENTURY_NS // SECOND * 22050
CENTURY_TICKS = CENTURY_FRAMES // 1024
rates = st.sampled_from([22050, 32000, 44100, 48000, 88200, 96000, 192000])
periods = st.sampled_from([16, 64, 100, 128, 441, 480, 1024])


@given(st.integers(-CENTURY_FRAMES, CENTURY_FRAMES), rates)
def test_frames_to_ns(frames: int, rate_hz: int) -> None:
    assert frames_to_ns(frames, rate_hz) == frames * SECOND // rate_hz


@given(st.integers(-CENTURY_NS, CENTURY_NS), rates)
def test_ns_to_frames(ns: int, rate_hz: int) -> None:
    assert ns_to_frames(ns, rate_hz) == ns * rate_hz // SECOND


@given(st.integers(0, CENTURY_TICKS), rates, periods)
def test_tick_time(tick: int, rate_hz: int, period: int) -> None:
    with arena_of(rate_hz=rate_hz, period=period) as arena:
        exact = T0_NS + Fraction(tick * period * SECOND, rate_hz)
        assert tick_time(arena.header[0], tick) == exact.numerator // exact.denominator


@given(
    st.one_of(
        st.integers(-SECOND, 10 * SECOND),
        st.integers(0, CENTURY_NS),
        st.tuples(st.integers(0, CENTURY_TICKS), st.integers(-2, 2)),  # right beside a tick
    ),
    rates,
    periods,
)
def test_tick_after_is_the_first_later_than_now(
    when: int | tuple[int, int], rate_hz: int, period: int
) -> None:
    with arena_of(rate_hz=rate_hz, period=period) as arena:
        header = arena.header[0]
        tick, offset = when if isinstance(when, tuple) else (0, when)
        now = tick_time(header, tick) + offset
        tick = tick_after(header, now)
        assert tick_time(header, tick) > now
        assert tick_time(header, tick - 1) <= now


@given(st.one_of(st.integers(0, 200_000_000), st.sampled_from(HISTOGRAM_EDGES_NS.tolist())))
def test_bucket(value_ns: int) -> None:
    expected = int(np.searchsorted(HISTOGRAM_EDGES_NS, value_ns, side="left"))
    assert bucket(HISTOGRAM_EDGES_NS, value_ns) == expected < HISTOGRAM_BUCKETS
