"""Concealment against its twin, and what must hold of any gap in any sound."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.limits import Underrun
from tests.workers.conceal_twin import Twin
from workers.conceal import (
    BRIDGE_FRAMES,
    FADE_FRAMES,
    OVERSHOOT,
    Concealment,
    fill,
    forget,
    make_concealment,
)

Doubles = npt.NDArray[np.float64]

RATE_HZ = 48000
MASK = 8191
ORIGIN = (1 << 40) + 5000
"""Where gaps begin: the line wraps soon after."""
SILENCE_FRAMES = RATE_HZ * 60 // 1000
METHODS = list(Underrun)
MATERIALS = ("tones", "noise", "silence", "dc", "full scale", "denormal", "impulse", "onset")

methods = st.sampled_from(METHODS)
materials = st.sampled_from(MATERIALS)
seeds = st.integers(0, 10**6)


@pytest.fixture(scope="module", name="work")
def _work() -> Concealment:
    """For two clients; what one test leaves must not matter to the next."""
    return make_concealment(2)


def sound(kind: str, seed: int, channels: int, frames: int) -> Doubles:
    """(channels, frames), as float32 has it."""
    rng, n = np.random.default_rng(seed), np.arange(frames)
    result = np.zeros((channels, frames))
    for row in result:
        match kind:
            case "tones" | "onset":
                row += rng.normal(0, 0.02, frames)
                for _ in range(3):
                    row += rng.uniform(0.1, 0.3) * np.sin(
                        rng.uniform(0.02, 0.8) * n + rng.uniform(0, 6)
                    )
                if kind == "onset":
                    row[: int(rng.integers(frames))] *= 1e-3
            case "noise":
                row += rng.uniform(-1, 1, frames)
            case "dc":
                row += rng.uniform(-1, 1)
            case "full scale":
                row += rng.choice([-8.0, 8.0], frames)
            case "denormal":
                row += rng.choice([-1e-40, 1e-42, 3e-39], frames)
            case "impulse":
                row[int(rng.integers(frames))] = rng.choice([-1.0, 1.0])
    return np.asarray(result.astype(np.float32).astype(np.float64))


@dataclass
class Gap:
    """A gap with sound on both sides, in a line whose every other frame is garbage.

    Attributes:
        before, after: (channels, past) and (channels, future).
        frames: how many are missing.
    """

    before: Doubles
    after: Doubles
    frames: int
    method: Underrun = Underrun.BURG
    packet: int = 128
    max_order: int = 255
    garbage: float = 5.0
    line: npt.NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        channels, past = self.before.shape
        self.line = np.full((channels, MASK + 1), self.garbage, np.float32)
        self.put(ORIGIN - past, self.before)
        self.put(self.end, self.after)

    @property
    def end(self) -> int:
        return ORIGIN + self.frames

    def put(self, position: int, values: Doubles) -> None:
        for i in range(values.shape[1]):
            self.line[:, (position + i) & MASK] = values[:, i]

    def get(self, start: int, end: int) -> Doubles:
        return self.line[:, np.arange(start, end) & MASK].astype(np.float64)

    def call(self, work: Concealment, start: int, until: int, known: bool, k: int = 1) -> int:
        """One call; what it must not write is what it was."""
        old = self.line.copy()
        end = fill(
            int(self.method), self.line, MASK, len(self.line), RATE_HZ, self.before.shape[1],
            ORIGIN, start, until, self.end if known else -1, self.after.shape[1], self.packet,
            self.max_order, work, k,
        )  # fmt: skip
        written = np.arange(start, end) & MASK
        untouched = np.setdiff1d(np.arange(MASK + 1), written)
        np.testing.assert_array_equal(self.line[:, untouched], old[:, untouched])
        return int(end)

    def bridge(self, work: Concealment) -> Doubles:
        """Fill all of it, knowing both sides; from the last frame before to the first after."""
        forget(work, 1)
        self.put(self.end, self.after)  # an extrapolation may lie there
        assert self.call(work, ORIGIN, self.end, known=True) == self.end
        return self.get(ORIGIN - 1, self.end + 1)

    def extrapolate(self, work: Concealment, *until: int) -> Doubles:
        """Fill it, knowing the past only, in calls up to so many frames; with what lies beyond."""
        forget(work, 1)
        start = 0
        for each in until or (self.frames,):
            end = self.call(work, ORIGIN + start, ORIGIN + each, known=False)
            assert end == ORIGIN + each + FADE_FRAMES
            start = each
        return self.get(ORIGIN - 1, ORIGIN + start + FADE_FRAMES)


def around(kind: str, seed: int, channels: int, past: int, frames: int, future: int) -> Gap:
    """A gap in one kind of sound."""
    whole = sound(kind, seed, channels, past + frames + future)
    return Gap(whole[:, :past], whole[:, past + frames :], frames)


@given(
    methods, materials, seeds, st.integers(1, 5), st.integers(0, 1100), st.integers(1, 700),
    st.integers(0, 500), st.sampled_from([16, 64, 128, 1024]),
)  # fmt: skip
def test_any_gap_in_anything(
    work: Concealment,
    method: Underrun,
    kind: str,
    seed: int,
    channels: int,
    past: int,
    frames: int,
    future: int,
    packet: int,
) -> None:
    """Finite, bounded, the same whatever lies around, nothing else written (``Gap.call``)."""
    results = []
    for garbage in (5.0, np.nan):
        gap = around(kind, seed, channels, past, frames, future)
        gap = Gap(gap.before, gap.after, frames, method, packet, garbage=garbage)
        results.append((gap.extrapolate(work)[:, 1:], gap.bridge(work)[:, 1:-1]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    before = np.abs(gap.before).max(initial=0.0)
    after = np.abs(gap.after).max(initial=0.0)
    assert np.abs(results[0][0]).max() <= OVERSHOOT * before * (1 + 1e-6)
    assert np.abs(results[0][1]).max() <= OVERSHOOT * max(before, after) * (1 + 1e-6)


@given(
    methods, st.sampled_from(["tones", "noise", "dc", "silence"]), seeds, st.integers(1, 4),
    st.integers(0, 1100), st.integers(1, 600), st.integers(0, 300), st.sampled_from([16, 64, 200]),
    st.integers(0, 24), st.data(),
)  # fmt: skip
def test_any_gap_is_filled_as_by_the_twin(
    work: Concealment,
    method: Underrun,
    kind: str,
    seed: int,
    channels: int,
    past: int,
    frames: int,
    future: int,
    packet: int,
    order: int,
    data: st.DataObject,
) -> None:
    """Extrapolated up to anywhere, then bridged."""
    whole = around(kind, seed, channels, past, frames, future)
    gap = Gap(whole.before, whole.after, frames, method, packet, order)
    middle = data.draw(st.integers(0, frames - 1))
    twin = Twin(method, RATE_HZ, packet, order, gap.before[:, -1024:])
    forget(work, 1)
    close = 1e-6 if method is not Underrun.BURG else 3e-3
    if middle:
        end = gap.call(work, ORIGIN, ORIGIN + middle, known=False)
        expected = twin.fill(0, 0, middle, None)
        np.testing.assert_allclose(gap.get(ORIGIN, end), expected, atol=close)
        gap.put(gap.end, gap.after)  # what was written beyond lay in its place
    gap.call(work, ORIGIN + middle, gap.end, known=True)
    expected = twin.fill(0, middle, frames, gap.after)
    np.testing.assert_allclose(gap.get(ORIGIN + middle, gap.end), expected, atol=close)


@given(methods, materials, seeds, st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_many_calls_equal_one(
    work: Concealment, method: Underrun, kind: str, seed: int, steps: list[int]
) -> None:
    until = np.cumsum(steps).tolist()
    whole = around(kind, seed, 2, 1024, until[-1], 0)
    at_once = Gap(whole.before, whole.after, until[-1], method).extrapolate(work)
    in_steps = Gap(whole.before, whole.after, until[-1], method).extrapolate(work, *until)
    np.testing.assert_array_equal(in_steps, at_once)


@given(methods, materials, seeds, st.floats(-1, 1), st.integers(8, 1024), st.integers(1, 500))
def test_a_stereo_image_stays(
    work: Concealment, method: Underrun, kind: str, seed: int, pan: float, past: int, frames: int
) -> None:
    whole = around(kind, seed, 1, past, frames, 256)
    both = np.array([[1.0], [pan]])
    gap = Gap(whole.before * both, whole.after * both, frames, method)
    for filled in (gap.extrapolate(work), gap.bridge(work)):
        tolerance = 1e-4 * np.abs(filled[0]).max() + 1e-9
        np.testing.assert_allclose(filled[1], pan * filled[0], atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["tones", "noise", "dc", "silence"])
@pytest.mark.parametrize("frames", [1, 16, 128, 700])
def test_seams_are_no_steeper_than_the_sound(
    work: Concealment, method: Underrun, kind: str, frames: int
) -> None:
    """No step where a gap begins, ends, or inside; by twentieths a cross-fade may add."""
    for seed in range(8):
        whole = around(kind, seed, 2, 1024, frames, 256)
        gap = Gap(whole.before, whole.after, frames, method)
        own = max(np.abs(np.diff(side)).max() for side in (gap.before, gap.after))
        own *= 1.25 if kind == "noise" else 1.0  # noise that is foreseen is no longer uniform
        own += 0.05 * np.abs(gap.before).max()
        extrapolated = np.abs(np.diff(gap.extrapolate(work))).max()
        assert extrapolated <= own
        assert np.abs(np.diff(gap.bridge(work))).max() <= own


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["tones", "dc"])
def test_long_gaps_fall_silent(work: Concealment, method: Underrun, kind: str) -> None:
    """Within 60 ms, and with no jump before."""
    gap = around(kind, 1, 2, 1024, 4000, 0)
    gap.method = method
    filled = gap.extrapolate(work, 1000, 2000, 4000)[:, 1:]
    assert not filled[:, SILENCE_FRAMES:].any()
    last = np.abs(filled[:, SILENCE_FRAMES - 240 : SILENCE_FRAMES]).max()
    assert last < 0.06 * np.abs(gap.before).max()


@pytest.mark.parametrize("kind", ["tones", "noise", "impulse"])
def test_what_ended_before_a_gap_does_not_begin_again_in_it(work: Concealment, kind: str) -> None:
    """A short sound, 17 ms of digital silence, and then nothing comes."""
    gap = around(kind, 1, 2, 1024, 3000, 0)
    gap.before[:, -800:] = 0.0
    gap.put(ORIGIN - 1024, gap.before)
    assert np.abs(gap.extrapolate(work)).max() <= 1e-4 * np.abs(gap.before).max()


def test_a_gap_too_long_to_bridge_waits(work: Concealment) -> None:
    """What lies between may still come: only what is due is concealed, and what fits beyond."""
    gap = around("tones", 3, 2, 1024, BRIDGE_FRAMES + 300, 256)
    forget(work, 1)
    assert gap.call(work, ORIGIN, ORIGIN + 128, known=True) == ORIGIN + 128 + FADE_FRAMES
    assert gap.call(work, ORIGIN + 128, ORIGIN + 256, known=True) == ORIGIN + 256 + FADE_FRAMES
    assert gap.call(work, ORIGIN + 300, ORIGIN + 384, known=True) == gap.end


def test_a_bridge_over_long_silence_ends_in_what_follows(work: Concealment) -> None:
    """All of it is due at once: silence in the middle, no step at its end."""
    gap = around("tones", 3, 2, 1024, 5000, 512)
    filled = gap.bridge(work)[:, 1:]
    assert not filled[:, SILENCE_FRAMES : 5000 - BRIDGE_FRAMES].any()
    assert np.abs(np.diff(filled)).max() <= np.abs(np.diff(gap.after)).max() * 1.05


def test_clients_share_nothing(work: Concealment) -> None:
    """Calls for one client in the midst of another's gap change nothing of it."""
    one, other = around("tones", 1, 2, 1024, 600, 0), around("noise", 2, 2, 1024, 600, 200)
    alone = one.extrapolate(work, 200, 600)
    forget(work, 0)
    forget(work, 1)
    one.call(work, ORIGIN, ORIGIN + 200, known=False, k=1)
    other.call(work, ORIGIN, ORIGIN + 600, known=True, k=0)
    one.call(work, ORIGIN + 200, ORIGIN + 600, known=False, k=1)
    np.testing.assert_array_equal(one.get(ORIGIN - 1, ORIGIN + 600 + FADE_FRAMES), alone)


