"""How long to wait for packets: the quantile, how soon it grows, and what is not counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.arrivals import (
    MS,
    RATE,
    Course,
    Trace,
    client,
    delayed,
    follow,
    jitter,
    sent,
)
from tests.workers.clock_twin import DepthTwin, bucket_edges
from workers import depth


def late_share(course: Course, since: int) -> float:
    """Packets later than wanted before they came."""
    return float(np.mean(course.lateness[since:] > course.wanted[since:]))


# ---- against the twin


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1 << 32),
    frames=st.sampled_from([16, 128, 1024, 8192]),
    rate_hz=st.sampled_from([44100, 48000, 96000]),
    spread_ms=st.sampled_from([0.02, 1.0, 20.0]),
    excursions=st.integers(0, 3),
    anew=st.booleans(),
)
def test_like_twin(
    seed: int, frames: int, rate_hz: int, spread_ms: float, excursions: int, anew: bool
) -> None:
    rng = np.random.default_rng(seed)
    lateness = rng.pareto(1.5, 1500) * spread_ms * rate_hz / 1e3 - 20
    running, steps = np.zeros(1500, bool), np.zeros(1500, int)
    for _ in range(excursions):  # as drift.observe has them: outliers, and perhaps a step
        begin, end = np.sort(rng.integers(100, 1500, 2)).tolist()
        lateness[begin:end] += rng.choice([5, 500]) * rate_hz / 1e3
        running[begin + 10 : end] = True
        steps[end:] += int(rng.integers(0, 2))
    if anew:
        steps[rng.integers(100, 1500)] = -1
    rx = client(frames)
    depth.begin(rx, rate_hz)
    twin = DepthTwin(frames, rate_hz)
    for i, late in enumerate(lateness.tolist()):
        if i % 50 == 0:
            # where weights tie, the one or the other is right
            assert twin.wanted(depth.TARGET * (1 + 1e-9)) <= rx.late_wanted * (1 + 1e-9)
            assert twin.wanted(depth.TARGET * (1 - 1e-9)) >= rx.late_wanted * (1 - 1e-9)
        rx.run_blocks, rx.clock_steps = int(running[i]), steps[i]
        depth.observe(rx, late, rate_hz)
        twin.observe(late, running=bool(running[i]), steps=int(steps[i]))


@given(st.floats(-1e4, 1e6) | st.integers(0, 1 << 13).map(float))
def test_buckets_hold_what_is_below_their_edge(units: float) -> None:
    edges = bucket_edges()
    bucket = depth.bucket_of(units)
    assert bucket == min(int(np.searchsorted(edges, units, side="right")), len(edges) - 1)
    assert depth.edge_of(bucket) == edges[bucket]


def test_weights_are_renewed_without_a_trace() -> None:
    """Three hours: old weights are divided again and again."""
    rng = np.random.default_rng(0)
    count = len(sent(3 * 3600, 1024)[0])
    delay = jitter("gaussian", count, rng)
    rx, course = follow(delayed(3 * 3600, delay, frames=1024))
    assert rx.late_total == pytest.approx(rx.late_histogram.sum())
    assert rx.late_beyond == pytest.approx(rx.late_histogram[rx.late_bucket + 1 :].sum())
    assert np.isfinite(rx.late_weight)
    assert np.ptp(course.wanted[2000:]) < 3 * MS


# ---- how much, how soon


@pytest.mark.parametrize("frames", [16, 128, 1024])
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "pareto"])
def test_late_packets_are_few_under_jitter(kind: str, frames: int) -> None:
    seconds = 400 if frames < 1024 else 2400
    rng = np.random.default_rng(7)
    trace = delayed(seconds, jitter(kind, len(sent(seconds, frames)[0]), rng), frames=frames)
    _, course = follow(trace)
    assert late_share(course, trace.at(10)) < 1 / 2000


@pytest.mark.parametrize("frames", [16, 128, 1024])
def test_floor_is_near_nothing_on_a_clean_network(frames: int) -> None:
    rng = np.random.default_rng(8)
    trace = delayed(30, jitter("quiet", len(sent(30, frames)[0]), rng), frames=frames, ppm=60)
    _, course = follow(trace)
    assert course.wanted[0] == pytest.approx(2 * MS)
    assert course.wanted[trace.at(4)] == pytest.approx(2 * MS)
    assert course.wanted[trace.at(8)] < 0.15 * MS


def test_grows_at_once_when_the_network_turns_bad_and_shrinks_slowly() -> None:
    rng = np.random.default_rng(9)
    numbers, _ = sent(300)
    bad = (numbers >= 100 * 375) & (numbers < 130 * 375)
    delay = rng.uniform(0, np.where(bad, 8 * MS, 0.1 * MS))
    trace = delayed(300, delay, ordered=True)
    _, course = follow(trace)
    before, soon = course.wanted[trace.at(99)], course.wanted[trace.at(100.3)]
    assert before < 0.2 * MS
    assert soon > 3 * MS
    assert course.wanted[trace.at(150)] > 3 * MS  # it may turn bad again
    assert course.wanted[-1] < 0.3 * MS


def test_one_late_packet_in_a_minute_is_not_waited_for() -> None:
    numbers, _ = sent(300)
    delay = np.random.default_rng(10).uniform(0, 0.1 * MS, len(numbers))
    delay[numbers % (60 * 375) == 45 * 375] = 30 * MS
    trace = delayed(300, delay)
    _, course = follow(trace)
    assert course.wanted[trace.at(100) :].max() < 0.2 * MS


# ---- what is late and no jitter


def stalled(held_s: float) -> Trace:
    """A clean network that passes nothing for a while, and then all at once."""
    numbers, at = sent(120)
    at = at + np.random.default_rng(11).uniform(0, 0.05 * MS, len(at))
    held = (at >= 60 * RATE) & (at < (60 + held_s) * RATE)
    at[held] = (60 + held_s) * RATE + np.arange(held.sum()) * 0.5
    return Trace(numbers, np.maximum.accumulate(at), 128)


@pytest.mark.parametrize("held_s", [0.3, 2.0, 20.0])
def test_long_stall_leaves_no_lasting_depth(held_s: float) -> None:
    trace = stalled(held_s)
    _, course = follow(trace)
    assert course.wanted[trace.at(60 + held_s + 0.1) :].max() < 0.3 * MS


@pytest.mark.parametrize("step_ms", [10.0, 80.0, 500.0, -10.0])
def test_step_of_the_path_leaves_no_lasting_depth(step_ms: float) -> None:
    """What came on the new path before the clock knew is late by its whole step."""
    numbers, _ = sent(120)
    delay = np.random.default_rng(12).uniform(0, 0.05 * MS, len(numbers))
    delay += np.where(numbers >= 60 * 375, step_ms * MS, 0)
    trace = delayed(120, delay)
    rx, course = follow(trace)
    assert rx.clock_steps == 1
    assert course.wanted[trace.at(62) :].max() < 0.3 * MS


def test_short_stalls_are_waited_for_as_far_as_they_are_many() -> None:
    """40 ms once a minute."""
    numbers, at = sent(900)
    at = at + np.random.default_rng(13).uniform(0, 0.1 * MS, len(at))
    phase = at % (60 * RATE)
    held = (phase > 30 * RATE) & (phase < 30 * RATE + 40 * MS)
    at[held] += 30 * RATE + 40 * MS - phase[held]
    trace = Trace(numbers, np.maximum.accumulate(at), 128)
    _, course = follow(trace)
    assert late_share(course, trace.at(120)) < 1 / 2000
    assert course.wanted[trace.at(120) :].mean() < 30 * MS


def fields(rx: Any) -> tuple[float, ...]:
    """Of a record, what depth.begin promises."""
    return rx.late_wanted, rx.late_total, rx.late_beyond, rx.late_weight, rx.late_stalled


def test_begin_forgets() -> None:
    rng = np.random.default_rng(14)
    rx, _ = follow(delayed(30, jitter("gaussian", len(sent(30)[0]), rng)))
    fresh = client(128)
    depth.begin(fresh, RATE)
    depth.begin(rx, RATE)
    assert fields(rx) == fields(fresh)
    assert np.array_equal(rx.late_histogram, fresh.late_histogram)
