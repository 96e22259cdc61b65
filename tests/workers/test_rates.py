"""Clients of other sample rates: what is heard of them, and how a rate that is not told is found.

Whole streams through the receiver's kernels (see ``flows``).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import DriftMode, EndReason, RxState, Underrun
from tests.workers.arenas import arena_of, sending
from tests.workers.flows import Doubles, column, flow, jitter, sent
from tests.workers.networks import SIZES, Network, ended, packets_for, stormy, through
from tests.workers.streams import Format, Signal, Take, numbers, take
from tests.workers.test_steering import FAULTS, MS, error, faults, residue_db, since
from workers import rates
from workers.filters import RATES_HZ
from workers.playout import FOLLOWING, needed_at, needed_for, played_at, to_hub, to_line

pytestmark = pytest.mark.timeout(400)  # the first one may have to compile the receiver

HZ = 997.0
PLAIN = Format(queue=4, bits=32, drift=DriftMode.AUTO, underrun=Underrun.BURG)
OTHERS = (22050, 32000, 44100, 88200, 96000, 192000)
ONE = 1 << 32


def sine_of(fmt: Format, ppm: float = 0.0) -> Signal:
    """HZ in a packet's frames, by the client's own clock."""
    pitch = 2 * np.pi * HZ / fmt.client_hz

    def sine(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        x: Doubles = 0.5 * np.sin(pitch * index + channel)
        return x

    return sine


def heard_db(fmt: Format, taken: Take, ppm: float, first_s: float) -> float:
    """What is not the sine, from a second on to the last but one."""
    heard = taken.heard[0, round(first_s * fmt.rate_hz) : -fmt.rate_hz].astype(np.float64)
    return residue_db(heard, 2 * np.pi * HZ / fmt.rate_hz * (1 + ppm * 1e-6))


# ---- what is heard


@pytest.mark.parametrize("frames", [64, 441, 1024])
@pytest.mark.parametrize("sent_hz", OTHERS)
def test_a_client_of_another_rate_is_heard(sent_hz: int, frames: int) -> None:
    """From its first packet on: SNR of 105 dB, no fault."""
    fmt = replace(PLAIN, sent_hz=sent_hz, frames=frames)
    taken = flow(fmt, sine_of(fmt), sent(fmt, 4))
    part = since(taken, fmt, 0)
    assert taken.rx["rate_hz"] == sent_hz
    assert np.all(column(taken, "resampling")[part] == FOLLOWING)
    assert faults(taken, part) == dict.fromkeys(FAULTS, 0)
    assert heard_db(fmt, taken, 0.0, 0.5) < -105
    assert np.max(np.abs(taken.heard[:, : 3 * fmt.rate_hz])) == pytest.approx(0.5, abs=1e-4)
    assert taken.broken == 0


@pytest.mark.parametrize(("rate_hz", "sent_hz"), [(44100, 48000), (96000, 44100), (96000, 48000)])
@pytest.mark.parametrize("queue", [2, 0])
def test_whatever_the_hubs_rate(rate_hz: int, sent_hz: int, queue: int) -> None:
    fmt = replace(PLAIN, rate_hz=rate_hz, sent_hz=sent_hz, queue=queue)
    at = sent(fmt, 8)
    taken = flow(fmt, sine_of(fmt), at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    assert faults(taken, since(taken, fmt, 0)) == dict.fromkeys(FAULTS, 0)
    if queue != 0:
        assert np.max(np.abs(error(fmt, taken)[since(taken, fmt, 4)])) < fmt.period
        assert heard_db(fmt, taken, 0.0, 4) < -105


@pytest.mark.parametrize(
    ("sent_hz", "ppm", "drift"),
    [(44100, 208, DriftMode.OFF), (44100, -300, DriftMode.AUTO), (96000, 50, DriftMode.ON)],
)
def test_its_clock_is_followed_too(sent_hz: int, ppm: float, drift: DriftMode) -> None:
    fmt = replace(PLAIN, sent_hz=sent_hz, drift=drift)
    at = sent(fmt, 60, ppm)
    taken = flow(fmt, sine_of(fmt), at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    assert faults(taken, since(taken, fmt, 0)) == dict.fromkeys(FAULTS, 0)
    assert np.max(np.abs(error(fmt, taken)[since(taken, fmt, 40)])) < 8
    assert heard_db(fmt, taken, ppm, 50) < -90
    assert taken.rx["clock_ratio"] * 1e6 == pytest.approx(ppm, abs=2)


def test_ten_minutes_do_not_creep() -> None:
    """What a step of 2^-32 is off by, and what the clock's ratio is, are worn off all the time."""
    fmt = replace(PLAIN, sent_hz=22050, frames=256)
    at = sent(fmt, 600, 37)
    taken = flow(fmt, sine_of(fmt), at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    assert faults(taken, since(taken, fmt, 0)) == dict.fromkeys(FAULTS, 0)
    assert np.max(np.abs(error(fmt, taken)[since(taken, fmt, 60)])) < 4


@pytest.mark.parametrize("sent_hz", [44100, 96000])
def test_delay_is_what_is_wanted(sent_hz: int) -> None:
    """Margin, the hub's period and the filter's look-ahead; no more."""
    fmt = replace(PLAIN, sent_hz=sent_hz, queue=2)
    at = sent(fmt, 30)
    taken = flow(fmt, sine_of(fmt), at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    assert taken.rx["margin_frames"] == ceil(fmt.frames * 48000 / sent_hz)
    assert np.max(np.abs(error(fmt, taken)[since(taken, fmt, 20)])) < 8


@pytest.mark.parametrize("sent_hz", [44100, 96000])
def test_what_is_lost_is_bridged(sent_hz: int) -> None:
    """One packet in fifty, of a sine: bridged so that hardly anything is amiss."""
    fmt = replace(PLAIN, sent_hz=sent_hz, queue=4)
    at = sent(fmt, 8)
    at[50::50] = np.nan
    taken = flow(fmt, sine_of(fmt), at)
    assert taken.rx["lost"] > 0
    assert taken.rx["bridged"] >= taken.rx["lost"] - 2
    assert heard_db(fmt, taken, 0.0, 0.5) < -40


@settings(max_examples=60)
@given(
    st.builds(
        Format,
        frames=st.sampled_from(SIZES),
        period=st.sampled_from(SIZES),
        queue=st.sampled_from([0, 0, 1, 2, 4, 8]),
        channels=st.integers(1, 2),
        bits=st.sampled_from([8, 16, 24, 32]),
        rate_hz=st.sampled_from([48000, 44100, 96000]),
        sent_hz=st.sampled_from(OTHERS),
        drift=st.sampled_from(list(DriftMode)),
        underrun=st.sampled_from(list(Underrun)),
    ),
    stormy,
)
def test_storms_break_nothing(fmt: Format, network: Network) -> None:
    taken = take(fmt, numbers, ended(through(network, fmt, packets_for(fmt)), fmt))
    assert taken.broken == 0
    assert np.all(np.isfinite(taken.heard))
    assert np.max(np.abs(taken.heard)) < 4
    assert column(taken, "margin").min() >= 0


@settings(max_examples=40)
@given(st.sampled_from(SIZES), st.sampled_from(SIZES), st.integers(1, 8), st.sampled_from(OTHERS))
def test_any_packet_with_any_period(frames: int, period: int, queue: int, sent_hz: int) -> None:
    """On a quiet network nothing is ever amiss."""
    fmt = replace(PLAIN, frames=frames, period=period, queue=queue, sent_hz=sent_hz)
    packets = max(60, sent_hz // 2 // frames)
    taken = take(fmt, sine_of(fmt), through(Network(), fmt, packets))
    assert faults(taken, slice(0, packets - 4)) == dict.fromkeys(FAULTS, 0)
    after = round(0.2 * fmt.rate_hz)
    step = 2 * np.pi * HZ / fmt.rate_hz
    assert np.max(np.abs(np.diff(taken.heard[0, : after * 2]))) < 0.5 * step * 1.1


# ---- positions


@settings(max_examples=200)
@given(
    st.integers(0, 1 << 40),
    st.integers(0, ONE - 1),
    st.integers(-(ONE - (1 << 28)), 8 * ONE),
    st.integers(16, 320),
    st.integers(-20_000, 200_000),
)
def test_positions(frame: int, phase: int, step: int, lookahead: int, ahead: int) -> None:
    """Against exact fractions."""
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["resampling"], rx["watermark"], rx["read_frame"] = FOLLOWING, 1 << 33, frame
        rx["read_phase"], rx["step"], rx["lookahead"] = phase, step, lookahead
        advance, here = Fraction(ONE + step, ONE), frame + Fraction(phase, ONE)

        def when(position: int) -> Fraction:
            return (1 << 33) + (position - here) / advance

        assert to_line(rx, (1 << 33) + ahead) == floor(here + ahead * advance)
        assert to_hub(rx, frame + ahead) == floor(when(frame + ahead))
        assert abs(played_at(rx, frame + ahead) - float(when(frame + ahead))) < 1e-3
        assert needed_at(rx, frame + ahead) == floor(when(frame + ahead - lookahead))
        last = here + (ahead - 1) * advance
        assert needed_for(rx, (1 << 33) + ahead) == floor(last) + lookahead + 1


# ---- a rate that is not told


def measured(frames: int, arrivals: Doubles, first: int = 65_500) -> Any:
    """What comes of packets in this order, ns; and after how many it was known."""
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["frames"] = frames
        rates.forget(rx)
        for k, at in enumerate(arrivals.tolist()):
            found = rates.measure(rx, (first + k) & 0xFFFF, round(at))
            if found != 0:
                return found, k
    return 0, len(arrivals)


@settings(max_examples=60)
@given(
    st.sampled_from(RATES_HZ),
    st.sampled_from([16, 64, 128, 441, 1024, 4096]),
    st.floats(0, 5),
    st.floats(-300, 300),
    st.integers(0, 99),
)
def test_a_known_rate_is_told_by_its_pace(
    rate_hz: int, frames: int, jitter_ms: float, ppm: float, seed: int
) -> None:
    count = round(21 * rate_hz / frames)
    at: Doubles = np.arange(count, dtype=np.float64) * (frames / (rate_hz * (1 + ppm * 1e-6)) * 1e9)
    at += np.random.default_rng(seed).exponential(jitter_ms * MS, count)
    found, packets = measured(frames, at)
    assert found == rate_hz
    if jitter_ms < 1 and frames * 8 / rate_hz < 1.5:
        assert at[packets] < 1.7e9


@pytest.mark.parametrize("rate_hz", [8200, 37_800, 44_500, 47_600, 50_000, 152_000, 190_500])
def test_an_odd_rate_is_used_as_measured(rate_hz: int) -> None:
    at: Doubles = np.arange(rate_hz // 8, dtype=np.float64) * (128 / rate_hz * 1e9)
    found, _ = measured(128, at + jitter(len(at), 0.05))
    assert found == pytest.approx(rate_hz, rel=2e-4)


@pytest.mark.parametrize("rate_hz", [1000, 7000, 250_000])
def test_what_is_no_rate_is_none(rate_hz: int) -> None:
    at: Doubles = np.arange(rate_hz // 4, dtype=np.float64) * (128 / rate_hz * 1e9)
    assert measured(128, at)[0] == rates.NONE


def test_a_stall_does_not_mislead() -> None:
    """Nothing for 300 ms, and then all at once, in the midst of the measuring or at its end."""
    for begins in (0.1, 0.7, 1.3):
        at: Doubles = np.arange(30_000, dtype=np.float64) * (128 / 192_000 * 1e9)
        held = (at > begins * 1e9) & (at < (begins + 0.3) * 1e9)
        at[held] = (begins + 0.3) * 1e9
        assert measured(128, at)[0] == 192_000


@pytest.mark.parametrize("sent_hz", [192_000, 176_400, 37_800, 48_000])
def test_a_client_whose_code_says_nothing_is_heard_after_two_seconds(sent_hz: int) -> None:
    fmt = replace(PLAIN, sent_hz=sent_hz, code=7)
    at = sent(fmt, 12)
    taken = flow(fmt, sine_of(fmt), at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    assert taken.rx["rate_hz"] == pytest.approx(sent_hz, rel=2e-4)
    assert np.all(taken.heard[0, : fmt.rate_hz] == 0.0)
    assert heard_db(fmt, taken, 0.0, 6) < -90
    assert faults(taken, since(taken, fmt, 2)) == dict.fromkeys(FAULTS, 0)


def test_packets_too_long_for_any_ring_are_refused() -> None:
    fmt = replace(PLAIN, frames=8192, sent_hz=8000, code=7)
    at = sent(fmt, 20)
    taken = flow(fmt, sine_of(fmt), at)
    assert taken.rx["state"] == RxState.ENDED
    assert taken.rx["end_reason"] == EndReason.WRONG_RATE


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_packets_length(rate_hz: int) -> None:
    """In hub frames, to the last bit where rates agree."""
    with arena_of() as arena:
        sending(arena, 441, rate_hz)
        rx = arena.rx[0]
        assert rx["span"] == 441 * 48000 / rate_hz
        assert (rx["nominal_step"] == 0) == (rx["filter"] == 0) == (rate_hz == 48000)
        assert (ONE + int(rx["nominal_step"])) / ONE == pytest.approx(rate_hz / 48000, abs=2**-32)
