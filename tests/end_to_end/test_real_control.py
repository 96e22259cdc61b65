"""A running hub is told otherwise, and its clients hear it."""

from __future__ import annotations

import time

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import (
    EXACT_WINDOWS,
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Take,
    assert_hears,
    signal_windows,
    undisturbed,
)
from tests.end_to_end.sound import find_lag, noise, shifted, worst_error
from tests.end_to_end.stage import Stage

LSB = 1 / 32768


@own_hub_only
def test_patch_mute_gain_and_kick(stage: Stage) -> None:
    hub = stage.hub(5)
    one = stage.client(hub, "one", remote_name="one")
    other = stage.client(hub, "other", remote_name="other")
    clients = stage.everybody_in(hub)
    voices = {
        (client.name, 1): noise(seed, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)
        for seed, client in enumerate(clients, start=71)
    }
    ones, others = (voices[name, 1].in_hub for name in ("one", "other"))

    def hears_both(take: Take) -> None:
        assert_hears(take, one, 1, [ones, others])
        assert_hears(take, other, 1, [ones, others])

    def hears_only_one(take: Take) -> None:
        assert_hears(take, one, 1, [ones])
        assert_hears(take, other, 1, [ones])

    def hears_only_one_half_as_loud(take: Take) -> None:
        # 6 dB are not exactly a half, so the last bit is the rounding's.
        expected = ones * 10 ** (-6 / 20)
        for listener in clients:
            heard, near = take.at(listener, 1), 0
            windows = signal_windows(len(heard))
            for start, end in windows:
                there = shifted(expected, find_lag(heard, expected, start, end), len(heard))
                near += worst_error(heard[start:end], there[start:end]) <= 1.01 * LSB
            wanted = EXACT_WINDOWS if take.disturbed else len(windows)
            assert near >= wanted, f"{listener.name}: {near} of {len(windows)} windows are right"

    hub.tell("patch", "full-mix")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_both)
    hub.tell("mute", "other", "on")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_only_one)
    hub.tell("gain", "source=one", "gain_db=-6")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_only_one_half_as_loud)
    hub.tell("mute", "other", "off")
    hub.tell("gain", "one", "0")
    hub.tell("scene-save", "name=both")
    hub.tell("section", "name=far", "members=other")
    hub.tell("hear", "listener=one", "source_section=far", "muted=true")
    hub.tell("hear", "listener=other", "source_section=far", "gain=0")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_only_one)
    hub.tell("scene-recall", "name=both", "seconds=0.5")
    time.sleep(1.0)
    undisturbed(lambda: stage.record(hub, voices, clients), hears_both)

    hub.tell("kick", "other")

    assert other.process.wait(10.0) == 0
    assert other.was_stopped_by_hub
    hub.wait_for_clients(1)
    assert one.process.running
    assert hub.clients()[0]["name"] == "one"
