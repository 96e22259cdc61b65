"""The shared port with real sockets: the kernel demultiplexes, and nothing goes to another's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from hub.addresses import sockaddr_to
from hub.lobby import PAUSE_S, TURN, Lobby, SinglePortError, join_port, park
from hub.ports import bind_udp, udp_socket
from loadtest.conduct.ports import PORTS

LOCALS = ["127.0.0.1", "127.0.0.7", "::1"]


class Came:
    """What came to a lobby."""

    def __init__(self) -> None:
        self.all: list[tuple[bytes, int, bytes, int]] = []
        self.lobby = Lobby(PORTS.take(), lambda *each: self.all.append(each))
        self.lobby.bind()

    @property
    def port(self) -> int:
        return self.lobby.port

    def read(self, until: Callable[[], bool]) -> None:
        """Serve the lobby until something holds."""

        async def serve() -> None:
            self.lobby.open()
            async with asyncio.timeout(10.0):
                while not until():
                    await asyncio.sleep(PAUSE_S)

        asyncio.run(serve())


@pytest.fixture
def came() -> Iterator[Came]:
    made = Came()
    yield made
    made.lobby.close()


def client(local: str, came: Came) -> socket.socket:
    """A client's socket, connected to the hub there."""
    sock = udp_socket(ip_address(local))
    sock.bind(sockaddr_to(ip_address(local), 0))
    sock.connect(sockaddr_to(ip_address(local), came.port))
    return sock


def served(local: str, came: Came, peer: socket.socket) -> socket.socket:
    """The hub's socket for it."""
    sock = udp_socket(ip_address(local))
    join_port(sock, ip_address(local), came.port, peer.getsockname())
    return sock


def all_of(sock: socket.socket) -> list[bytes]:
    """What lies in a socket."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(65536))
    return found


def test_each_socket_has_its_own_clients_datagrams(came: Came) -> None:
    """Of many at one port, of both families; and the lobby has what is of nobody."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for k in range(60):
            local = LOCALS[k % 3]
            peer = stack.enter_context(client(local, came))
            pairs.append((peer, stack.enter_context(served(local, came, peer))))
        strangers = [stack.enter_context(client(local, came)) for local in LOCALS]
        for k, (peer, _) in enumerate(pairs):
            peer.send(b"%d" % k)
        for stranger in strangers:
            stranger.send(b"who is there?")
        for k, (peer, sock) in enumerate(pairs):
            assert all_of(sock) == [b"%d" % k]
            sock.send(b"you are %d" % k)
            assert all_of(peer) == [b"you are %d" % k]
        came.read(lambda: len(came.all) == 3)
        assert {port for _, port, _, _ in came.all} == {s.getsockname()[1] for s in strangers}
        assert {head[: len(b"who")] for _, _, head, _ in came.all} == {b"who"}


@pytest.mark.parametrize("local", LOCALS)
def test_a_half_made_socket_takes_nothing_from_the_lobby(came: Came, local: str) -> None:
    """What comes between bind and connect is lost, and not another's."""
    address = ip_address(local)
    with client(local, came) as peer, client(local, came) as other:

        class Slow(socket.socket):
            """Connects after others have sent."""

            def connect(self, where: Any) -> None:
                for each in (peer, other):
                    for _ in range(50):
                        each.send(b"meanwhile")
                super().connect(where)

        with Slow(fileno=udp_socket(address).detach()) as slow:
            join_port(slow, address, came.port, peer.getsockname())
            other.send(b"to the lobby")
            peer.send(b"mine")
            assert all_of(slow) == [b"mine"]
            came.read(lambda: any(head.startswith(b"to the") for _, _, head, _ in came.all))


@pytest.mark.parametrize("local", LOCALS)
def test_a_parked_socket_hears_nobody_and_can_be_connected_again(came: Came, local: str) -> None:
    with client(local, came) as peer, client(local, came) as moved:
        with served(local, came, peer) as sock:
            park(sock)
            peer.send(b"to the lobby")
            came.read(lambda: len(came.all) == 1)
            assert all_of(sock) == []
            for each in (peer, moved, peer):
                sock.connect(each.getsockname())
                each.send(b"again")
                assert all_of(sock) == [b"again"]
        peer.send(b"to the lobby")
        came.read(lambda: len(came.all) == 2)


def test_the_port_is_nobody_elses(came: Came) -> None:
    """Another hub of the same user cannot have it, nor any program that is not us."""
    with pytest.raises(SinglePortError, match="in use"):
        Lobby(came.port, lambda *each: None).bind()
    with pytest.raises(OSError, match="in use"):
        bind_udp(ip_address("127.0.0.1"), came.port)
    with client("127.0.0.1", came) as peer, served("127.0.0.1", came, peer):
        came.lobby.close()
        with pytest.raises(SinglePortError, match="in use"):
            Lobby(came.port, lambda *each: None).bind()


def test_a_flood_is_read_in_turns(came: Came) -> None:
    """The loop goes on between them, and what is too much is the kernel's to drop."""
    turns = 0
    with client("127.0.0.1", came) as peer:
        for _ in range(50 * TURN):
            peer.send(bytes(600))

        async def serve() -> None:
            nonlocal turns
            came.lobby.open()
            seen = -1
            async with asyncio.timeout(10.0):
                while seen != len(came.all):
                    assert len(came.all) - max(seen, 0) <= 2 * TURN
                    seen = len(came.all)
                    turns += 1
                    await asyncio.sleep(2 * PAUSE_S)

        asyncio.run(serve())
    assert came.lobby.pauses >= 2
    assert len(came.all) <= 50 * TURN
    assert {length for _, _, _, length in came.all} == {600}


def test_source_and_length_are_told(came: Came) -> None:
    with client("127.0.0.7", came) as four, client("::1", came) as six:
        four.send(bytes(1488))
        six.send(b"")
        came.read(lambda: len(came.all) == 2)
        told = {(address, port): length for address, port, _, length in came.all}
        assert told == {
            (bytes(10) + b"\xff\xff\x7f\0\0\7", four.getsockname()[1]): 1488,
            (bytes(15) + b"\1", six.getsockname()[1]): 0,
        }
