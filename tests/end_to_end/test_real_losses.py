"""A bad network between a real client and the hub: repaired where repair is possible.

The wire loses, repeats and swaps datagrams by count, so no take is luckier than another.
"""

from __future__ import annotations

import struct

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, SIGNAL_FRAMES, Take, assert_hears, undisturbed
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage
from tests.end_to_end.wire import Wire

_HEADER_BYTES = 16
_PERIOD = 128


def lose_every(nth: int, number: int, datagram: bytes) -> list[bytes]:
    """The wire loses each nth datagram, never two in a row."""
    return [] if number % nth == nth - 1 else [datagram]


def test_redundancy_costs_nothing(stage: Stage) -> None:
    """`-r 2` on a clean wire."""
    hub = stage.hub(1)
    client = stage.client(hub, "twice", options=["-r", "2"])
    stage.everybody_in(hub)
    voices = {("twice", 1): noise(21, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)}

    def judge(take: Take) -> None:
        assert_hears(take, client, 1, [voices["twice", 1].in_hub])

    undisturbed(lambda: stage.record(hub, voices, [client]), judge)


@own_hub_only
def test_redundancy_repairs_losses_both_ways(stage: Stage) -> None:
    """Every seventh datagram is lost up and down, and not a sample is missing."""
    hub = stage.hub(1)
    with Wire(hub.port) as wire:
        client = stage.client(hub, "twice", options=["-r", "2"], hub_port=wire.port)
        stage.everybody_in(hub)
        wire.up.impairment = lambda number, datagram: lose_every(7, number, datagram)
        wire.down.impairment = lambda number, datagram: lose_every(7, number, datagram)
        voices = {("twice", 1): noise(22, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)}

        def judge(take: Take) -> None:
            assert_hears(take, client, 1, [voices["twice", 1].in_hub])

        undisturbed(lambda: stage.record(hub, voices, [client]), judge)
        # The hub answers with as many copies as the client sends, whole packets each.
        one = _HEADER_BYTES + 2 * _PERIOD
        lengths = {len(passage.datagram) for passage in wire.passed_down()}
        assert lengths == {2 * one}
        newest, older = (
            struct.unpack_from("<H", wire.passed_down()[-1].datagram, at + 8)[0] for at in (0, one)
        )
        assert (newest - older) % 65536 == 1


@own_hub_only
def test_swapped_and_repeated_datagrams_make_no_difference(stage: Stage) -> None:
    """On the way up only: old clients drop what comes out of order by themselves."""
    hub = stage.hub(1)
    held: list[bytes] = []

    def disorder(number: int, datagram: bytes) -> list[bytes]:
        match number % 10:
            case 3:
                held.append(datagram)
                return []
            case 4:
                return [datagram, *(held.pop() for _ in list(held))]
            case 8:
                return [datagram, datagram]
            case _:
                return [datagram]

    with Wire(hub.port) as wire:
        client = stage.client(hub, "mixed", hub_port=wire.port)
        stage.everybody_in(hub)
        wire.up.impairment = disorder
        voices = {("mixed", 1): noise(23, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)}

        def judge(take: Take) -> None:
            assert_hears(take, client, 1, [voices["mixed", 1].in_hub])

        undisturbed(lambda: stage.record(hub, voices, [client]), judge)
