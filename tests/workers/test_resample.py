"""The resampler against its twin, and how much of a tone it leaves as it was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers import twins
from workers.filters import (
    LOOKAHEAD,
    PHASES,
    TAPS,
    Filters,
    filter_table,
    filters_into,
)
from workers.resample import make_scratch, resample

RATE_HZ = 48000
TABLE = filter_table()
FILTERS = filters_into(RATE_HZ)
SCRATCH = make_scratch()
ONE = 1 << 32
PPM = ONE / 1e6

Floats = npt.NDArray[np.float32]


def resampled(
    line: Floats,
    frame: int,
    phase: int,
    step: int,
    blocks: list[int],
    at: int = 0,
    filters: Filters = FILTERS,
    index: int = 0,
) -> tuple[Floats, int, int]:
    """Through the kernel, block by block: (channels, sum of blocks), and the next position."""
    channels, total = len(line), sum(blocks)
    frames = 1 << (total - 1).bit_length()
    ring = np.full((channels + 1, frames), 9, np.float32)
    mask, done = line.shape[1] - 1, 0
    for count in blocks:
        frame, phase = resample(
            line, mask, channels, frame, phase, step, count, filters, index,
            SCRATCH, ring, frames - 1, at + done,
        )  # fmt: skip
        done += count
    assert np.all(ring[channels] == 9)
    there = (at + np.arange(total)) & (frames - 1)
    return ring[:channels, there], frame, phase


def endless(seed: int, channels: int, frames: int = 1024) -> Floats:
    """A ring full of noise."""
    return np.random.default_rng(seed).uniform(-1, 1, (channels, frames)).astype(np.float32)


def tone(hz: float, frames: int, start: int = 0) -> Floats:
    """(1, frames): sine of amplitude 0.5."""
    t = np.arange(start, start + frames)
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * t / RATE_HZ), np.float32)[None]


def pitch(hz: float, heard: Floats) -> tuple[float, float]:
    """Amplitude of a sine in a sound, and all that is not that sine, dB below it."""
    angle = 2 * np.pi * hz / RATE_HZ * np.arange(len(heard))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, heard.astype(float), rcond=None)
    rest = heard - basis @ weights
    amplitude = float(np.hypot(*weights))
    return amplitude, float(10 * np.log10(np.mean(rest**2) / (amplitude**2 / 2)))


positions = st.integers(0, 1 << 20)
phases = st.integers(0, ONE - 1)
steps = st.integers(1 - (1 << 24), (1 << 24) - 1)
cuts = st.lists(st.integers(1, 200), min_size=1, max_size=6)


# ---- against the twin


@settings(max_examples=60)
@given(st.integers(1, 5), positions, phases, steps, cuts, positions, st.integers(0, 9))
def test_like_twin_however_it_is_cut(
    channels: int, frame: int, phase: int, step: int, blocks: list[int], at: int, seed: int
) -> None:
    """On a ring of 1024 that wraps many times; positions are exact, samples to 1e-6."""
    line, total = endless(seed, channels), sum(blocks)
    heard, *position = resampled(line, frame, phase, step, blocks, at)
    np.testing.assert_allclose(
        heard, twins.resample(line, TABLE, frame, phase, step, total), atol=1e-6
    )
    end = (frame << 32) + phase + total * (ONE + step)
    assert tuple(position) == divmod(end, ONE)
    at_once, *_ = resampled(line, frame, phase, step, [total], at)
    np.testing.assert_array_equal(heard.view(np.int32), at_once.view(np.int32))


@given(positions, phases, steps, st.integers(1, 40))
def test_unknown_frames_are_not_heard(frame: int, phase: int, step: int, count: int) -> None:
    """Only frames − 15 to + 16 of the outputs' whole frames count."""
    line = endless(3, 2)
    last = ((frame << 32) + phase + (count - 1) * (ONE + step)) >> 32
    known = np.arange(frame - LOOKAHEAD + 1, last + LOOKAHEAD + 1) % 1024
    blank = np.full_like(line, np.nan)
    blank[:, known] = line[:, known]
    heard, *_ = resampled(blank, frame, phase, step, [count])
    np.testing.assert_array_equal(heard, resampled(line, frame, phase, step, [count])[0])


@given(positions, st.integers(1, 300), st.integers(1, 4))
def test_at_whole_frames_nothing_changes(frame: int, count: int, channels: int) -> None:
    line = endless(frame, channels)
    heard, *position = resampled(line, frame, 0, 0, [count])
    np.testing.assert_array_equal(heard, line[:, (frame + np.arange(count)) % 1024])
    assert position == [frame + count, 0]


@settings(max_examples=30)
@given(positions, phases, steps, st.integers(1, 5))
def test_channels_do_not_differ(frame: int, phase: int, step: int, channels: int) -> None:
    """The same sound in all of them stays the same sound, bit by bit."""
    line = np.repeat(endless(1, 1), channels, axis=0)
    heard, *_ = resampled(line, frame, phase, step, [150])
    np.testing.assert_array_equal(heard, np.repeat(heard[:1], channels, axis=0))


# ---- the filter


def test_table() -> None:
    assert TABLE.shape == (PHASES + 1, TAPS)
    assert TABLE.dtype == np.float32
    np.testing.assert_array_equal(TABLE[0], np.eye(TAPS, dtype=np.float32)[15])
    np.testing.assert_array_equal(TABLE[PHASES], np.eye(TAPS, dtype=np.float32)[16])
    np.testing.assert_allclose(TABLE[::-1, ::-1], TABLE, atol=1e-7)  # no direction of time
    np.testing.assert_allclose(TABLE.sum(axis=1), 1, atol=1e-6)


# ---- how it sounds


@pytest.mark.parametrize("ppm", [-500, -300, -13, 3, 208, 500])
@pytest.mark.parametrize(
    ("hz", "limit_db"), [(100, -120), (997, -115), (9973, -115), (18000, -100)]
)
def test_what_a_tone_gathers(ppm: float, hz: float, limit_db: float) -> None:
    """THD+N over one second (13 ppm and less: that of a few phases)."""
    step, frames = round(ppm * PPM), 1 << 16
    for phase in (0, ONE // 3) if abs(ppm) < 100 else (0,):
        heard, *_ = resampled(tone(hz, frames), 100, phase, step, [128] * (RATE_HZ // 128))
        _, noise_db = pitch(hz * (1 + step / ONE), heard[0])
        assert noise_db < limit_db


@pytest.mark.parametrize("phase", [1, ONE // 7, ONE // 4, ONE // 2, ONE - 1])
def test_flat_to_18_khz(phase: int) -> None:
    """Within 0.1 dB at any position between two frames, at its worst in the middle."""
    for hz in (20, 1000, 5000, 10000, 14000, 16000, 17000, 18000):
        heard, *_ = resampled(tone(hz, 8192), 100, phase, 0, [4800])
        amplitude, _ = pitch(hz, heard[0])
        assert abs(20 * np.log10(amplitude / 0.5)) < 0.1


def test_delay_is_where_the_position_says() -> None:
    """A tone read from n + 0.3 on begins with the angle that it has there."""
    hz, phase = 3000.0, round(0.3 * ONE)
    heard, *_ = resampled(tone(hz, 2048), 500, phase, 0, [1024])
    angle = 2 * np.pi * hz / RATE_HZ * (500.3 + np.arange(1024))
    assert np.max(np.abs(heard[0] - 0.5 * np.sin(angle))) < 2e-5
