"""A client's clock as its packets tell it: the ratio, what disturbs it, and when it is certain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.benchmarks.arrivals import Trace as Network
from loadtest.benchmarks.arrivals import recorded, stalls, step, wifi, wired
from shared.layout import RX
from tests.kernels.certainty import another_path, losing_time
from tests.workers.arrivals import (
    FIRST,
    MS,
    RATE,
    Course,
    Trace,
    client,
    delayed,
    follow,
    jitter,
    machine_noise,
    observe_all,
    sent,
)
from tests.workers.clock_twin import ClockTwin
from workers import drift


def error_ppm(course: Course, ppm: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of the ratio, after each packet."""
    return course.ratio * 1e6 - ppm


def feed(rx: Any, trace: Trace, first: int, last: int) -> Course:
    """Let a clock see some packets of a trace."""
    course = np.zeros((5, last - first))
    observe_all(rx, trace.numbers[first:last], trace.arrivals[first:last], RATE, course)
    return Course(*course)


def jittery(seconds: float, kind: str, ppm: float, *, frames: int = 128, seed: int = 0) -> Trace:
    """A stream with a kind of jitter; packets may overtake each other."""
    rng = np.random.default_rng(seed)
    count = len(sent(seconds, frames)[0])
    return delayed(seconds, jitter(kind, count, rng), frames=frames, ppm=ppm)


# ---- against the twin


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1 << 32),
    frames=st.sampled_from([16, 128, 441, 1024, 8192]),
    rate_hz=st.sampled_from([44100, 48000, 96000]),
    kind=st.sampled_from(["quiet", "uniform", "gaussian", "pareto"]),
    ppm=st.floats(-1000, 1000),
    loss=st.sampled_from([0.0, 0.3]),
    step_ms=st.sampled_from([0.0, -10.0, 10.0, 3000.0]),
)
def test_like_twin(
    seed: int, frames: int, rate_hz: int, kind: str, ppm: float, loss: float, step_ms: float
) -> None:
    rng = np.random.default_rng(seed)
    numbers, at = sent(min(24, 2500 * frames / RATE), frames, ppm)
    at = at + jitter(kind, len(at), rng)
    at[len(at) // 2 :] += step_ms * MS
    came = np.flatnonzero(rng.uniform(0, 1, len(at)) >= loss)
    came = came[np.argsort(at[came], kind="stable")]

    rx = client(frames)
    drift.begin(rx, int(numbers[came[0]]), at[came[0]])
    twin = ClockTwin(frames, rate_hz, int(numbers[came[0]]), at[came[0]])
    for k in came.tolist():
        lateness = drift.observe(rx, k, at[k], rate_hz)
        assert lateness == pytest.approx(twin.observe(k, float(at[k])), abs=1e-5)
    assert drift.reference(rx, 12345) == pytest.approx(twin.reference(12345), abs=1e-4)
    assert rx.clock_ratio == pytest.approx(twin.ratio, abs=1e-12)
    assert rx.clock_sigma**2 == pytest.approx(twin.covariance[1, 1], rel=1e-6)
    assert rx.clock_moved == pytest.approx(twin.moved, abs=1e-5)
    assert rx.clock_blocks == twin.blocks
    assert rx.clock_steps == twin.steps
    assert bool(rx.clock_certain) == twin.certain


# ---- how soon, and how well


@pytest.mark.parametrize("frames", [16, 128, 1024])
@pytest.mark.parametrize("ppm", [-300.0, -50.0, 0.0, 2.5, 300.0])
def test_locks_within_five_seconds_on_a_clean_network(ppm: float, frames: int) -> None:
    trace = jittery(20, "quiet", ppm, frames=frames)
    _, course = follow(trace)
    assert np.abs(error_ppm(course, ppm)[trace.at(5) :]).max() < 2.5


@pytest.mark.parametrize("ppm", [-300.0, 0.0, 300.0])
@pytest.mark.parametrize(
    ("kind", "within_ppm"), [("uniform", 30), ("gaussian", 120), ("pareto", 10)]
)
def test_locks_within_five_seconds_under_a_millisecond_of_jitter(
    kind: str, within_ppm: float, ppm: float
) -> None:
    """What is left of the error makes a musician drift by less than six frames a second."""
    trace = jittery(60, kind, ppm)
    _, course = follow(trace)
    assert np.abs(error_ppm(course, ppm)[trace.at(5) :]).max() < within_ppm


@pytest.mark.parametrize("frames", [16, 128])
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "pareto"])
def test_steady_ratio_noise_under_a_millisecond_of_jitter(kind: str, frames: int) -> None:
    trace = jittery(420, kind, 120.0, frames=frames)
    rx, course = follow(trace)
    settled = error_ppm(course, 120.0)[trace.at(120) :]
    assert np.sqrt(np.mean(settled**2)) <= 0.5
    assert abs(settled.mean()) < 0.35
    assert rx.clock_steps == 0
    assert 0.1e-6 < rx.clock_sigma < 1e-6


