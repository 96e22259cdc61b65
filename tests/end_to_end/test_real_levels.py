"""Places between left and right, a downmix and the limiter, heard by real clients."""

from __future__ import annotations

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Take,
    assert_hears,
    assert_silent,
    undisturbed,
)
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage


@own_hub_only
def test_a_mono_client_on_the_right_and_both_sides_for_a_mono_listener(stage: Stage) -> None:
    """Bit by bit: the limiter is on, and leaves alone what is below its threshold."""
    hub = stage.hub(2, options=["--downmix", "-6"])
    mono, stereo = stage.client(hub, "mono", 1, 1), stage.client(hub, "stereo", 2, 2)
    clients = stage.everybody_in(hub)
    hub.tell("pan", "0", "right")
    hub.tell("limiter", "on")
    hub.tell("guard", "release", "1")
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
