"""The limiter of a return stream: its curve, its distortion, and that nothing gets past it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.arenas import arena_of
from tests.workers.twins import Doubles
from workers import limiter
from workers.limiter import CEILING, THRESHOLD, curve, limit

RATE = 48000
PERIOD = 128


def limited(signal: Doubles, *, period: int = PERIOD, on: int | list[int] = 1) -> Doubles:
    """(channels, frames) through the kernel, period by period."""
    out = signal.copy()
    with arena_of() as arena:
        for k, at in enumerate(range(0, signal.shape[1], period)):
            block = np.ascontiguousarray(out[:, at : at + period])
            switch = on if isinstance(on, int) else on[min(k, len(on) - 1)]
            peak, squares = limit(block, len(block), block.shape[1], RATE, switch, arena.tx[0])
            assert (peak, squares) == pytest.approx((np.abs(block).max(), np.sum(block**2)))
            out[:, at : at + period] = block
    return out


def twin(signal: Doubles) -> Doubles:
    """The same, sample by sample, from the module's text."""
    out, gain, hold = signal.copy(), 1.0, 0
    for i in range(signal.shape[1]):
        size = float(np.max(np.abs(signal[:, i])))
        wanted = 1.0
        if size > THRESHOLD:
            beyond = (size - THRESHOLD) / (CEILING - THRESHOLD)
            wanted = (THRESHOLD + (CEILING - THRESHOLD) * beyond / (1 + beyond)) / size
        if hold:
            hold -= 1
        else:
            gain += (1 - gain) * (1 - np.exp(-1 / (limiter.RELEASE_S * RATE)))
            gain = 1.0 if 1 - gain < limiter.DONE else gain
        gain = min(gain, wanted)
        if wanted < min(1.0, gain * limiter.ALIKE):
            hold = int(limiter.HOLD_S * RATE)
        out[:, i] *= gain
    return out


def noise(seed: int, frames: int, level: float, channels: int = 2) -> Doubles:
    return np.random.default_rng(seed).normal(0, level, (channels, frames))


def sine(frequency_hz: float, gain_db: float, seconds: float = 1.0) -> Doubles:
    """(1, frames) of a sine so far beyond full scale."""
    time = np.arange(int(seconds * RATE)) / RATE
    return 10 ** (gain_db / 20) * np.sin(2 * np.pi * frequency_hz * time)[None]


def distortion_db(heard: npt.NDArray[np.float64]) -> float:
    """All that is not the strongest partial, beside it; harmonics and aliases alike."""
    spectrum = np.abs(np.fft.rfft(heard * np.kaiser(len(heard), 20))) ** 2
    peak = int(np.argmax(spectrum))
    fundamental = spectrum[max(peak - 8, 0) : peak + 9].sum()
    return float(10 * np.log10(max(spectrum.sum() / fundamental - 1, 1e-15)))


def residue_db(wave: Doubles) -> float:
    """What of one period is not its fundamental."""
    tone = np.exp(-2j * np.pi * np.arange(len(wave)) / len(wave))
    part = 2 / len(wave) * np.real((wave @ tone) * np.conj(tone))
    return float(20 * np.log10(np.linalg.norm(wave - part) / np.linalg.norm(part)))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.8, 5.0]), min_size=1, max_size=8),
    st.sampled_from([16, 128, 441]),
    st.integers(1, 3),
)
def test_like_twin(seed: int, levels: list[float], period: int, channels: int) -> None:
    signal = np.hstack([noise(seed, 700, level, channels) for level in levels])
    np.testing.assert_allclose(limited(signal, period=period), twin(signal), rtol=1e-12, atol=0)


@given(st.floats(THRESHOLD, 1e12))
def test_curve_rises_and_stays_below_full_scale(size: float) -> None:
    out = curve(size)
    assert THRESHOLD <= out <= CEILING
    assert out <= size
    assert curve(size * 1.001) >= out


