"""OSC: what is understood, what is dropped, and what a living hub does about it."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from hub.machine_values import HostPort, LocalPortOrOff
from hub.osc import MAX_MESSAGES, MAX_PER_S, NAMES_A_REPLY, OscError, OscSocket, handle, messages_in
from hub.values import Refused
from loadtest.conduct.ports import PORTS
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, StartHub
from tests.hub.musicians import Musician


def message(address: str, *arguments: tuple[str, str | float]) -> OscMessage:
    builder = OscMessageBuilder(address)
    for kind, value in arguments:
        builder.add_arg(value, kind)
    return builder.build()


def bundle(*contents: OscMessage | OscBundle) -> OscBundle:
    builder = OscBundleBuilder(IMMEDIATELY)
    for content in contents:
        builder.add_content(content)
    return builder.build()


def queue_buffer(value: float) -> OscMessage:
    return message("/config", ("s", "queueBuffer"), ("f", value))


LATENCY = message("/get", ("s", "latency"))


class Hub:
    """Keeps what it was told."""

    def __init__(self, clients: int = 2) -> None:
        self.orders: list[tuple[int | None, int]] = []
        self.clients = clients
        self.looks = 0

    def set_queues(self, milliseconds: int | None, headroom_ms: int) -> None:
        self.orders.append((milliseconds, headroom_ms))

    def latencies(self) -> list[tuple[str, float]]:
        self.looks += 1
        return [(f"Åsa {k}", 5.25) for k in range(self.clients)]


@pytest.mark.parametrize(
    ("value", "order"),
    [
        (20.0, (20, 0)), (7.9, (7, 0)), (0.5, (1, 0)),
        (-500.0, (None, 0)), (0.0, (None, 0)), (-0.5, (None, 0)),
        (-5.0, (None, 5)), (-499.0, (None, 499)),
    ],
)  # fmt: skip
def test_queue_buffer_is_milliseconds_auto_or_headroom(
    value: float, order: tuple[int | None, int]
) -> None:
    hub = Hub()
    assert handle(queue_buffer(value), hub, 0.0) == []
    assert hub.orders == [order]


def test_latencies_come_as_a_bundle_with_unix_seconds() -> None:
    (reply,) = handle(LATENCY, Hub(), 1_800_000_000.9)
    head, seconds, size = struct.unpack_from(">8sQi", reply)
    assert (head, seconds) == (b"#bundle\0", 1_800_000_000)
    assert size == len(reply) - 20
    answer = OscMessage(reply[20:])
    assert answer.address == "/response/latency"
    assert answer.params == ["Åsa 0", 5.25, "Åsa 1", 5.25]
    assert len(OscMessage(handle(LATENCY, Hub(0), 0.0)[0][20:]).params) == 0


def test_a_full_hub_answers_in_datagrams_that_can_be_sent() -> None:
    replies = handle(LATENCY, Hub(1024), 0.0)
    assert len(replies) == 1024 / NAMES_A_REPLY
    assert NAMES_A_REPLY * (64 + 8 + 4 + 2) < 65507


@pytest.mark.parametrize(
    "wrong",
    [
        queue_buffer(float("nan")),
        queue_buffer(float("inf")),
        message("/config", ("s", "queueBuffer"), ("s", "many")),
        message("/config", ("s", "volume"), ("f", 1.0)),
        message("/config"),
        message("/get", ("s", "password")),
        message("/quit"),
    ],
)
def test_what_is_none_of_ours_is_refused(wrong: OscMessage) -> None:
    hub = Hub()
    with pytest.raises(ValueError, match=r"queueBuffer cannot|not understood"):
        handle(wrong, hub, 0.0)
    assert hub.orders == []


def test_bundles_are_taken_apart_in_order() -> None:
    nested = bundle(queue_buffer(1.0), bundle(queue_buffer(2.0), bundle()), queue_buffer(3.0))
    hub = Hub()
    for one in messages_in(nested.dgram):
        handle(one, hub, 0.0)
    assert hub.orders == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("size", [-4, 0, 3, 5, 2**31 - 1, -(2**31)])
def test_no_size_leads_astray(size: int) -> None:
    data = b"#bundle\0" + bytes(8) + struct.pack(">i", size) + LATENCY.dgram
    with pytest.raises(ValueError, match="element cannot have"):
        list(messages_in(data))


def test_there_is_an_end_to_messages_and_to_nesting() -> None:
    with pytest.raises(ValueError, match="more than"):
        list(messages_in(bundle(*[LATENCY] * (MAX_MESSAGES + 1)).dgram))
    deep = LATENCY.dgram
    for _ in range(100):
        deep = b"#bundle\0" + bytes(8) + struct.pack(">i", len(deep)) + deep
    assert len(list(messages_in(deep))) == 1


@given(
    st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda tail: b"#bundle\0" + bytes(8) + tail)
    | st.binary(max_size=100).map(lambda tail: b"/config\0,sf\0" + tail)
)
def test_no_datagram_breaks_it(data: bytes) -> None:
    hub = Hub()
    try:
        for one in messages_in(data):
            handle(one, hub, 0.0)
    except ValueError:
        return


def test_a_port_alone_is_for_this_machine() -> None:
    assert LocalPortOrOff().parse("4470") == HostPort("127.0.0.1", 4470)
    assert LocalPortOrOff().parse(4470) == HostPort("127.0.0.1", 4470)
    assert LocalPortOrOff().parse("[::]:4470") == HostPort("::", 4470)
    assert LocalPortOrOff().parse("off") is None
    for wrong in ("0", "65536", "anywhere", "-1", True, None):
        with pytest.raises(Refused, match="is not a port"):
            LocalPortOrOff().parse(wrong)


def test_a_port_in_use_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OscError, match="--osc: UDP port") as caught:
            OscSocket(HostPort("127.0.0.1", taken.getsockname()[1]), Hub())
    assert caught.value.in_use


def test_a_flood_of_messages_is_dropped_however_few_its_datagrams() -> None:
    hub = Hub()
    many = bundle(*[LATENCY] * MAX_MESSAGES).dgram

    async def flood() -> None:
        port = PORTS.take()
        osc = OscSocket(HostPort("127.0.0.1", port), hub)
        osc.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(40):
                sender.sendto(many, ("127.0.0.1", port))
        await asyncio.sleep(0.1)
        osc.close()

    asyncio.run(flood())
    assert 1 <= hub.looks < 2 * MAX_PER_S


@pytest.mark.living
def test_a_living_hub_sets_queues_and_tells_latencies(start_hub: StartHub) -> None:
    port = PORTS.take()
    hub = start_hub("--osc", str(port))
    with (
        Musician(hub.port, "Anna", frames=64),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc,
    ):
        hub.active("Anna")
        osc.connect(("127.0.0.1", port))
        osc.settimeout(DEADLINE_S)
        for hostile in (b"", b"\xff" * 63, b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc", b"/\0"):
            osc.send(hostile)
        osc.send(queue_buffer(8.0).dgram)
        osc.send(LATENCY.dgram)
        answer = OscMessage(osc.recv(65536)[20:])
        assert answer.params[0] == "Anna"
        assert 0.0 <= answer.params[1] < 1000.0
        # 8 ms are six packets of 64 frames, and three of the hub's 128
        wait_until(
            lambda: hub.active("Anna")["queue"]["order"] == "6", DEADLINE_S, "Anna's new queue"
        )
        assert hub.state()["hub"]["queue"] == "3"
        with Musician(hub.port, "Berta"):
            assert hub.active("Berta")["queue"]["order"] == "3"
        osc.send(queue_buffer(-5.0).dgram)
        wait_until(
            lambda: hub.active("Anna")["queue"]["order"] == "auto5", DEADLINE_S, "auto, and 5 ms"
        )
