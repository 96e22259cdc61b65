"""Burg's method against the textbook, and against sound whose model is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers import conceal_twin as twin
from workers.burg import MAX_ORDER, fit, predict

Doubles = npt.NDArray[np.float64]
RATE_HZ = 48000


def model_of(rows: list[Doubles], *orders: int) -> tuple[Doubles, int]:
    """Fit, order by order as given; (coefficients a_1.., order reached)."""
    size = max(len(row) for row in rows)
    ahead = np.full((len(rows), size), 9, np.float32)
    for lattice_row, row in zip(ahead, rows, strict=True):
        lattice_row[: len(row)] = row
    behind, model, reached = ahead.copy(), np.zeros((2, MAX_ORDER)), 0
    lengths = np.array([len(row) for row in rows])
    for order in orders:
        reached = fit(ahead, behind, lengths, len(rows), reached, order, model)
    np.testing.assert_array_equal(model[0, :reached], model[1, ::-1][:reached])
    assert not model[0, reached:].any()
    return model[0, :reached].copy(), reached


def coloured(rng: np.random.Generator, frames: int, peak: float = 1.0) -> Doubles:
    """Tones in noise."""
    n = np.arange(frames)
    sound = rng.normal(0, 0.1, frames)
    for _ in range(3):
        sound += rng.uniform(0.2, 1) * np.sin(rng.uniform(0.02, 2.5) * n + rng.uniform(0, 6))
    return np.asarray(sound * peak / np.abs(sound).max())


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 48), st.data())
def test_any_rows_give_the_textbooks_model(
    seed: int, count: int, order: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    rows = [coloured(rng, int(rng.integers(1, 400)), rng.uniform(0.1, 1)) for _ in range(count)]
    rows[0] = coloured(rng, 2 * order + 60)
    part = data.draw(st.integers(0, order))

    a, reached = model_of(rows, part, order)

    whole, _ = model_of(rows, order)
    np.testing.assert_array_equal(a, whole)
    assert reached == order
    expected = twin.burg(rows, order)
    np.testing.assert_allclose(a, expected, atol=2e-3 * np.abs(expected).max())


def test_a_resonance_is_found() -> None:
    """An autoregression of order 2 is measured to 1 %."""
    radius, angle = 0.98, 0.3
    a = np.array([-2 * radius * np.cos(angle), radius**2])
    rng, sound = np.random.default_rng(4), [0.0, 0.0]
    for _ in range(20000):
        sound.append(float(rng.normal() - a[0] * sound[-1] - a[1] * sound[-2]))
    row = np.array(sound) / np.abs(sound).max()

    found, _ = model_of([row], 2)

    np.testing.assert_allclose(found, a, rtol=0.01)


@given(st.integers(0, 10**6), st.sampled_from([1, 7, 64]), st.sampled_from(["tones", "edge", "dc"]))
def test_poles_never_leave_the_unit_circle(seed: int, order: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    row = coloured(rng, 300)
    if kind == "edge":
        row = np.where(np.arange(300) < 290, 0.0, rng.choice([-1.0, 1.0], 300))
    if kind == "dc":
        row = np.ones(300) - rng.uniform(0, 1e-4, 300)

    a, _ = model_of([row], order)

    assert np.abs(np.roots([1.0, *a])).max() < 1 + 1e-9


def test_silence_has_no_model() -> None:
    assert model_of([np.zeros(200)], 50)[1] == 0


def test_what_is_predicted_exactly_ends_the_search() -> None:
    """A constant leaves no error; orders in the hundreds are not made of rounding."""
    a, reached = model_of([np.full(1024, 0.5)], 255)
    assert reached < 255
    assert a.sum() == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("order", [64, 255])
def test_a_chord_goes_on(order: int) -> None:
    """Three tones over noise at −80 dB: 128 frames on, what is predicted is right to −40 dB."""
    n = np.arange(1152)
    tones = [(220.0, 0.3), (277.2, 0.3), (1318.5, 0.2)]
    chord = np.sum([level * np.sin(2 * np.pi * f * n / RATE_HZ) for f, level in tones], axis=0)
    sound = chord + np.random.default_rng(1).normal(0, 1e-4, len(n))
    model = np.zeros((2, MAX_ORDER))
    ahead = sound[None, :1024].astype(np.float32)
    reached = fit(ahead, ahead.copy(), np.array([1024]), 1, 0, order, model)
    row = np.where(n < 1024, sound, 99.0)

    predict(model, reached, 2.0, np.zeros(0, np.float32), 1.0, row, 1024, 1024, 1152)

    wrong = np.sqrt(np.mean((row - chord)[1024:] ** 2) / np.mean(chord[1024:] ** 2))
    assert wrong < (0.01 if order == 255 else 0.2)


@given(
    st.integers(0, 10**6), st.integers(1, 40), st.floats(0.01, 3), st.integers(0, 15),
    st.integers(0, 10),
)  # fmt: skip
def test_prediction_is_the_twins_and_bounded(
    seed: int, order: int, limit: float, period: int, gone: int
) -> None:
    rng = np.random.default_rng(seed)
    history, model = rng.uniform(-1, 1, 60), np.zeros((2, MAX_ORDER))
    drive = rng.normal(0, 0.1, period).astype(np.float32)
    a = rng.normal(0, 0.3, order)  # many are unstable
    model[1, MAX_ORDER - order :] = a[::-1]
    row = np.concatenate([history, np.full(50, 99.0)])

    predict(model, order, limit, drive, 0.5, row, 60, 60, 60 + gone)  # in two steps
    predict(model, order, limit, drive, 0.5, row, 60, 60 + gone, 100)

    expected = twin.predict(history, a, 0.5 * drive.astype(np.float64), 20, limit)
    np.testing.assert_allclose(row[60:80], expected, atol=1e-6)
    np.testing.assert_array_equal(row[:60], history)
    assert np.all(row[100:] == 99)
    assert np.all(np.abs(row[60:100]) <= limit)
