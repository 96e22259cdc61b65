"""The judges of these tests are judged first: would they notice?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.end_to_end.sound import (
    Exact,
    Samples,
    exact_windows,
    explain,
    find_lag,
    longest_gap,
    noise,
    returned,
    roughness,
    shifted,
    sine,
    snr_db,
)

FRAMES = 20_000
LSB = 1 / 32768
DELAYS = (700, 828, 1024)


@pytest.fixture
def voices() -> list[Exact]:
    return [noise(seed, FRAMES, 0.3, lead=500).in_hub for seed in range(len(DELAYS))]


@pytest.fixture
def heard(voices: list[Exact]) -> Samples:
    """What a 16-bit client records of a perfect hub."""
    parts = [shifted(v, lag, FRAMES + 2000) for v, lag in zip(voices, DELAYS, strict=True)]
    return returned(np.sum(parts, axis=0), 16).astype(np.float32)


def test_model_knows_the_encoder() -> None:
    """The model of the tests against the examples seen on real wires (section 3.4)."""
    x = np.array([0, 1, -1, 0.5, -0.5, 0.1, 1.5, -1.5])
    heard_16 = np.array([0, 0x7FFF, -0x7FFF, 0x4000, -0x4000, 0x0CCD, 0x7FFF, -0x7FFF]) / 32768
    heard_8 = np.array([0, 127, -127, 64, -64, 13, 127, -127]) / 128
    assert np.array_equal(returned(x, 16), heard_16)
    assert np.array_equal(returned(x, 8), heard_8)
    # 24 bit: bytes (mid, high, low); full scale is clipped, not wrapped as by old senders.
    tenth = (int.from_bytes(b"\xcc\x0c", "little", signed=True) + 0xCC / 256) / 32768
    heard_24 = returned(np.array([np.float64(np.float32(0.1)), 1.5]), 24)
    assert heard_24.tolist() == [tenth, 1 - 2**-23]


def test_a_perfect_mix_is_explained(heard: Samples, voices: list[Exact]) -> None:
    mixture = explain(heard, voices, 16)
    assert mixture.wrong == 0
    assert mixture.lags == DELAYS


def test_a_recording_that_began_late_is_explained(heard: Samples, voices: list[Exact]) -> None:
    mixture = explain(heard[3000:], voices, 16)
    assert mixture.wrong == 0
    assert mixture.lags == tuple(lag - 3000 for lag in DELAYS)


def test_one_bit_too_much_is_noticed(heard: Samples, voices: list[Exact]) -> None:
    heard[9000] += LSB
    assert explain(heard, voices, 16).wrong == 1


def test_a_voice_too_many_or_too_few_is_noticed(heard: Samples, voices: list[Exact]) -> None:
    stranger = noise(99, FRAMES, LSB, lead=500).in_hub
    assert explain(heard, voices[:2], 16).wrong > FRAMES // 2
    assert explain(heard, [*voices, stranger], 16).wrong > FRAMES // 2


def test_a_gain_that_is_nearly_one_is_noticed(heard: Samples, voices: list[Exact]) -> None:
    assert explain((heard * np.float32(0.9999)), voices, 16).wrong > FRAMES // 2


def test_swapped_packets_are_noticed(heard: Samples, voices: list[Exact]) -> None:
    heard[5000:5256] = np.roll(heard[5000:5256], 128)
    assert explain(heard, voices, 16).wrong > 200


def test_a_slip_is_noticed_but_leaves_exact_windows(heard: Samples, voices: list[Exact]) -> None:
    slipped = np.concatenate((heard[:9000], heard[8872:]))
    windows = [(4000, 8000), (8000, 12_000), (12_000, 16_000)]
    assert explain(slipped, voices, 16).wrong
    assert exact_windows(slipped, voices, 16, windows) == 2


def test_a_gap_is_as_long_as_it_is() -> None:
    matches = np.ones(10_000, np.bool_)
    matches[3000:3500] = False
    matches[3200:3204] = True  # a fade crossed the signal by chance
    assert longest_gap(matches) == 500
    assert longest_gap(np.zeros(100, np.bool_)) == 100
    assert longest_gap(np.ones(100, np.bool_)) == 0


def test_a_signal_is_found_where_it_is() -> None:
    reference = noise(7, 4000, 0.5).in_hub
    for lag in (-1500, 0, 1, 2500):
        assert find_lag(shifted(reference, lag, 8000).astype(np.float32), reference) == lag


def test_a_click_is_rough() -> None:
    tone = sine(100.0, FRAMES, 0.5, 48_000).in_hub
    cut = tone.copy()
    cut[10_080:] = 0
    assert roughness(cut) > 50 * roughness(tone)
    assert snr_db(tone, tone) == float("inf")
