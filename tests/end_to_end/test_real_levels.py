"""Places between left and right, a downmix, guard and limiter, heard by real clients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    TAIL_FRAMES,
    Take,
    assert_hears,
    assert_silent,
    undisturbed,
)
from tests.end_to_end.peers import RATE_HZ
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import (
    Exact,
    Samples,
    correlation,
    find_lag,
    noise,
    roughness,
    shifted,
    sine,
)
from tests.end_to_end.stage import Stage


@own_hub_only
def test_a_mono_client_on_the_right_and_both_sides_for_a_mono_listener(stage: Stage) -> None:
    """Bit by bit: the limiter is on, and leaves alone what is below its threshold."""
    hub = stage.hub(2, options=["--downmix", "-6"])
    mono, stereo = stage.client(hub, "mono", 1, 1), stage.client(hub, "stereo", 2, 2)
    clients = stage.everybody_in(hub)
    hub.tell("pan", "0", "right")
    hub.tell("limiter", "on")
    hub.tell("guard", "1")
    voices = {
        (client.name, channel): noise(seed, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)
        for seed, (client, channel) in enumerate([(mono, 1), (stereo, 1), (stereo, 2)])
    }

    def judge(take: Take) -> None:
        assert_silent(take, stereo, 1)
        assert_hears(take, stereo, 2, [voices["mono", 1].in_hub])
        halves = [voices["stereo", side].in_hub / 2 for side in (1, 2)]
        assert_hears(take, mono, 1, halves)

    undisturbed(lambda: stage.record(hub, voices, clients), judge)
    state = hub.status()
    assert (state["hub"]["limiter"], state["hub"]["downmix_db"]) == (True, -6.02)
    assert [client["pan"] for client in state["clients"]] == [100.0, None]


_TONE_S = 5.0
_CHOIR_S = 4.1
"""When the choir comes in: the guard has noticed the tone after three seconds, and glided."""
_WINDOW = 2_400
_FULL_SCALE = 32767 / 32768


def seconds(first_s: float, last_s: float) -> range:
    """Where windows of a recording begin, in seconds of the music."""
    first, last = (LEAD_FRAMES + int(at * RATE_HZ) for at in (first_s, last_s))
    return range(first, last - _WINDOW + 1, _WINDOW)


def gains_in(heard: Samples, voices: list[Exact], first: int, last: int) -> tuple[Exact, float]:
    """With what gain each voice is heard in a part of a recording, and how alike their sum is."""
    lags = [find_lag(heard, voice, first, last) for voice in voices]
    parts = [
        shifted(voice, lag, len(heard))[first:last] for voice, lag in zip(voices, lags, strict=True)
    ]
    part = heard[first:last].astype(np.float64)
    gains: Exact = np.linalg.lstsq(np.stack(parts, axis=1), part, rcond=None)[0].astype(float)
    return gains, correlation(part, np.sum(parts, axis=0))


@own_hub_only
def test_a_stuck_tone_is_turned_down_and_a_full_mix_does_not_clip(stage: Stage) -> None:
    """One take: the siren alone, at first; then three who sing louder than the mix has room."""
    hub = stage.hub(4, options=["--guard", "limit", "--limiter", "on"])
    stage.client(hub, "siren", remote_name="siren")
    choir = [stage.client(hub, name, remote_name=name) for name in ("anna", "berta", "carla")]
    clients = stage.everybody_in(hub)
    begins, ends = (LEAD_FRAMES + int(at * RATE_HZ) for at in (_CHOIR_S, _TONE_S))
    voices = {
        (client.name, 1): noise(seed, ends - begins, 0.6, lead=begins)
        for seed, client in enumerate(choir)
    }
    sung = [voice.in_hub for voice in voices.values()]
    voices["siren", 1] = sine(997.0, int(_TONE_S * RATE_HZ), 0.5, RATE_HZ, lead=LEAD_FRAMES)

    found: list[str] = []

    def guard() -> str:
        return str(hub.client("siren")["safety"]["guard"])

    def take() -> Take:
        wait_until(lambda: guard() == "quiet", 10.0, "the guard is at rest")
        taken = stage.record(hub, voices, clients, frames=ends + TAIL_FRAMES)
        found.append(guard())
        return taken

    def judge(take: Take) -> None:
        assert found[-1] == "tone"
        heard = take.at(choir[0], 1)

        def amplitude(first_s: float, last_s: float) -> float:
            """Of the tone, in most windows."""
            parts = [heard[at : at + _WINDOW] for at in seconds(first_s, last_s)]
            return float(np.median([np.sqrt(2 * np.mean(part**2)) for part in parts]))

        assert amplitude(0.3, 2.9) == pytest.approx(0.5, rel=0.002)
        assert amplitude(3.5, 4.1) == pytest.approx(0.05, rel=0.02)
        curvature = 0.5 * (2 * np.pi * 997 / RATE_HZ) ** 2  # of the tone itself
        smooth = [
            roughness(heard[at : at + _WINDOW]) < 1.1 * curvature for at in seconds(0.3, _CHOIR_S)
        ]
        assert np.mean(smooth) >= (0.75 if take.disturbed else 1.0)

        loud = range(begins + 2 * _WINDOW, ends - 3 * _WINDOW, 3 * _WINDOW)
        good = []
        for at in loud:
            part = heard[at : at + 3 * _WINDOW]
            assert np.abs(part).max() < 0.995 * _FULL_SCALE  # not even when it was disturbed
            gains, alike = gains_in(heard, sung, at, at + 3 * _WINDOW)
            limited = np.abs(part).max() > 10 ** (-1 / 20) and 0.5 < gains.mean() < 0.95
            good.append(limited and np.ptp(gains) < 0.03 and alike > 0.97)
        assert any(good) if take.disturbed else all(good)

    undisturbed(take, judge)
    sent = [client["sent"] for client in hub.clients()]
    assert [(s["clipped"], s["limited_frames"] > 9600) for s in sent] == [(0, True)] * 4