def test_error_is_no_more_than_it_says() -> None:
    beyond = []
    for seed in range(10):
        trace = jittery(60, "uniform", 77.0, seed=seed)
        _, course = follow(trace)
        error = np.abs(error_ppm(course, 77.0)) / (1e6 * course.sigma)
        beyond.append(np.mean(error[trace.at(3) :] > 3))
    assert np.mean(beyond) < 0.02


def test_for_hours_without_decay() -> None:
    """Six hours of large packets at a time of day that no float32 could hold."""
    ppm = -31.0
    trace = jittery(6 * 3600, "uniform", ppm, frames=1024)
    late = trace._replace(arrivals=trace.arrivals + 30 * 86400 * RATE)
    rx, course = follow(late)
    assert np.abs(error_ppm(course, ppm)[trace.at(300) :]).max() < 2.0
    assert rx.clock_moved == pytest.approx(-31e-6 * 6 * 3600 * RATE, abs=20)
    assert np.abs(course.lateness[trace.at(60) :]).max() < 1.2 * MS
    assert rx.clock_steps == 0


def test_ratio_follows_a_clock_that_warms_up() -> None:
    """3 ppm in ten minutes; the line of reference stays within a fraction of a frame."""
    numbers, _ = sent(900)
    ppm = 40 + np.minimum(numbers * 128 / RATE / 600, 1) * 3
    at = 5000 + np.cumsum(128 / (1 + ppm * 1e-6))
    at += np.random.default_rng(0).uniform(0, 0.1 * MS, len(at))
    rx, course = follow(Trace(numbers, at, 128))
    assert abs(course.ratio[-1] * 1e6 - 43) < 0.3
    assert np.abs(course.lateness[2000:]).max() < 0.1 * MS + 1
    assert rx.clock_steps == 0


# ---- what disturbs


def test_stalls_of_the_network_do_not_disturb() -> None:
    """40 ms every ten seconds, and one of two seconds, each followed by its burst."""
    numbers, at = sent(200, ppm=50)
    at = at + np.random.default_rng(1).uniform(0, 0.3 * MS, len(at))
    for second, held_ms in [*((s, 40) for s in range(10, 200, 10)), (95, 2000)]:
        start = int(np.searchsorted(at, second * RATE))
        at = np.maximum.accumulate(at)
        held = (at >= at[start]) & (at < at[start] + held_ms * MS)
        at[held] = at[start] + held_ms * MS
    trace = Trace(numbers, np.maximum.accumulate(at), 128)
    rx, course = follow(trace)
    assert rx.clock_steps == 0
    assert np.abs(error_ppm(course, 50)[trace.at(9) :]).max() < 3
    usual = np.median(course.lateness[trace.at(190) :])
    assert abs(usual) < 0.2 * MS


@pytest.mark.parametrize("step_ms", [10.0, -10.0, 2.0])
def test_step_of_the_path_moves_the_offset_and_not_the_ratio(step_ms: float) -> None:
    numbers, _ = sent(120)
    delay = np.random.default_rng(2).uniform(0, 0.2 * MS, len(numbers))
    delay += np.where(numbers >= 60 * 375, step_ms * MS, 0)
    trace = delayed(120, delay, ppm=20)
    rx, course = follow(trace)
    assert rx.clock_steps == 1
    assert np.abs(error_ppm(course, 20)[trace.at(30) :]).max() < 2
    assert np.abs(course.lateness[trace.at(63) :]).max() < 0.6 * MS


