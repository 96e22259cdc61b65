"""The guard's rule: noise and stuck tones are noticed, music and speech are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shared.limits import GuardMode
from tests.workers.arenas import arena_of, sending
from workers import guard
from workers.guard import NOISE, QUIET, TONE

Doubles = npt.NDArray[np.float64]
RATE, FRAMES = 48000, 240
PER_WINDOW = 20
Course = list[tuple[int, float]]
"""By tenth of a second: what is noticed, and what is taken off."""


def judged(
    signal: Doubles, mode: GuardMode = GuardMode.LIMIT, *, released_after_s: float = 1e9
) -> Course:
    """Play (channels, frames) to the guard, as the receiver's meters hand it on."""
    course: Course = []
    signal = np.atleast_2d(signal)
    with arena_of() as arena:
        header, order, rx = arena.header[0], arena.slots[0], arena.rx[0]
        header["level_guard"] = mode
        sending(arena, FRAMES)
        rx["channels"], rx["session"] = len(signal), 7
        for at in range(0, signal.shape[1] - FRAMES * PER_WINDOW + 1, FRAMES * PER_WINDOW):
            window = signal[:, at : at + FRAMES * PER_WINDOW]
            if at >= released_after_s * RATE:
                order["guard_released"] = 7
            for _ in range(PER_WINDOW):
                guard.obey(order, rx)
                guard.glide(header, rx)
            rx["window_frames"] = window.shape[1]
            rx["channel_sums"][: len(window)] = window.sum(axis=1)
            rx["channel_squares"][: len(window)] = np.sum(window**2, axis=1)
            rx["channel_peaks"][: len(window)] = np.abs(window).max(axis=1)
            guard.observe(header, rx)
            course.append((int(rx["guard"]), float(rx["cut"])))
    return course


def seconds(count: float) -> Doubles:
    return np.arange(int(count * RATE)) / RATE


def noise(count: float, level: float = 1.0) -> Doubles:
    return np.random.default_rng(1).uniform(-level, level, int(count * RATE))


def tone(count: float, level: float = 0.9, frequency_hz: float = 997.0) -> Doubles:
    found: Doubles = level * np.sin(2 * np.pi * frequency_hz * seconds(count))
    return found


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (noise, NOISE),
        (tone, TONE),
        (lambda s: tone(s, 0.36), TONE),
        (lambda s: np.sign(tone(s)), TONE),
        (lambda s: tone(s, 0.9, 60), TONE),
        (lambda s: np.stack([np.zeros(int(s * RATE)), noise(s)]), NOISE),
    ],
    ids=["noise", "sine", "softer sine", "square", "hum", "one channel of two"],
)
def test_noticed_after_three_seconds(sent: Callable[[float], Doubles], kind: int) -> None:
    course = judged(sent(4.0))
    assert [state for state, _ in course] == [QUIET] * 29 + [kind] * 11


def music(seed: int = 2) -> Doubles:
    """Notes of plucked strings, each with its decay, peaking at full scale: 6 s."""
    rng, out = np.random.default_rng(seed), np.zeros(6 * RATE)
    for _ in range(40):
        at, f = rng.integers(0, 5 * RATE), rng.uniform(80, 800)
        t = seconds(1.0)
        note = sum(np.sin(2 * np.pi * k * f * t) / k for k in range(1, 8)) * np.exp(-4 * t)
        out[at : at + RATE] += note
    found: Doubles = out / np.abs(out).max()
    return found


def vibrato() -> Doubles:
    """A flute: nearly a sine, near full scale, its level breathing by 2 dB."""
    t = seconds(6.0)
    swell = 10 ** (np.sin(2 * np.pi * 0.7 * t) / 20)
    out: Doubles = 0.7 * swell * np.sin(2 * np.pi * 600 * t + 3 * np.sin(2 * np.pi * 5 * t))
    return out


@pytest.mark.parametrize(
    "sent",
    [
        music(),
        vibrato(),
        noise(6.0, 0.3),
        tone(6.0, 0.3),
        np.concatenate([noise(2.9), noise(0.2, 0.1), noise(2.9)]),
        tone(6.0, 0.05) + 0.9,
    ],
    ids=["plucked strings", "flute", "soft noise", "soft tone", "interrupted noise", "offset"],
)
def test_left_alone(sent: Doubles) -> None:
    assert {state for state, _ in judged(sent)} == {QUIET}


@pytest.mark.parametrize(
    ("mode", "cut"),
    [(GuardMode.OFF, 0), (GuardMode.WATCH, 0), (GuardMode.LIMIT, 0.9), (GuardMode.MUTE, 1)],
)
def test_what_is_done_by_mode(mode: GuardMode, cut: float) -> None:
    """Lowered within a quarter of a second and not at once; back when it behaves."""
    course = judged(np.concatenate([noise(4.0), noise(4.0, 0.1)]), mode)
    noticed = mode is not GuardMode.OFF
    assert any(state for state, _ in course) == noticed
    assert course[34][1] == cut
    if cut:
        assert 0 < course[30][1] < cut
    assert course[58][1] == cut  # two seconds of good conduct
    assert course[-1] == (QUIET, 0.0)


def test_who_is_released_is_let_alone() -> None:
    course = judged(noise(9.0), GuardMode.MUTE, released_after_s=5.0)
    assert course[45] == (NOISE, 1.0)
    assert {state for state, _ in course[50:]} == {QUIET}
    assert course[-1][1] == 0.0