def test_curve_as_documented() -> None:
    """docs/levels.md has these figures; the curve leaves the straight line without a corner."""
    given_db = [-1, 0, 3, 6, 12, 24]
    out_db = [20 * np.log10(curve(10 ** (db / 20))) for db in given_db]
    np.testing.assert_allclose(out_db, [-1.0, -0.49, -0.17, -0.09, -0.03, -0.01], atol=0.01)
    step = 1e-6
    assert (curve(THRESHOLD + step) - THRESHOLD) / step == pytest.approx(1, abs=1e-4)


def test_what_stays_below_the_threshold_is_untouched() -> None:
    signal = np.clip(noise(1, 9600, 0.4), -THRESHOLD, THRESHOLD)
    np.testing.assert_array_equal(limited(signal), signal)


@pytest.mark.parametrize("level", [0.5, 3.0, 1e3, 1e9])
def test_nothing_reaches_full_scale(level: float) -> None:
    heard = limited(noise(2, 48000, level))
    assert np.abs(heard).max() < 1.0


def test_after_the_last_peak_every_sample_passes_again() -> None:
    quiet = noise(3, 4 * RATE, 0.1)
    signal = quiet.copy()
    signal[0, 100] = 4.0
    heard = limited(signal)
    end = RATE // 40 + int(limiter.RELEASE_S * RATE * np.log(1 / limiter.DONE)) + PERIOD
    np.testing.assert_array_equal(heard[:, 100 + end :], signal[:, 100 + end :])
    assert np.all(np.abs(heard[:, 101 : 100 + RATE // 40]) < np.abs(quiet[:, 101 : 100 + 1200]))


def test_channels_keep_their_balance() -> None:
    """The gain is that of the loudest channel, in all of them."""
    signal = noise(4, 9600, 0.9)
    heard = limited(signal)
    np.testing.assert_allclose(heard[0] * signal[1], heard[1] * signal[0], atol=1e-9)


@pytest.mark.parametrize("gain_db", [3, 6, 12])
@pytest.mark.parametrize("frequency_hz", [30, 50, 440, 997, 5003, 9001])
def test_a_steady_tone_is_not_bent(frequency_hz: float, gain_db: float) -> None:
    """Harmonics and aliases of it are below −120 dB once the gain has come to rest."""
    heard = limited(sine(frequency_hz, gain_db))[0, RATE // 2 :]
    assert distortion_db(heard) < -120
    assert np.abs(heard).max() > 0.97


@pytest.mark.parametrize(("gain_db", "worst_db"), [(3, -21), (6, -17), (12, -13.8)])
def test_the_first_wave_is_bent_as_documented(gain_db: float, worst_db: float) -> None:
    """All that is not the tone, in the first wave of 1 kHz; clipping does worse to every wave."""
    wave = sine(1000, gain_db, 0.001)[0]
    assert residue_db(limited(wave[None])[0]) < worst_db
    assert residue_db(np.clip(wave, -1, 1)) > worst_db - (1 if gain_db == 3 else 0)


def test_a_full_mix_of_300_neither_clips_nor_is_torn() -> None:
    """300 voices of −26 dBFS sum to −1.2 dBFS RMS: 9 dB of peaks too much."""
    signal = noise(5, RATE, 0.05 * 300**0.5)
    heard = limited(signal)
    assert np.abs(heard).max() < 1.0
    steady = slice(RATE // 2, None)
    gain = heard[:, steady] / signal[:, steady]
    assert np.ptp(20 * np.log10(gain)) < 3.5  # it breathes by no more
    correlation = np.corrcoef(heard[0, steady], signal[0, steady])[0, 1]
    assert correlation > 0.995


def test_switched_off_in_mid_reduction_it_glides_back() -> None:
    """No step: only what is beyond full scale then is the encoder's to clip, as without it."""
    signal = np.full((1, 4 * RATE), 2.0)
    heard = limited(signal, on=[1] * 20 + [0])[0]
    assert np.abs(np.diff(heard[PERIOD:])).max() < 2 * 1.1 / (limiter.RELEASE_S * RATE)
    assert heard[-1] == 2.0
    np.testing.assert_array_equal(limited(signal, on=0), signal)
