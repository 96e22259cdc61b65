"""The shared port between arena and matching."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from hub.addresses import address_bytes
from hub.ports import udp_socket
from hub.sessions import SessionTable
from hub.singleport import DEAR_PER_S, SinglePort
from loadtest.conduct.ports import PORTS
from shared.protocol import AudioHeader, pack_header
from tests.hub.listening import directory, make_arena, seat

HOME = ip_address("127.0.0.1")


class Served:
    """A shared port with one client, which plays."""

    def __init__(self) -> None:
        self.arena, self.hub = make_arena(), directory().hub
        self.single = SinglePort(PORTS.take(), self.arena, self.hub)
        self.single.lobby.bind()
        self.sock = udp_socket(HOME)
        session = SessionTable(8).open("Anna", HOME, self.single.port, 0.0)
        assert session is not None
        self.single.expect(session, self.sock, HOME)
        self.come(0, port=5000)
        seat(self.arena, session.slot, session.number, highest=7000, own_ns=1, joined_ns=1)

    def come(self, number: int, port: int) -> None:
        """A datagram comes to the lobby."""
        head = pack_header(AudioHeader(0, number, 128, 3, 16, 2, 2)) + bytes(48)
        self.single._take(address_bytes(HOME), port, head, 16 + 512)

    def close(self) -> None:
        self.single.lobby.close()
        self.sock.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_a_first_datagram_connects_the_socket(served: Served) -> None:
    assert served.sock.getsockname() == ("127.0.0.1", served.single.port)
    assert served.sock.getpeername() == ("127.0.0.1", 5000)
    assert served.hub.lobby["matched"] == 1
    assert served.arena.slots[0]["connected"] == 1


def test_a_socket_is_told_to_be_connected_while_it_is(served: Served) -> None:
    """Whoever has no address to send to must not send to itself."""
    slots = served.arena.slots["connected"]
    session = SessionTable(8).open("Anna again", HOME, served.single.port, 0.0)
    assert session is not None
    session.number, session.slot = 7, 2
    served.single.rename(1, session)
    assert slots[[0, 2]].tolist() == [0, 7]
    served.single.forget(7, goodbye=False)
    assert not slots.any()


def test_a_flood_of_audio_from_a_clients_address_is_not_all_judged(served: Served) -> None:
    began_s = time.monotonic()
    for _ in range(3000):
        served.come(60_000, port=7000)
    judged, most = served.hub.lobby["nobody"], (time.monotonic() - began_s + 1) * DEAR_PER_S + 1
    assert DEAR_PER_S <= judged <= most
    assert served.hub.lobby["unjudged"] == 3000 - judged


def test_what_is_no_audio_is_counted_and_no_more(served: Served) -> None:
    for head, length in ((b"", 0), (bytes(63), 63), (bytes(16), 16), (b"\xff" * 64, 1400)):
        served.single._take(address_bytes(HOME), 7000, head, length)
    served.single._take(
        address_bytes(HOME), 7000, pack_header(AudioHeader(0, 0, 128, 3, 16, 2, 2)), 500
    )
    assert served.hub.lobby["malformed"] == 5


def test_a_port_that_nobody_can_be_answered_at_is_nobodys(served: Served) -> None:
    session = SessionTable(8).open("Bea", ip_address("127.0.0.2"), served.single.port, 0.0)
    assert session is not None
    with udp_socket(HOME) as sock:
        session.number = 2
        served.single.expect(session, sock, HOME)
        head = pack_header(AudioHeader(0, 0, 128, 3, 16, 2, 2)) + bytes(48)
        served.single._take(address_bytes(session.address), 0, head, 16 + 512)
        assert sock.getsockname()[1] == 0
        assert served.hub.lobby["malformed"] == 1
        served.single._take(address_bytes(session.address), 6000, head, 16 + 512)
        assert sock.getpeername() == ("127.0.0.2", 6000)


def test_a_session_that_ends_leaves_the_port_to_the_lobby(served: Served) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        served.sock.connect(peer.getsockname())
        served.single.forget(1, goodbye=False)
        peer.sendto(b"still here", ("127.0.0.1", served.single.port))
        with pytest.raises(BlockingIOError):
            served.sock.recv(100)
    assert 1 not in served.single
