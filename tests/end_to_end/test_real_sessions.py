"""Coming, going, crashing and coming back, as real clients do it."""

from __future__ import annotations

import pytest

from tests.end_to_end.hubs import Hub, own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Take,
    assert_hears,
    undisturbed,
)
from tests.end_to_end.peers import JackTripClient
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage
from tests.end_to_end.wire import Wire


def assert_hear_each_other(
    stage: Stage, hub: Hub, one: JackTripClient, other: JackTripClient
) -> None:
    """Mode 2: each of two mono clients hears exactly the other."""
    voices = {
        (client.name, 1): noise(seed, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)
        for seed, client in enumerate((one, other), start=31)
    }

    def judge(take: Take) -> None:
        assert_hears(take, one, 1, [voices[other.name, 1].in_hub])
        assert_hears(take, other, 1, [voices[one.name, 1].in_hub])

    undisturbed(lambda: stage.record(hub, voices, [one, other]), judge)


@own_hub_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_status_shows_who_is_there(stage: Stage, host: str) -> None:
    """A name in UTF-8, its address, its ports, over IPv4 and IPv6."""
    name = "Žofie Åström 音楽 🎻"
    hub = stage.hub(2)
    named = stage.client(hub, "named", remote_name=name, host=host)
    other = stage.client(hub, "other")
    stage.everybody_in(hub)
    (shown,) = (client for client in hub.status()["clients"] if client["name"] == name)
    assert shown["address"] == host
    assert shown["peer_port"] == named.udp_port
    assert hub.udp_port <= shown["port"] < hub.udp_port + 2
    assert_hear_each_other(stage, hub, named, other)


@own_hub_only
def test_client_leaves(stage: Stage) -> None:
    """Ctrl-C at a client: the hub frees its slot and answers with exit packets of its own."""
    hub = stage.hub(2)
    stays = stage.client(hub, "stays")
    with Wire(hub.port) as wire:
        leaves = stage.client(hub, "leaves", hub_port=wire.port, remote_name="leaves")
        stage.everybody_in(hub)
        left = hub.client("leaves")

        assert leaves.leave() == 0

        hub.wait_for_clients(1)
        wait_until(
            lambda: sum(passage.is_exit for passage in wire.passed_down()) >= 2,
            5.0,
            "two exit packets of the hub",
        )
        exits = [passage.is_exit for passage in wire.passed_down()]
        assert sum(exits) == 2
        # a last packet of sound may have been on its way to the socket
        assert len(exits) - exits.index(True) <= 3
    # There is room for the next; on another port, since late packets may still come to the old.
    newcomer = stage.client(hub, "newcomer", remote_name="newcomer")
    stage.everybody_in(hub)
    assert hub.client("newcomer")["port"] != left["port"]
    assert_hear_each_other(stage, hub, stays, newcomer)


@own_hub_only
def test_hub_stops(stage: Stage) -> None:
    """Ctrl-C at the hub: its clients are told, and end by themselves; nothing is left of it."""
    hub = stage.hub(4)
    clients = [
        stage.client(hub, "one"),
        stage.client(hub, "two", 2, 2, period=256),
        stage.client(hub, "three", 1, 2, period=64),
    ]
    stage.everybody_in(hub)

    hub.stop()

    for client in clients:
        assert client.process.wait(10.0) == 0
        assert client.was_stopped_by_hub


@own_hub_only
@pytest.mark.parametrize("behind_nat", [False, True])
def test_client_crashes_and_comes_back(stage: Stage, behind_nat: bool) -> None:
    """kill -9 and again from the same port: it takes its slot over, and is not shown the door."""
    hub = stage.hub(2)
    # The one who stays came first: the slot of the newcomer is not simply the lowest.
    stays = stage.client(hub, "stays")
    with Wire(hub.port) as wire:
        port = wire.port if behind_nat else hub.port
        # Each on a sound card of its own; what a crash does to JACK is no business of this test.
        before = stage.client(
            hub, "back", remote_name="back", hub_port=port, jack=stage.jack_to_lose()
        )
        stage.everybody_in(hub)
        slot = hub.client("back")["slot"]
        before.crash()

        after = stage.client(
            hub, "back", remote_name="back", hub_port=port, udp_port=before.udp_port
        )

        stage.everybody_in(hub)
        wait_until(lambda: hub.client("back")["slot"] == slot, 10.0, "back in its slot")
        assert_hear_each_other(stage, hub, stays, after)
        assert after.process.running
        assert not after.was_stopped_by_hub
        assert not any(passage.is_exit for passage in wire.passed_down())
        assert len(hub.clients()) == 2


@own_hub_only
def test_client_crashes_and_stays_away(stage: Stage) -> None:
    """After 10 s of silence its slot is freed; nobody else notices."""
    hub = stage.hub(2)
    one, other = stage.client(hub, "one"), stage.client(hub, "other")
    gone = stage.client(hub, "gone", jack=stage.jack_to_lose())
    stage.everybody_in(hub)
    gone.crash()
    assert_hear_each_other(stage, hub, one, other)
    hub.wait_for_clients(2, timeout_s=20.0)
    assert_hear_each_other(stage, hub, one, other)
