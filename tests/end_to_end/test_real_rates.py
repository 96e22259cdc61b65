"""Real clients at other sample rates and packet sizes: each hears the others at their pitch.

At 44.1 kHz with packets of 256 frames, 48 kHz with 256 and with 512. What each hears must be the
tones of the others and nothing else, to what 16 bits leave of them. What higher rates leave was
measured once by the same rule (docs/formats.md): their jackds want more of two cores than they
have beside the others, lose cycles, and with them the pitch; so do three at shorter periods.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, TAIL_FRAMES, Take, undisturbed
from tests.end_to_end.peers import RATE_HZ
from tests.end_to_end.processes import NotInTime, wait_until
from tests.end_to_end.sound import sine
from tests.end_to_end.stage import Stage
from tests.end_to_end.test_real_drift import PITCH_PPM, at_its_pitch, clicking, fit, known

pytestmark = pytest.mark.undivided

_RATES_HZ = {"vinyl": 44_100, "anna": 48_000, "wide": 48_000}
_PERIODS = {"vinyl": 256, "anna": 256, "wide": 512}
_TONES_HZ = {"vinyl": 997.0, "anna": 1499.0, "wide": 2503.0}
_LEVEL = 0.25
_MUSIC_FRAMES = 5 * RATE_HZ
"""These and the following at 48 kHz; as long a time at others."""
_WINDOW = 12_000
_EDGE_FRAMES = 14_400
"""Of the music, before the first window and after the last: cards do not begin together."""
_USUAL_DB = -70.0
"""Of most windows: 16 bits of everybody's make −78 of these levels."""


def as_long(frames: int, rate_hz: int) -> int:
    """Frames of a client's that last as long as these at 48 kHz."""
    return frames * rate_hz // RATE_HZ


@own_hub_only
def test_each_hears_the_others_at_their_pitch(stage: Stage) -> None:
    hub = stage.hub(2, follows_clocks=True)
    jacks = {
        name: None if rate_hz == RATE_HZ else stage.odd_jack(rate_hz, _PERIODS[name])
        for name, rate_hz in _RATES_HZ.items()
    }
    players = [
        stage.client(hub, name, period=period, jack=jacks[name], remote_name=name, queue=6)
        for name, period in _PERIODS.items()
    ]
    stage.everybody_in(hub)
    with contextlib.suppress(NotInTime):  # on a busy machine it may take minutes
        converted = [name for name, jack in jacks.items() if jack is not None]
        wait_until(
            lambda: all(known(hub, name, PITCH_PPM / 5) for name in converted),
            30.0,
            "their clocks",
        )
    for name, rate_hz in _RATES_HZ.items():
        form = hub.client(name)["format"]
        assert (form["rate_hz"], form["frames"]) == (rate_hz, _PERIODS[name])
    voices = {
        (name, 1): sine(
            tone,
            as_long(_MUSIC_FRAMES, rate_hz),
            _LEVEL,
            rate_hz,
            lead=as_long(LEAD_FRAMES, rate_hz),
        )
        for (name, tone), rate_hz in zip(_TONES_HZ.items(), _RATES_HZ.values(), strict=True)
    }

    def take() -> Take:
        frames = LEAD_FRAMES + _MUSIC_FRAMES + TAIL_FRAMES
        return stage.record(hub, voices, players, frames=frames)

    def judge(take: Take) -> None:
        for player in players:
            others = [tone for name, tone in _TONES_HZ.items() if name != player.name]
            rate_hz = _RATES_HZ[player.name]
            pitches = 2 * np.pi * np.array(others) / rate_hz
            heard = take.at(player, 1)
            first = LEAD_FRAMES + _EDGE_FRAMES
            last = LEAD_FRAMES + _MUSIC_FRAMES - 2 * _EDGE_FRAMES
            starts = [as_long(at, rate_hz) for at in range(first, last - _WINDOW, _WINDOW)]
            windows = [fit(heard[at : at + as_long(_WINDOW, rate_hz)], pitches) for at in starts]
            good = [each.residue_db < _USUAL_DB and at_its_pitch(each) for each in windows]
            report = f"{player.name}: {[round(each.residue_db) for each in windows]} dB, off by "
            report += f"{[[round(1e6 * ratio) for ratio in each.ratios] for each in windows]} ppm"
            assert sum(good) >= len(good) / (4 if take.disturbed else 2), report
            assert take.disturbed or not clicking(windows), report

    undisturbed(take, judge)
