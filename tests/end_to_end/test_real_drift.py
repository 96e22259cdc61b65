"""Real clients whose clocks are off: no slip, no click, and their sound at its true pitch.

JACK's dummy driver may run at any rate: at 48010 Hz a client presents its packets as 48 kHz and
sends ten frames a second too many, 208 ppm. The hub's own clock is the reference, and that of
the listener's `jackd` is the same one.

One more client only listens, at a clock so slow that its buffer would run over every six seconds:
what the hub returns comes at its rate (`--match-clients`, on unless told otherwise).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.end_to_end.hubs import Hub, own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, TAIL_FRAMES, Take, undisturbed
from tests.end_to_end.peers import RATE_HZ, JackTripClient
from tests.end_to_end.processes import NotInTime, wait_until
from tests.end_to_end.sound import Samples, sine
from tests.end_to_end.stage import Stage

pytestmark = pytest.mark.undivided

_RATES_HZ = {"fast": 48_010, "slow": 47_990}
_PERIOD = 512
"""Of all but the laggard: four cards at shorter ones lose cycles, and time, on two cores."""
_LAGGARD_HZ = 47_957
"""−896 ppm: JackTrip calls that 48 kHz, too."""
_LAGGARD_PERIOD = 256
_KNOWN_PPM = 20.0
"""What returns is at a client's rate once that is known so well."""
_TONES_HZ = {"fast": 997.0, "slow": 1499.0}
_LEVEL = 0.3
_MUSIC_FRAMES = 10 * RATE_HZ
_FRAMES = LEAD_FRAMES + _MUSIC_FRAMES + TAIL_FRAMES
_WINDOW = RATE_HZ // 4
_EDGE_FRAMES = 9_600
"""Of the music, before the first window and after the last: more than any delay."""
_RESIDUE_DB = -55.0
"""Of any window: a frame too many makes −20, a change of pitch by 5 ppm in its middle −60."""
_USUAL_DB = -74.0
"""Of most: 16 bits of everybody's make −80."""
PITCH_PPM = 30.0
"""While the last frames of an error of delay are worn off; 208 if nothing is done."""
_GLIDE_PPM = 500.0
"""While a delay glides: what had drifted before the clocks were known."""
_FITS = 3
_LOCK_S = 90.0
_TROUBLE = ("underruns", "overflows", "restarts", "lost", "late")


@dataclass(frozen=True, slots=True)
class Tones:
    """A part of a recording as a sum of sines.

    Attributes:
        ratios: frequencies, relative to those expected, less 1.
        residue_db: what is left, relative to the weakest sine.
    """

    ratios: NDArray[np.float64]
    residue_db: float


def fit(part: NDArray[np.floating], frequencies: NDArray[np.float64]) -> Tones:
    """Least squares for sines of nearly these frequencies, in radians a frame.

    Each is cos and sin of the frequency, and both times t: the latter two are how phase and
    level wander, to first order (Taylor's of the phase in t). The frequencies are corrected by
    that, and the fit is made again.
    """
    t = np.arange(len(part)) - len(part) / 2
    found = frequencies.copy()
    for _ in range(_FITS):
        columns = [np.ones(len(part))]
        for frequency in found:
            cos, sin = np.cos(frequency * t), np.sin(frequency * t)
            columns += [cos, sin, t * cos, t * sin]
        matrix = np.stack(columns, axis=1)
        solution = np.linalg.lstsq(matrix, part.astype(np.float64), rcond=None)[0]
        a, b, c, d = solution[1:].reshape(-1, 4).T
        found = found + (b * c - a * d) / (a**2 + b**2)
    power = (a**2 + b**2) / 2
    rest = float(np.mean((part - matrix @ solution) ** 2))
    return Tones(found / frequencies - 1, 10 * float(np.log10(rest / float(power.min()))))


def windows_of(heard: Samples, frequencies: NDArray[np.float64]) -> list[Tones]:
    """Every quarter of a second of the music."""
    first = LEAD_FRAMES + _EDGE_FRAMES
    last = LEAD_FRAMES + _MUSIC_FRAMES - _EDGE_FRAMES
    return [
        fit(heard[start : start + _WINDOW], frequencies)
        for start in range(first, last - _WINDOW + 1, _WINDOW)
    ]


def troubles(hub: Hub) -> dict[str, int]:
    """What the hub has counted that a clock could be the cause of, by client and counter."""
    return {
        f"{client['name']}: {name}": int(client["received"][name])
        for client in hub.clients()
        for name in _TROUBLE
        if client["name"] in _RATES_HZ
    }


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    return [f"{name} +{after[name] - before[name]}" for name in after if after[name] > before[name]]


def clicking(windows: list[Tones]) -> list[int]:
    """Windows that are no pure tones, and in which no glide of the delay begins or ends."""
    return [
        number
        for number, (before, here, after) in enumerate(
            zip(windows[:1] + windows[:-1], windows, windows[1:] + windows[-1:], strict=True)
        )
        if here.residue_db > _RESIDUE_DB
        and np.abs(after.ratios - before.ratios).max() * 1e6 < _GLIDE_PPM / 2
    ]


