"""Real clients through one UDP port."""

from __future__ import annotations

import pytest

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, SIGNAL_FRAMES, Take, assert_hears, undisturbed
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage


@own_hub_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_clients_hear_each_other_exactly_through_one_port(stage: Stage, host: str) -> None:
    """Three of one address, one with copies; then one leaves, and another comes."""
    hub = stage.hub(2, options=("--single-port",))
    one = stage.client(hub, "one", host=host)
    two = stage.client(hub, "two", host=host, options=("-r", "2"))
    leaves = stage.client(hub, "leaves", host=host)
    stage.everybody_in(hub)
    assert {client["port"] for client in hub.clients()} == {hub.udp_port}

    assert leaves.leave() == 0
    hub.wait_for_clients(2)
    comes = stage.client(hub, "comes", host=host)
    clients = stage.everybody_in(hub)
    assert {client["port"] for client in hub.clients()} == {hub.udp_port}
    voices = {
        (client.name, 1): noise(seed, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES)
        for seed, client in enumerate(clients, start=51)
    }

    def judge(take: Take) -> None:
        for client in (one, two, comes):
            others = [voice.in_hub for (name, _), voice in voices.items() if name != client.name]
            assert_hears(take, client, 1, others)

    undisturbed(lambda: stage.record(hub, voices, clients), judge)


@own_hub_only
def test_a_killed_client_is_back_at_once(stage: Stage) -> None:
    """From the same UDP port, which the hub had connected to its first life."""
    hub = stage.hub(2, options=("--single-port",))
    stays = stage.client(hub, "stays")
    dies = stage.client(hub, "dies", remote_name="dies", jack=stage.jack_to_lose())
    stage.everybody_in(hub)
    slot = hub.client("dies")["slot"]
    dies.crash()
    back = stage.client(hub, "dies", remote_name="dies", udp_port=dies.udp_port)
    wait_until(lambda: len(hub.clients()) == 2, 15.0, "its first life is over")
    stage.everybody_in(hub)
    assert (hub.client("dies")["slot"], hub.client("dies")["port"]) == (slot, hub.udp_port)
    assert stays.process.running
    assert back.process.running
