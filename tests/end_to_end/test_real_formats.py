"""Bit depths, packet sizes and channel counts: each client in its own format."""

from __future__ import annotations

import pytest

from tests.end_to_end.hubs import against_original, own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Take,
    assert_hears,
    undisturbed,
)
from tests.end_to_end.peers import START_S
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_both_sides_at_this_bit_depth(stage: Stage, bits: int) -> None:
    hub = stage.hub(4, options=["-b", str(bits)] if against_original() else [])
    a = stage.client(hub, "a", 2, 2, bits=bits)
    b = stage.client(hub, "b", 1, 1, bits=bits)
    clients = stage.everybody_in(hub)
    voices = {
        (client.name, channel): noise(seed, SIGNAL_FRAMES, 0.45, bits, LEAD_FRAMES)
        for seed, (client, channel) in enumerate([(a, 1), (a, 2), (b, 1)])
    }
    left = [voices["a", 1].in_hub, voices["b", 1].in_hub]

    def judge(take: Take) -> None:
        assert_hears(take, a, 1, left)
        assert_hears(take, b, 1, left)
        assert_hears(take, a, 2, [voices["a", 2].in_hub])

    undisturbed(lambda: stage.record(hub, voices, clients), judge)


@own_hub_only
def test_bit_depths_mixed_in_one_room(stage: Stage) -> None:
    """8, 16 and 24 bit hear each other, each in its own resolution; 32 bit hears them all.

    It plays, too, but what its sender puts on the wire is noise of 2.0 (section 3.4): nobody
    hears anything of that, and the hub says why.
    """
    hub = stage.hub(2)
    clients = [stage.client(hub, f"at{bits}", bits=bits) for bits in (8, 16, 24, 32)]
    stage.everybody_in(hub)
    # Sums of multiples of 2**-23 below 1 are exact in the mix at any precision.
    voices = {
        (client.name, 1): noise(client.bits, SIGNAL_FRAMES, 0.24, client.bits, LEAD_FRAMES)
        for client in clients[:3]
    }
    broken = {("at32", 1): noise(32, SIGNAL_FRAMES, 0.24, 16, LEAD_FRAMES)}

    def judge(take: Take) -> None:
        for listener in clients:
            others = [v.in_hub for (name, _), v in voices.items() if name != listener.name]
            assert_hears(take, listener, 1, others)

    undisturbed(lambda: stage.record(hub, voices | broken, clients), judge)
    for client in hub.clients():
        broken_sender = client["format"]["bits"] == 32
        assert client["safety"]["garbage"] == broken_sender
        assert (client["received"]["garbage_packets"] > 100) == broken_sender

    def told() -> dict[int, list[str]]:
        return {
            client["format"]["bits"]: [entry["condition"] for entry in client["conditions"]]
            for client in hub.clients()
        }

    wait_until(
        lambda: told()[32][:1] == ["garbage-32bit"],
        START_S,
        "the hub says what is wrong with it",
    )


@own_hub_only
@pytest.mark.parametrize("hub_period", [128, 96, 512])
def test_client_periods_against_this_hub_period(stage: Stage, hub_period: int) -> None:
    """Packets of 64, 128 and 256 frames in one mix: no sample is lost or repeated."""
    hub = stage.hub(4, period=hub_period)
    clients = [
        # A burst of packets a tick needs room in the client's buffer.
        stage.client(hub, f"p{period}", period=period, queue=max(4, 3 * hub_period // period))
        for period in (64, 128, 256)
    ]
    stage.everybody_in(hub)
    voices = {
        (client.name, 1): noise(seed, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES)
        for seed, client in enumerate(clients)
    }

    def judge(take: Take) -> None:
        for listener in clients:
            assert_hears(take, listener, 1, [v.in_hub for v in voices.values()])

    undisturbed(lambda: stage.record(hub, voices, clients), judge)


def test_loopback_of_every_client_period(stage: Stage) -> None:
    """Half, once and twice the hub's period: each stereo client gets itself back."""
    hub = stage.hub(1)
    clients = [stage.client(hub, f"p{period}", 2, 2, period=period) for period in (64, 128, 256)]
    stage.everybody_in(hub)
    voices = {
        (client.name, k): noise(client.server.period + k, SIGNAL_FRAMES, 1.0, lead=LEAD_FRAMES)
        for client in clients
        for k in (1, 2)
    }

    def judge(take: Take) -> None:
        for client in clients:
            for k in (1, 2):
                assert_hears(take, client, k, [voices[client.name, k].in_hub])

    undisturbed(lambda: stage.record(hub, voices, clients), judge)


def test_sixteen_channels_stay_apart(stage: Stage) -> None:
    hub = stage.hub(1)
    many = stage.client(hub, "many", 16, 16)
    stage.everybody_in(hub)
    voices = {("many", k): noise(k, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES) for k in range(1, 17)}

    def judge(take: Take) -> None:
        for k in range(1, 17):
            assert_hears(take, many, k, [voices["many", k].in_hub])

    undisturbed(lambda: stage.record(hub, voices, [many]), judge)


@own_hub_only
@pytest.mark.parametrize("lanes", ["0", "2"])
def test_six_clients_hear_exactly_the_five_others(stage: Stage, lanes: str) -> None:
    hub = stage.hub(2, options=["--transmit-lanes", lanes])
    clients = [stage.client(hub, f"six{k}") for k in range(6)]
    stage.everybody_in(hub)
    voices = {
        (client.name, 1): noise(60 + k, SIGNAL_FRAMES, 0.19, lead=LEAD_FRAMES)
        for k, client in enumerate(clients)
    }

    def judge(take: Take) -> None:
        for listener in clients:
            others = [v.in_hub for (name, _), v in voices.items() if name != listener.name]
            assert_hears(take, listener, 1, others)

    undisturbed(lambda: stage.record(hub, voices, clients), judge)
