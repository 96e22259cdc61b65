"""Conversion between sample rates: the filters, and what they leave of sounds and add to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers import twins
from tests.workers.test_resample import Floats, endless, resampled
from workers.filters import (
    IMAGES_DB,
    MAX_TAPS,
    PHASES,
    RATES_HZ,
    TAPS,
    Filters,
    choose_filter,
    conversion_table,
    filter_table,
    filters_from,
    filters_into,
    passband_hz,
)

Doubles = npt.NDArray[np.float64]
ONE = 1 << 32
PAIRS = [
    *((rate, 48000) for rate in (22050, 32000, 44100, 88200, 96000, 192000)),
    *((48000, rate) for rate in (22050, 32000, 44100, 88200, 96000, 192000)),
    (96000, 44100),
    (44100, 96000),
]


def filter_of(from_hz: int, to_hz: int) -> tuple[Filters, int, Floats]:
    """A conversion's filter: where it is, and its table."""
    filters = filters_into(to_hz)
    index = int(np.flatnonzero(filters.rates_hz == from_hz)[0])
    return filters, index, table_of(filters, index)


def table_of(filters: Filters, index: int) -> Floats:
    """(PHASES + 1, taps)."""
    taps, first = int(filters.taps[index]), int(filters.starts[index])
    return filters.tables[first : first + (PHASES + 1) * taps].reshape(-1, taps)


def converted(hz: float, from_hz: int, to_hz: int, count: int = 8192) -> Doubles:
    """A sine of amplitude 0.5 that was sampled at one rate, as it is read at another."""
    filters, index, table = filter_of(from_hz, to_hz)
    frames = 1 << (count * from_hz // to_hz + 4 * table.shape[1]).bit_length()
    t = np.arange(frames) / from_hz
    line = np.asarray(0.5 * np.sin(2 * np.pi * hz * t), np.float32)[None]
    step = round((from_hz / to_hz - 1) * ONE)
    heard, *_ = resampled(line, table.shape[1], 0, step, [count], 0, filters, index)
    x: Doubles = heard[0].astype(np.float64)
    return x


def at_rate(hz: float, rate_hz: int, x: Doubles) -> tuple[float, float]:
    """Amplitude of a sine in a sound, and the RMS of all else."""
    angle = 2 * np.pi * hz / rate_hz * np.arange(len(x))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, x, rcond=None)
    return float(np.hypot(*weights)), float(np.sqrt(np.mean((x - basis @ weights) ** 2)))


def db(part: float, whole: float) -> float:
    return float(20 * np.log10(max(part, 1e-12) / whole))


# ---- what a tone gathers, and what it loses


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_what_a_tone_gathers(from_hz: int, to_hz: int) -> None:
    """THD+N: images, aliases and all that is between the tabled phases."""
    edge = passband_hz(min(from_hz, to_hz))
    limits = {100: -115, 997: -105, 0.45 * edge: -105, 0.999 * edge: -IMAGES_DB}
    for hz, limit_db in limits.items():
        amplitude, rest = at_rate(hz, to_hz, converted(hz, from_hz, to_hz))
        assert db(rest * np.sqrt(2), amplitude) < limit_db


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_flat_up_to_the_edge(from_hz: int, to_hz: int) -> None:
    """Within 0.01 dB, up to 20 kHz where the lower of both rates carries that."""
    edge = passband_hz(min(from_hz, to_hz))
    assert edge >= 20_000 or edge > 0.453 * min(from_hz, to_hz)
    for part in (0.001, 0.1, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0):
        amplitude, _ = at_rate(part * edge, to_hz, converted(part * edge, from_hz, to_hz))
        assert abs(db(amplitude, 0.5)) < 0.01


@pytest.mark.parametrize(("from_hz", "to_hz"), [(f, t) for f, t in PAIRS if f > 1.4 * t])
def test_what_would_fold_into_the_passband_is_gone(from_hz: int, to_hz: int) -> None:
    edge = passband_hz(to_hz)
    for hz in np.linspace(to_hz - edge, from_hz / 2, 12):
        heard = converted(hz, from_hz, to_hz)
        assert db(float(np.sqrt(np.mean(heard**2))) * np.sqrt(2), 0.5) < -IMAGES_DB


def test_an_hour_does_not_creep() -> None:
    """The step of 2^-32 is so near the ratio that an hour of 44.1 kHz is right to a tenth."""
    for rate_hz in RATES_HZ:
        step = round((rate_hz / 48000 - 1) * ONE)
        outputs = 3600 * 48000
        position = (outputs * (ONE + step)) / ONE
        assert abs(position - 3600 * rate_hz) < 0.1


# ---- the tables


@settings(max_examples=30)
@given(
    st.sampled_from(PAIRS),
    st.integers(1, 5),
    st.integers(0, 1 << 20),
    st.integers(0, ONE - 1),
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
)
def test_like_twin_however_it_is_cut(
    pair: tuple[int, int], channels: int, frame: int, phase: int, blocks: list[int]
) -> None:
    """On a ring that wraps many times."""
    (filters, index, table), total = filter_of(*pair), sum(blocks)
    line, step = endless(5, channels), round((pair[0] / pair[1] - 1) * ONE)
    heard, *position = resampled(line, frame, phase, step, blocks, 0, filters, index)
    np.testing.assert_allclose(
        heard, twins.resample(line, table, frame, phase, step, total), atol=2e-6
    )
    assert tuple(position) == divmod((frame << 32) + phase + total * (ONE + step), ONE)
    at_once, *_ = resampled(line, frame, phase, step, [total], 0, filters, index)
    np.testing.assert_array_equal(heard, at_once)


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_table(from_hz: int, to_hz: int) -> None:
    table = conversion_table(from_hz, to_hz)
    assert table.shape[1] <= MAX_TAPS
    assert table.shape[1] % 8 == 0
    np.testing.assert_allclose(table[::-1, ::-1], table, atol=1e-7)  # no direction of time
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("hub_hz", [44100, 48000, 96000])
def test_all_filters_of_a_hub(hub_hz: int) -> None:
    into, back = filters_into(hub_hz), filters_from(hub_hz)
    for filters in (into, back):
        assert sorted(filters.rates_hz) == sorted(RATES_HZ)
        assert choose_filter(filters, hub_hz) == 0
        np.testing.assert_array_equal(table_of(filters, 0), filter_table())
        assert filters.taps[0] == TAPS
    for rate in set(RATES_HZ) - {hub_hz}:
        for filters, pair in ((into, (rate, hub_hz)), (back, (hub_hz, rate))):
            index = choose_filter(filters, rate)
            np.testing.assert_array_equal(table_of(filters, index), conversion_table(*pair))


@given(st.floats(8000, 192000), st.sampled_from([44100, 48000, 192000]))
def test_any_rate_has_the_nearest_filter(rate_hz: float, hub_hz: int) -> None:
    filters = filters_into(hub_hz)
    chosen = filters.rates_hz[choose_filter(filters, rate_hz)]
    if rate_hz == hub_hz:
        assert chosen == hub_hz
    else:
        apart = {r: abs(np.log(r / rate_hz)) for r in RATES_HZ if r != hub_hz}
        assert apart[int(chosen)] <= min(apart.values()) + 1e-12
