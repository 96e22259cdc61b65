"""Real clients at other sample rates and packet sizes: each hears the others at their pitch.

One at 44.1 kHz with packets of 64 frames, one at 48 kHz with 128, one at 48 kHz with 256. What
each hears must be the tones of the other two and nothing else, to what 16 bits leave of them.
"""

from __future__ import annotations

import contextlib

import numpy as np

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, TAIL_FRAMES, Take, undisturbed
from tests.end_to_end.processes import NotInTime, wait_until
from tests.end_to_end.sound import sine
from tests.end_to_end.stage import Stage
from tests.end_to_end.test_real_drift import at_its_pitch, clicking, fit

_RATES_HZ = {"vinyl": 44_100, "anna": 48_000, "wide": 48_000}
_PERIODS = {"vinyl": 64, "anna": 128, "wide": 256}
_TONES_HZ = {"vinyl": 997.0, "anna": 1499.0, "wide": 2503.0}
_LEVEL = 0.25
_MUSIC_FRAMES = 5 * 48_000
_WINDOW = 12_000
_EDGE_FRAMES = 14_400
"""Of the music, before the first window and after the last: cards do not begin together."""
_USUAL_DB = -70.0
"""Of most windows: 16 bits of everybody's make −78 of these levels."""


@own_hub_only
def test_each_hears_the_others_at_their_pitch(stage: Stage) -> None:
    hub = stage.hub(2)
    vinyl = stage.odd_jack(_RATES_HZ["vinyl"], _PERIODS["vinyl"])
    players = [
        stage.client(
            hub,
            name,
            period=period,
            jack=vinyl if name == "vinyl" else None,
            remote_name=name,
            queue=6,
        )
        for name, period in _PERIODS.items()
    ]
    stage.everybody_in(hub)
    with contextlib.suppress(NotInTime):  # on a busy machine it may take minutes
        wait_until(lambda: hub.client("vinyl")["clock"]["drift_ppm"] is not None, 15.0, "its clock")
    for name, rate_hz in _RATES_HZ.items():
        form = hub.client(name)["format"]
        assert (form["rate_hz"], form["frames"]) == (rate_hz, _PERIODS[name])
    voices = {
        (name, 1): sine(tone, _MUSIC_FRAMES, _LEVEL, _RATES_HZ[name], lead=LEAD_FRAMES)
        for name, tone in _TONES_HZ.items()
    }

    def take() -> Take:
        frames = LEAD_FRAMES + _MUSIC_FRAMES + TAIL_FRAMES
        return stage.record(hub, voices, players, frames=frames)

    def judge(take: Take) -> None:
        for player in players:
            others = [tone for name, tone in _TONES_HZ.items() if name != player.name]
            pitches = 2 * np.pi * np.array(others) / _RATES_HZ[player.name]
            heard = take.at(player, 1)
            first = LEAD_FRAMES + _EDGE_FRAMES
            last = LEAD_FRAMES + _MUSIC_FRAMES - 2 * _EDGE_FRAMES
            windows = [
                fit(heard[at : at + _WINDOW], pitches)
                for at in range(first, last - _WINDOW, _WINDOW)
            ]
            good = [each.residue_db < _USUAL_DB and at_its_pitch(each) for each in windows]
            report = f"{player.name}: {[round(each.residue_db) for each in windows]} dB"
            assert sum(good) >= len(good) / (4 if take.disturbed else 2), report
            assert take.disturbed or not clicking(windows), report

    undisturbed(take, judge)
