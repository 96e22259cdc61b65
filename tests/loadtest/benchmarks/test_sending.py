"""Ways to send do send: each brings every client what it is to have, and what does not is told."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from loadtest.benchmarks import ring, sending, trials
from loadtest.benchmarks.ring import Ring, RingRefused, send_entries
from loadtest.benchmarks.sending import (
    BYTES,
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DO,
    SEGMENTS,
    NotArrived,
    Sinks,
    Way,
    compare,
    descriptors,
    own_sockets,
    udp_sockets,
)

CLIENTS, ROUNDS = 5, 3


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def sinks(stack: contextlib.ExitStack) -> Sinks:
    return Sinks(stack, CLIENTS)


def made_ring(stack: contextlib.ExitStack) -> Ring:
    """A ring, where there may be one."""
    try:
        return stack.enter_context(Ring(CLIENTS))
    except RingRefused as error:
        linux = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
        if error.errno == errno.EINVAL and linux >= (6, 1):
            raise
        pytest.skip(f"the kernel refuses io_uring: {error.strerror}")


def test_every_way_brings_every_client_its_datagram() -> None:
    """``sending`` itself compares what arrived with what was to be sent, after each turn."""
    costs = sending.sending(CLIENTS, ROUNDS)
    names = [cost.name for cost in costs]
    assert len(set(names)) == len(names) == 11
    assert sum("io_uring" in name for name in names) == 3
    for cost in costs:
        if cost.refused:
            assert "io_uring" in cost.name
        else:
            assert len(cost.us) == ROUNDS
            assert 0 < cost.least_us <= cost.median_us


def test_ring_is_tried(stack: contextlib.ExitStack) -> None:
    made_ring(stack)
    assert not any(cost.refused for cost in sending.sending(CLIENTS, 1))


def test_ring_sends_to_each_client_again_and_again(
    stack: contextlib.ExitStack, sinks: Sinks
) -> None:
    """More turns than its rings have places."""
    made = made_ring(stack)
    fds = descriptors(own_sockets(stack, sinks))
    wanted = send_entries(fds, sinks.packets[:, 0], sinks.names, fixed=False)
    for _ in range(20):
        assert made.send(wanted, BYTES) == CLIENTS
        sinks.check()


def test_ring_tells_what_became_of_a_datagram_that_was_not_sent(
    stack: contextlib.ExitStack, sinks: Sinks
) -> None:
    made = made_ring(stack)
    fds = descriptors(own_sockets(stack, sinks))
    wanted = send_entries(fds, sinks.packets[:, 0], sinks.names, fixed=False)

    wanted["addr_len"][3] = 1
    with pytest.raises(OSError, match="datagram 3: Invalid argument") as caught:
        made.send(wanted, BYTES)
    assert caught.value.errno == errno.EINVAL

    wanted["addr_len"][3] = sinks.names.shape[1]
    wanted["len"][2] = BYTES - 1
    with pytest.raises(OSError, match=f"datagram 2: {BYTES - 1} bytes were sent, not {BYTES}"):
        made.send(wanted, BYTES)

    with pytest.raises(ValueError, match="16 datagrams: the ring has 8 entries"):
        made.send(np.resize(wanted, 16), BYTES)


def test_where_there_is_no_ring_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_SETUP", 1 << 20)  # no system call of that number
    rows = list(trials._sent(CLIENTS, 1))
    assert [row[1:] for row in rows if "io_uring" in row[1]] == [
        [f"{name}: the kernel refuses it (Function not implemented)", "–", "–"]
        for name in sending._RINGS
    ]
    assert len(rows) == 11


def test_sockets_are_as_their_way_says(stack: contextlib.ExitStack, sinks: Sinks) -> None:
    def is_whole(udp: socket.socket) -> bool:
        return udp.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_DO

    connected = own_sockets(stack, sinks, connected=True)
    assert [udp.getpeername() for udp in connected] == sinks.addresses
    assert not any(map(is_whole, connected))
    whole = own_sockets(stack, sinks, whole=True)
    assert all(map(is_whole, whole))
    with pytest.raises(OSError, match="not connected"):
        whole[0].getpeername()


def test_a_way_that_brings_not_what_it_should_is_an_error(
    stack: contextlib.ExitStack, sinks: Sinks
) -> None:
    (one,) = udp_sockets(stack, ["0.0.0.0"])
    packets = [packet.tobytes() for packet in sinks.packets[:, 0]]

    def of(sent: dict[int, bytes]) -> Way:
        """Sends these, and claims that it sent to all."""

        def send() -> int:
            for client, packet in sent.items():
                one.sendto(packet, sinks.addresses[client])
            return CLIENTS

        return Way("this way", send, sinks)

    right = dict(enumerate(packets))
    assert len(compare([of(right)], ROUNDS)[0].us) == ROUNDS
    nothing = {k: v for k, v in right.items() if k != 1}
    for wrong, why in (
        (nothing, f"client 1 had nothing instead of datagram 0, {BYTES} bytes"),
        (right | {2: packets[2][:-1]}, f"client 2 had {BYTES - 1} bytes of datagram 0"),
        (right | {2: packets[2] + b"x"}, f"client 2 had {BYTES + 1} bytes of datagram 0"),
        (right | {3: packets[4]}, "client 3: datagram 0 is not what was to be sent"),
    ):
        with pytest.raises(NotArrived, match=f"^this way: {why}"):
            compare([of(wrong)], ROUNDS)
    with pytest.raises(NotArrived, match=f"0 of {CLIENTS} datagrams were sent"):
        compare([Way("this way", lambda: 0, sinks)], ROUNDS)

    one.sendto(packets[0], sinks.addresses[0])
    with pytest.raises(NotArrived, match="1 datagrams too many"):
        compare([of(right)], ROUNDS)


def test_several_datagrams_to_one_client_are_compared_each(stack: contextlib.ExitStack) -> None:
    sinks = Sinks(stack, 1, SEGMENTS)
    (one,) = udp_sockets(stack, ["0.0.0.0"])
    for packet in sinks.packets[0, ::-1]:
        one.sendto(packet.tobytes(), sinks.addresses[0])
    with pytest.raises(NotArrived, match="datagram 0 is not what was to be sent"):
        sinks.check()
