"""Constant offsets: what is one, and how gently it goes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.workers.streams import Format, plain, samples_of, take
from workers import offset

Doubles = npt.NDArray[np.float64]
FMT = Format(frames=256, period=256, bits=24, channels=2)
SECOND = 48000


def sounding(index: npt.NDArray[np.int64], channel: int) -> Doubles:
    """Noise of −20 dBFS, the same for both channels, of no offset."""
    mixed = (index * 2654435761 >> 9) % 2003 - 1001
    return mixed / 10010.0


def heard_of(signal: object, seconds: float) -> tuple[Doubles, Doubles, dict[str, object]]:
    """(what came out, what went in): (channels, frames) float64, and the record."""
    packets = int(seconds * SECOND / FMT.frames)
    taken = take(FMT, signal, plain(FMT, packets))  # type: ignore[arg-type]
    base, frames = int(taken.trace[0, 1]), packets * FMT.frames
    sent = np.concatenate(
        [samples_of(FMT, signal, k * FMT.frames) for k in range(packets)],  # type: ignore[arg-type]
        axis=1,
    )
    return taken.heard[:, base : base + frames].astype(float), sent.astype(float), taken.rx


def test_an_offset_is_glided_away_in_its_own_channel_only() -> None:
    def signal(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        return sounding(index, channel) + (0.25 if channel else 0.0)

    heard, sent, rx = heard_of(signal, 5.0)

    assert rx["offsets"] == 1
    np.testing.assert_array_equal(heard[0, 256:], sent[0, 256:])
    np.testing.assert_array_equal(heard[1, 256 : 2 * SECOND], sent[1, 256 : 2 * SECOND])
    gone = heard[1, int(3.5 * SECOND) :]
    assert abs(gone.mean()) < 1e-3
    assert np.std(gone) == pytest.approx(np.std(sent[1]), rel=0.01)
    taken_out = sent[1] - heard[1]
    assert np.abs(np.diff(taken_out[256:])).max() < 1e-3  # no step, no click


@pytest.mark.parametrize("level", [0.0, 0.017])
def test_little_or_no_offset_passes_bit_by_bit(level: float) -> None:
    heard, sent, rx = heard_of(lambda index, channel: sounding(index, channel) + level, 3.5)
    np.testing.assert_array_equal(heard[:, 256:], sent[:, 256:])
    assert rx["offsets"] == 0


@pytest.mark.parametrize("frequency_hz", [8.2, 10.25, 20.5, 27.5])
def test_the_lowest_tones_at_full_scale_are_no_offset(frequency_hz: float) -> None:
    def tone(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        found: Doubles = 0.999 * np.sin(2 * np.pi * frequency_hz / SECOND * index + 1.5 * channel)
        return found

    heard, sent, rx = heard_of(tone, 6.0)
    np.testing.assert_array_equal(heard[:, 256:], sent[:, 256:])
    assert rx["offsets"] == 0


def test_low_tones_pass_the_filter() -> None:
    """−0.1 dB at 20 Hz: the hum of a double bass stays."""

    def signal(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        found: Doubles = 0.5 * np.sin(2 * np.pi * 20 / SECOND * index) + 0.2
        return found

    heard, sent, _ = heard_of(signal, 6.0)
    tail = slice(5 * SECOND, 5 * SECOND + SECOND // 2)
    assert np.std(heard[0, tail]) / np.std(sent[0, tail]) == pytest.approx(1, abs=0.015)


def test_who_stops_sending_it_is_let_alone_again() -> None:
    """Ten seconds without, one to fade, and every sample passes as it is."""
    second = offset.CALM_S + 6

    def signal(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        return sounding(index, channel) + 0.3 * (index < 4 * SECOND)

    heard, sent, rx = heard_of(signal, second + 1.5)
    assert rx["offsets"] == 0
    after = slice(int((second + 0.5) * SECOND), None)
    np.testing.assert_array_equal(heard[:, after], sent[:, after])


def test_silence_after_an_offset_holds_no_denormals() -> None:
    def signal(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        return np.where(index < 4 * SECOND, 0.3, 0.0)

    heard, _, _ = heard_of(signal, 8.0)
    rest = heard[:, int(7.5 * SECOND) :]
    assert np.all((rest == 0) | (np.abs(rest) > 1.2e-38))
    assert np.abs(rest).max() < 1e-6