def at_its_pitch(tones: Tones) -> bool:
    """Whether each is heard as it is played, by the true clock; a glide of the delay aside."""
    off_ppm = np.abs(tones.ratios) * 1e6
    return bool((np.minimum(off_ppm, np.abs(off_ppm - _GLIDE_PPM)) <= PITCH_PPM).all())


def excuses(take: Take) -> list[str]:
    """Clicks that no clock is to blame for: JACK, the hub or the listener's client was late.

    What the players' own clients count is of the way back, and excuses nothing on the way here.
    """
    if not take.disturbed:
        return []
    return [
        reason
        for reason in take.disturbances
        if "xrun" in reason
        or "lost by JACK" in reason
        or "tick" in reason
        or reason.startswith("listener: ")
    ]


def known(hub: Hub, name: str, error_ppm: float = _KNOWN_PPM) -> bool:
    """Whether a client is resampled, and its clock known so well."""
    clock = hub.client(name)["clock"]
    return bool(clock["resampling"]) and (clock["error_ppm"] or np.inf) < error_ppm


def slips(client: JackTripClient) -> int:
    """Slots of its buffer that were empty when due, or thrown away, by its last report."""
    report = client.statistics()[-1]
    return report["receive_underruns"] + report["receive_overflows"]


def test_one_frame_too_many_is_no_pure_tone() -> None:
    expected = 2 * np.pi * np.array([997.0, 1499.0]) / RATE_HZ
    played = expected * (1 + 300e-6)
    t = np.arange(_WINDOW + 1)
    sound = _LEVEL * np.cos(played[:, None] * t + 1).sum(axis=0)

    pure = fit(sound[:-1], expected)
    slipped = fit(np.delete(sound, _WINDOW // 3), expected)

    assert pure.residue_db < -90
    assert np.abs(pure.ratios * 1e6 - 300).max() < 0.1
    assert slipped.residue_db > -30


@own_hub_only
def test_clocks_that_are_off_make_neither_slips_nor_clicks(stage: Stage) -> None:
    hub = stage.hub(2, follows_clocks=True)
    players = [
        stage.client(hub, name, jack=stage.odd_jack(rate, _PERIOD), remote_name=name)
        for name, rate in _RATES_HZ.items()
    ]
    laggard = stage.client(
        hub, "laggard", jack=stage.odd_jack(_LAGGARD_HZ, _LAGGARD_PERIOD), remote_name="laggard"
    )
    listener = stage.client(hub, "listener", period=_PERIOD, remote_name="listener")
    stage.everybody_in(hub)
    followed = (*_RATES_HZ, "laggard")
    wait_until(
        lambda: all(hub.client(name)["clock"]["resampling"] for name in followed),
        _LOCK_S,
        "the hub follows all clocks",
        poll_s=0.2,
    )
    with contextlib.suppress(NotInTime):  # where JACK's cards lose time again and again
        wait_until(lambda: all(known(hub, name) for name in followed), 20.0, "their clocks")
    voices = {
        (name, 1): sine(tone, _MUSIC_FRAMES, _LEVEL, RATE_HZ, lead=LEAD_FRAMES)
        for name, tone in _TONES_HZ.items()
    }
    # A frame of a client is a 48010th of a second; the listener hears it as that.
    frequencies = np.array(
        [2 * np.pi * tone / RATE_HZ * _RATES_HZ[name] / RATE_HZ for name, tone in _TONES_HZ.items()]
    )
    grew: list[str] = []
    lagged = 0
    slipping: list[bool] = []

    def take() -> Take:
        nonlocal lagged
        before = troubles(hub)
        slipped, xruns = slips(laggard), laggard.server.disturbances()
        taken = stage.record(hub, voices, [*players, listener], frames=_FRAMES)
        grew[:] = grown(before, troubles(hub))
        lagged = slips(laggard) - slipped
        if late := laggard.server.disturbances() - xruns:
            taken.disturbances.append(f"laggard: its JACK was late {late} times")
        return taken

    def judge(take: Take) -> None:
        windows = windows_of(take.at(listener, 1), frequencies)
        report = f"{[round(each.residue_db) for each in windows]} dB; {'; '.join(grew)}"
        true = [each for each in windows if each.residue_db <= _USUAL_DB and at_its_pitch(each)]
        if excuses(take):
            # What no late machine can change, wherever it left a quarter of a second alone.
            assert len(true) >= len(windows) / 4, report
        else:
            assert not clicking(windows), report
            assert not grew, report
            assert len(true) >= len(windows) / 2, report
        # By the clocks its buffer would run over so often.
        unmatched = (RATE_HZ - _LAGGARD_HZ) * _FRAMES / RATE_HZ / _LAGGARD_PERIOD
        print(f"laggard: {lagged} slips, {unmatched:.1f} by its clock")
        slipping.append(lagged >= unmatched / 2)

    def judge_laggard(take: Take) -> None:
        judge(take)
        assert not slipping[-1], f"the laggard slips as by its clock: {lagged} times"

    undisturbed(take, judge)
    if slipping[-1]:  # once: its queue stood at its end when the hub began to follow
        undisturbed(take, judge_laggard)  # a machine that halts makes slips, too