@pytest.mark.parametrize("pause_s", [0.04, 0.5, 7.0])
def test_pause_of_the_client_is_a_step(pause_s: float) -> None:
    """Its numbers go on where they were."""
    numbers, at = sent(60, ppm=-20)
    at = at + np.random.default_rng(3).uniform(0, 0.1 * MS, len(at))
    at[30 * 375 :] += pause_s * RATE
    trace = Trace(numbers, at, 128)
    rx, course = follow(trace)
    assert rx.clock_steps == 1
    assert np.abs(error_ppm(course, -20)[trace.at(10) :]).max() < 3
    assert np.abs(course.lateness[trace.at(33 + pause_s) :]).max() < 0.5 * MS


def test_outage_that_loses_packets_changes_nothing() -> None:
    trace = jittery(100, "quiet", 30.0)
    gone = (trace.seconds > 40) & (trace.seconds < 55)
    rx, course = follow(Trace(trace.numbers[~gone], trace.arrivals[~gone], 128))
    assert rx.clock_steps == 0
    assert np.abs(course.lateness[40 * 375 :]).max() < 0.1 * MS
    assert np.abs(error_ppm(course, 30.0)[10 * 375 :]).max() < 2


def test_lost_and_reordered_packets_are_none_the_worse() -> None:
    trace = jittery(300, "uniform", -80.0, frames=16)  # up to three packets out of order
    kept = np.random.default_rng(4).uniform(0, 1, len(trace.numbers)) > 0.2
    _, course = follow(Trace(trace.numbers[kept], trace.arrivals[kept], 16))
    settled = error_ppm(course, -80.0)[kept.sum() // 2 :]
    assert np.abs(settled).max() < 1.0


def test_wandering_path_is_followed_and_not_taken_for_a_clock() -> None:
    """A queue that fills by 5 ms in ten seconds and empties, again and again."""
    numbers, _ = sent(600)
    phase = (numbers * 128 / RATE + 5) % 60
    delay = np.clip((phase - 30) / 10, 0, 1) * (phase < 55) * 5 * MS
    delay += np.random.default_rng(5).exponential(0.1 * MS, len(numbers))
    trace = delayed(600, delay)
    rx, course = follow(trace)
    early = course.lateness[trace.at(20) :] - delay[trace.at(20) :] % MS
    assert rx.clock_certain == 0
    assert np.median(np.abs(early)) < 0.3 * MS
    assert np.abs(error_ppm(course, 0.0)[trace.at(60) :]).max() < 120


def test_restart_of_the_numbering_forgets() -> None:
    rx, _ = follow(jittery(20, "quiet", 200.0))
    assert rx.clock_certain == 1
    drift.begin(rx, 77, 1e6)
    assert rx.clock_certain == rx.clock_blocks == rx.clock_ratio == 0
    assert drift.reference(rx, 78) == 1e6 + 128


# ---- certainty


@pytest.mark.parametrize("frames", [16, 128, 1024])
@pytest.mark.parametrize(
    ("ppm", "within_s"), [(300.0, 3), (-300.0, 3), (50.0, 5), (-50.0, 5), (10.0, 22)]
)
def test_certain_soon_on_a_clean_network(ppm: float, within_s: float, frames: int) -> None:
    trace = jittery(40, "quiet", ppm, frames=frames)
    _, course = follow(trace)
    few = 1.1 if frames == 1024 else 1.0  # packets a second
    assert course.certain[trace.at(few * within_s)] == 1
    assert course.certain[trace.at(1.5)] == 0


@pytest.mark.parametrize(
    ("kind", "ppm", "half_s", "most_s"),
    [
        ("uniform", 300.0, 4.5, 4.5),
        ("uniform", -100.0, 4.5, 4.5),
        ("uniform", 50.0, 4.8, 5.5),
        ("narrow", 300.0, 4.6, 4.6),
        ("narrow", -100.0, 4.6, 4.6),
        ("narrow", 50.0, 4.8, 5.5),
        ("exponential", 300.0, 4.6, 4.6),
        ("exponential", 50.0, 5.0, 6.5),
        ("gaussian", 300.0, 4.6, 4.6),
        ("gaussian", -100.0, 5.5, 7.0),
        ("gaussian", 50.0, 8.5, 11.0),
    ],
)
def test_certain_soon_under_jitter(kind: str, ppm: float, half_s: float, most_s: float) -> None:
    """Half of all clients, and nine of ten; the ratio is then none of another clock."""
    when = []
    for seed in range(20):
        trace = jittery(14, kind, ppm, seed=seed)
        _, course = follow(trace)
        at = int(np.argmax(course.certain))
        when.append(trace.seconds[at] if course.certain[at] else np.inf)
        assert abs(error_ppm(course, ppm)[at]) < 80
    assert np.quantile(when, 0.5, method="lower") < half_s
    assert np.quantile(when, 0.9, method="lower") < most_s


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "pareto"])
def test_certain_in_time_under_jitter(kind: str) -> None:
    trace = jittery(60, kind, 50.0)
    rx, course = follow(trace)
    assert rx.clock_certain == 1
    assert np.abs(error_ppm(course, 50.0)[course.certain == 1]).max() < 25