def test_forgotten_is_a_new_gap_at_the_same_place(work: Concealment) -> None:
    first, second = around("tones", 1, 2, 1024, 300, 0), around("tones", 9, 2, 1024, 300, 0)
    alone = second.extrapolate(work)
    first.extrapolate(work)
    np.testing.assert_array_equal(second.extrapolate(work), alone)


@pytest.mark.parametrize(
    ("method", "extrapolated_db", "bridged_db"),
    [(Underrun.ZERO, -8, -8), (Underrun.WAVETABLE, -8, -8), (Underrun.BURG, 40, 52)],
)
def test_how_well_a_chord_is_concealed(
    work: Concealment, method: Underrun, extrapolated_db: float, bridged_db: float
) -> None:
    """A packet of 128 frames out of four steady tones 60 dB above noise: SNR over the gap."""
    n = np.arange(1024 + 128 + 384)
    chord = sum(0.2 * np.sin(2 * np.pi * f * n / RATE_HZ) for f in (196, 247, 294, 988))
    chord = (chord + np.random.default_rng(1).normal(0, 1e-4, len(n)))[None]
    gap = Gap(chord[:, :1024], chord[:, 1152:], 128, method)
    for filled, wanted in (
        (gap.extrapolate(work), extrapolated_db),
        (gap.bridge(work), bridged_db),
    ):
        wrong = filled[:, 1:129] - chord[:, 1024:1152]
        assert 10 * np.log10(np.mean(chord[:, 1024:1152] ** 2) / np.mean(wrong**2)) > wanted


def test_all_channels_at_the_highest_order(work: Concealment) -> None:
    """16 channels share the order there is time for, and come out like any."""
    gap = around("tones", 5, 16, 1024, 1024, 384)
    filled = gap.bridge(work)
    assert np.abs(filled[:, 1:-1]).max(axis=1).min() > 0.05
    pair = Gap(gap.before[:2], gap.after[:2], 1024, max_order=64).bridge(work)
    np.testing.assert_array_equal(filled[:2], pair)
