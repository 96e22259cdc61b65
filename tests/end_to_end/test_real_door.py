"""Unmodified clients at the door: in the waiting room, banned, and let in again."""

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
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage


@own_hub_only
def test_waiting_room_ban_and_return(stage: Stage) -> None:
    hub = stage.hub(4, options=["--waiting-room"])
    one = stage.client(hub, "one", remote_name="one")
    other = stage.client(hub, "other", remote_name="other")
    clients = stage.everybody_in(hub)
    voices = {
        (client.name, 1): noise(seed, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)
        for seed, client in enumerate(clients, start=81)
    }
    ones, others = (voices[name, 1].in_hub for name in ("one", "other"))

    def hears_nothing(take: Take) -> None:
        assert_hears(take, one, 1, [ones])
        assert_silent(take, other, 1)

    def hears_both(take: Take) -> None:
        assert_hears(take, one, 1, [ones, others])
        assert_hears(take, other, 1, [ones, others])

    hub.tell("admit", "one")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_nothing)
    hub.tell("admit", "other")
    undisturbed(lambda: stage.record(hub, voices, clients), hears_both)

    slot = hub.client("other")["slot"]
    hub.tell("ban", "network=127.0.0.1", "1h")
    for client in clients:
        assert client.process.wait(10.0) == 0
        assert client.was_stopped_by_hub
    hub.wait_for_clients(0)
    banned = stage.start_client(hub, "banned", remote_name="other")
    assert banned.process.wait(20.0) is not None
    assert "Received Connection from Peer" not in banned.process.log()

    hub.tell("unban", "127.0.0.1")
    stage.client(hub, "back", remote_name="other")
    wait_until(lambda: hub.client("other")["state"] == "active", 10.0, "other is back")
    shown = hub.client("other")
    assert (shown["slot"], shown["held"]) == (slot, True)  # its place is its own; the pass is not