@pytest.mark.parametrize("grows_ms", [0.0, 0.15, 0.4])
@pytest.mark.parametrize("frames", [128, 512])
@pytest.mark.parametrize("ppm", [50.0, 300.0, -900.0])
def test_once_certain_the_ratio_stays(ppm: float, frames: int, grows_ms: float) -> None:
    """It is heard from then on, though the path's delay may grow within a second or three."""
    found = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        numbers, _ = sent(20, frames)
        begins, takes = rng.uniform(3, 9), rng.uniform(0.2, 3)
        share = np.clip((numbers * frames / RATE - begins) / takes, 0, 1)
        delay = jitter("quiet", len(numbers), rng) + grows_ms * MS * share
        _, course = follow(delayed(20, delay, frames=frames, ppm=ppm))
        heard = course.certain > 0
        found += bool(heard.any())
        assert np.abs(error_ppm(course, ppm)[heard]).max(initial=0.0) < 30, seed
    assert found > 6


@pytest.mark.parametrize("frames", [16, 128, 1024])
@pytest.mark.parametrize("kind", ["quiet", "uniform", "gaussian", "pareto"])
def test_never_certain_without_drift(kind: str, frames: int) -> None:
    for seed in range(5):
        rx, _ = follow(jittery(120, kind, 0.0, frames=frames, seed=seed))
        assert rx.clock_certain == 0


@pytest.mark.parametrize("frames", [128, 1024])
def test_never_certain_on_a_noisy_machine_without_drift(frames: int) -> None:
    for seed in range(8):
        trace = machine_noise(600, np.random.default_rng(seed), frames=frames)
        rx, _ = follow(trace)
        assert rx.clock_certain == 0


@pytest.mark.parametrize("network", [wifi, wired, stalls, step], ids=lambda make: make.__name__)
def test_never_certain_on_a_bad_network_without_drift(
    network: Callable[[int, np.random.Generator], Network],
) -> None:
    for seed in range(8):
        delay = network(600 * 375, np.random.default_rng(seed)).delay
        rx, _ = follow(delayed(600, delay))
        assert rx.clock_certain == 0


def test_steps_of_the_path_are_no_drift() -> None:
    """Another delay by up to 0.5 or 5 ms every half minute, whichever comes."""
    for seed in range(8):
        rx, _ = follow(another_path(np.random.default_rng(seed)))
        assert rx.clock_certain == 0


@pytest.mark.parametrize("noise_ms", [0.03, 0.1, 0.3])
def test_time_lost_in_steps_is_no_drift(noise_ms: float) -> None:
    """A sound card that stalls, or a JACK server at each of its xruns: what is lost in a young
    client's first seconds may be as much as a drift of hundreds of ppm would make.

    What it does to the ratio is forgotten soon, too.
    """
    ratios = []
    make = losing_time(lambda rng, count: rng.exponential(noise_ms * MS, count))
    for seed in range(100):
        rx, course = follow(make(np.random.default_rng(seed)))
        assert rx.clock_certain == 0, seed
        ratios.append(abs(course.ratio[-1]))
    assert np.quantile(ratios, 0.9) < 10e-6


def test_real_client_on_a_busy_machine() -> None:
    """Its jackd gave up 8 and 16 ms of its time; its clock is the hub's."""
    delay = recorded().delay
    trace = delayed(len(delay) * 128 / RATE, delay)
    rx, course = follow(trace)
    assert rx.clock_certain == 0
    assert rx.clock_steps == 2
    assert np.abs(error_ppm(course, 0.0)[trace.at(20) :]).max() < 5
    assert abs(np.median(course.lateness[-2000:])) < 0.1 * MS


# ---- numbers and times of nobody's clock


