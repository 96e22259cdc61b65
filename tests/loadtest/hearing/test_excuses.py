"""What networks and clocks do is not the hub's fault, and hides none of its."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.conduct.outcome import FindingKind
from loadtest.scenario.model import Format
from tests.loadtest.hearing.rig import Hub1, Pcm, Rig, ensemble, examined

Kind = FindingKind


def test_what_the_network_lost_is_excused() -> None:
    lost = {(1, k) for k in range(0, 600, 7)}
    rig = Rig(ensemble(), lost_up=lost)

    outcome = examined(rig)

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert clients["concealed"].all()
    assert (clients["voice_heard"] + clients["voice_excused"] == clients["voice_due"]).all()


@pytest.mark.parametrize("redundancy", [2, 3])
def test_redundancy_makes_good_what_the_network_took_on_the_way_back(redundancy: int) -> None:
    players = ensemble()
    for player in players:
        player.format = Format(redundancy=redundancy)
    lost = {(1, k) for k in range(60, 500, 17)}

    outcome = examined(Rig(players, lost_down=lost))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert clients["lost"][1] == 0
    assert clients["repaired"][1] > 20
    assert not clients["duplicates"].any()
    assert (clients["voice_heard"] == clients["voice_due"]).all()


def test_what_the_network_took_on_the_way_back_is_excused() -> None:
    outcome = examined(Rig(ensemble(), lost_down={(1, k) for k in range(60, 500, 17)}))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert clients["lost"][1] > 20
    assert clients["voice_heard"][1] + clients["voice_excused"][1] >= clients["voice_due"][1]


@pytest.mark.parametrize("skew_ppm", [20_000.0, -20_000.0])
def test_a_queue_that_must_slip_is_excused(skew_ppm: float) -> None:
    players = ensemble()
    players[2].skew_ppm = skew_ppm
    players[2].queue = 2048

    outcome = examined(Rig(players, turn_ns=80_000_000, seconds=2.0))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert not clients["silent"].any()
    assert clients["concealed"].any()
    assert (clients["voice_heard"] > 0).all()
    missing = clients["voice_due"] - clients["voice_heard"] - clients["voice_excused"]
    assert missing.max() <= 0


class Spoiling(Hub1):
    """All of listener 1's packets of talker 2 are wrong in one way, from some packet on."""

    def __init__(self, how: str, since: int = 0) -> None:
        self.how, self.since = how, since
        self.random = np.random.default_rng(1)

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        if (listener, talker) != (1, 2) or packet < self.since:
            return pcm
        match self.how:
            case "soft":
                return np.round(pcm / 2).astype(np.int64)
            case "swapped":
                return pcm[::-1]
            case "noisy":
                noise: Pcm = pcm + self.random.integers(-200, 200, pcm.shape) * (pcm != 0)
                return noise
            case "silent":
                return 0 * pcm
            case _:
                return pcm


WAYS = {
    "soft": {Kind.WRONG_GAIN},
    "swapped": {Kind.SWAPPED_CHANNELS},
    "noisy": {Kind.UNEXPLAINED, Kind.WRONG_GAIN, Kind.MOVED},  # it has no name of its own
    "silent": {Kind.DROPOUT, Kind.MISSING_SOURCE},
}


@pytest.mark.parametrize(
    ("how", "since"),
    [("soft", 0), ("swapped", 150), ("noisy", 150), ("silent", 0), ("silent", 150)],
)
def test_a_wrong_hub_is_named_though_all_drift(how: str, since: int) -> None:
    players = ensemble()
    for k, player in enumerate(players):
        player.skew_ppm = 200.0 * (-1) ** k
        player.queue = 1024
    hub = Spoiling(how, since)

    outcome = examined(Rig(players, hub=hub, seconds=1.2))

    kinds = {each.kind for each in outcome.findings}
    assert kinds & WAYS[how], [each.text for each in outcome.findings]
    assert kinds <= WAYS[how] | {Kind.UNEXPLAINED}
    assert {(each.listener, each.source) for each in outcome.findings} <= {(1, 2), (1, -1)}
    clients = outcome.state.clients
    wrong = clients["wrong"] + clients["silent"]
    assert wrong[1] > 15 or (how, since) == ("silent", 0)
    assert wrong.sum() == wrong[1]


@pytest.mark.parametrize("skew_ppm", [200.0, -4000.0])
def test_a_right_hub_has_no_fault_though_all_drift(skew_ppm: float) -> None:
    players = ensemble()
    for k, player in enumerate(players):
        player.skew_ppm = skew_ppm * (-1) ** k
        player.queue = 2048

    outcome = examined(Rig(players, turn_ns=60_000_000, seconds=2.0))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert not clients["silent"].any()


@pytest.mark.parametrize("how", ["soft", "silent"])
def test_a_wrong_hub_is_named_though_the_network_loses_some_between_solos(how: str) -> None:
    hub = Spoiling(how, since=150)
    lost = {(2, k) for k in range(5, 900, 40)}

    outcome = examined(Rig(ensemble(), hub=hub, seconds=1.2, lost_up=lost))

    kinds = {each.kind for each in outcome.findings}
    assert kinds & WAYS[how], [each.text for each in outcome.findings]
    assert {each.listener for each in outcome.findings} == {1}


class Fading(Hub1):
    """A stream that begins is faded in, a converter's delay late."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        at = packet * pcm.shape[-1] + np.arange(pcm.shape[-1])
        gain = np.clip((at - 16) / self.frames, 0, 1)
        faded: Pcm = np.round(pcm * gain).astype(np.int64)
        return faded


@pytest.mark.parametrize(
    ("frames", "allowed", "right"), [(128, 192, True), (128, 0, False), (1280, 192, False)]
)
def test_a_new_stream_may_be_faded_in_over_a_period_and_no_longer(
    frames: int, allowed: int, right: bool
) -> None:
    players = ensemble(14)
    for k, player in enumerate(players[2:]):  # they come in solos and in tuttis
        player.away = (9600, 14_400 + 613 * k)

    outcome = examined(Rig(players, seconds=0.7, hub=Fading(frames), fade_frames=allowed))

    assert (outcome.findings == []) == right, [each.text for each in outcome.findings]
    assert not (right and outcome.state.clients["wrong"].any())