def leaping(rng: np.random.Generator) -> Trace:
    """Two thousand packets with numbers and at times that are none of a clock."""
    count = 2000
    steps, waits = np.ones(count, np.int64), np.full(count, 128.0)
    kind = rng.integers(4)
    if kind == 0:  # at a multiple of its pace
        waits *= 10 ** rng.uniform(-2, 1)
    elif kind == 1:  # numbers leap, as far as they may
        steps = rng.integers(1, 1000, count)
        waits = rng.exponential(128, count)
    elif kind == 2:  # old ones and bursts between
        steps = np.where(rng.uniform(size=count) < 0.5, 1, rng.integers(-500, 1000, count))
        waits = np.where(rng.uniform(size=count) < 0.9, 0.0, 1000.0)
    else:  # each packet at another pace
        waits *= 10 ** rng.uniform(-3, 1, count)
    return Trace(np.cumsum(steps), FIRST + np.cumsum(waits), 128)


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_what_no_clock_does_is_soon_forgotten(seed: int) -> None:
    """The ratio stays one of a clock; an honest minute later it is the client's, though what was
    seen before was rougher by a factor of thousands, and packets are in time."""
    rng = np.random.default_rng(seed)
    wild = leaping(rng)
    numbers, at = sent(60, ppm=70)
    numbers = numbers + wild.numbers.max() + 1
    at = at - FIRST + wild.arrivals[-1] + rng.uniform(0, 0.05 * MS, len(at))
    trace = Trace(np.concatenate((wild.numbers, numbers)), np.concatenate((wild.arrivals, at)), 128)
    _, course = follow(trace)
    assert np.isfinite(course).all()
    assert np.abs(course.ratio).max() <= drift.WILD_RATIO
    assert np.abs(error_ppm(course, 70)[-100:]).max() < 2.0
    assert course.sigma[-1] < 1e-6
    assert np.abs(course.lateness[-100:]).max() < 0.1 * MS


def test_a_wild_clock_begins_anew_like_twin() -> None:
    """Eight seconds at twice its pace, and then at its own."""
    numbers, at = sent(20)
    at = np.where(numbers < 3000, FIRST + (at - FIRST) / 2, at - 1500 * 128)
    at = at + np.random.default_rng(6).uniform(0, MS, len(at))
    rx = client(128)
    drift.begin(rx, 0, at[0])
    twin = ClockTwin(128, RATE, 0, at[0])
    begun = 0
    for k in range(1, len(at)):
        blocks = rx.clock_blocks
        lateness = drift.observe(rx, k, at[k], RATE)
        assert lateness == pytest.approx(twin.observe(k, float(at[k])), abs=1e-5)
        begun += rx.clock_blocks < blocks
    assert begun > 0
    assert rx.clock_ratio == pytest.approx(twin.ratio, abs=1e-12)


# ---- a receiver that is killed


def torn(
    before: np.record, after: np.record, rng: np.random.Generator
) -> np.recarray[Any, np.dtype[np.record]]:
    """A record of which some has been written, and some not."""
    found = np.zeros(1, RX).view(np.recarray)
    for name in RX.names or ():
        written = rng.uniform(size=before[name].shape) < 0.5
        found[0][name] = np.where(written, after[name], before[name])
    return found


@pytest.mark.parametrize("frames", [16, 128])
def test_killed_at_any_instant(frames: int) -> None:
    """Who goes on with what a killed receiver knew is soon where it was, and sees no drift."""
    trace = jittery(12, "quiet", 0.0, frames=frames)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        records = np.zeros(1, RX).view(np.recarray)
        records[0]["frames"] = records[0]["span"] = frames
        rx = records[0]
        drift.begin(rx, 0, float(trace.arrivals[0]))
        k = 1 + int(rng.integers(trace.at(4)))
        feed(rx, trace, 1, k)
        before = records.copy()
        while True:  # half of them while the clock is corrected
            feed(rx, trace, k, k + 1)
            k += 1
            if seed % 2 or rx.block_count == 0:
                break
            before = records.copy()
        left = torn(before[0], rx, rng)
        left[0]["clock_torn"] = rx.block_count == 0

        rx = left[0]
        drift.resume(rx, k - 2, float(trace.arrivals[k - 2]))
        course = feed(rx, trace, k + 5, len(trace.numbers))
        assert np.abs(course.lateness).max() < 3 * MS
        assert np.abs(course.lateness[len(course.lateness) // 2 :]).max() < 0.1 * MS
        assert np.abs(course.ratio[-1]) < 2.5e-6
        assert rx.clock_certain == rx.clock_steps == 0
