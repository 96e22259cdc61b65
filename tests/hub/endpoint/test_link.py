"""The way to the other side: its names, its addresses, and those of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest

from hub.addresses import address_of_words, address_words
from hub.endpoint import handshake
from hub.endpoint.config import Role
from hub.endpoint.handshake import Introduction, NotLetIn, find, shake_hands
from hub.endpoint.link import PEER, Link, disconnect, make_arena, open_socket
from hub.endpoint.resolving import make_endpoint
from shared.arena import Arena
from shared.layout import RxState

HOME = IPv4Address("127.0.0.1")


@pytest.fixture
def arena() -> Iterator[Arena]:
    fd, arena = make_arena(make_endpoint(Role.CLIENT, "h", tone_hz=440), 48000, 128)
    yield arena
    os.close(fd)


@pytest.fixture
def link(arena: Arena) -> Iterator[Link]:
    config = make_endpoint(Role.CLIENT, "h", tone_hz=440)
    with open_socket(0) as sock:
        yield Link(config, arena, sock, lambda session: None, lambda session: None)


def source(sock: socket.socket) -> str:
    return str(sock.getsockname()[0]).removeprefix("::ffff:")


def test_each_session_takes_the_address_that_leads_there_now_and_the_port_stays(
    link: Link,
) -> None:
    """127.0.0.1 is not the way to a documentation address, as an address that has gone is not."""
    port = link.sock.getsockname()[1]
    link.open(HOME, 9, sole=True, fresh=True)
    assert source(link.sock) == "127.0.0.1"
    link.open(ip_address("192.0.2.1"), 9, sole=True, fresh=True)
    assert source(link.sock) != "127.0.0.1"
    assert link.sock.getsockname()[1] == port
    if link.sock.family == socket.AF_INET6:
        link.open(ip_address("::1"), 9, sole=True, fresh=True)
        assert source(link.sock) == "::1"
    link.open(HOME, 9, sole=True, fresh=True)
    assert source(link.sock) == "127.0.0.1"
    assert link.sock.getsockname()[1] == port


def test_a_hub_that_answers_from_another_of_its_addresses_is_heard_by_its_port(
    link: Link, arena: Arena
) -> None:
    link.open(HOME, 61002, sole=True, fresh=True)
    rx = arena.rx[PEER]
    rx["session"], rx["state"], rx["foreign"] = link.number, RxState.WAITING, 1
    rx["foreign_high"], rx["foreign_low"] = address_words(IPv4Address("127.0.0.2"))
    rx["foreign_port"] = 61003
    assert link.widen() is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub:
        hub.bind(("127.0.0.2", 0))
        hub.sendto(b"x", ("127.0.0.1", link.sock.getsockname()[1]))
    assert link.sock.recv(1) == b"x"
    rx["foreign_port"] = 61002
    assert link.widen() == IPv4Address("127.0.0.2")
    order = arena.slots[PEER]
    found = address_of_words(int(order["peer_high"]), int(order["peer_low"]))
    assert found == IPv4Address("127.0.0.2")
    assert link.widen() is None


def test_ipv4_is_marked_as_well_as_ipv6() -> None:
    with open_socket(0) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0xE0
        disconnect(sock)


def test_all_addresses_of_a_host_are_known() -> None:
    assert asyncio.run(find("127.0.0.1")) == [HOME]
    assert HOME in asyncio.run(find("localhost"))
    with pytest.raises(NotLetIn) as caught:
        asyncio.run(find("a" * 70 + ".invalid"))
    assert caught.value.final


def test_a_name_server_that_is_silent_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it waited for for ever, nor does it hold up who wants to leave meanwhile."""
    answers = threading.Event()

    def silence(*_: object, **__: object) -> list[object]:
        answers.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silence)
    monkeypatch.setattr(handshake, "LOOK_UP_S", 0.05)
    with pytest.raises(NotLetIn, match="no name server") as caught:
        asyncio.run(asyncio.wait_for(find("hub.example.org"), 5))
    assert not caught.value.final
    answers.set()


def test_who_is_turned_away_by_a_hub_that_is_there_knows_it() -> None:
    async def full() -> NotLetIn:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(NotLetIn) as caught:
                await shake_hands(HOME, port, Introduction(4464, "", None))
        return caught.value

    error = asyncio.run(full())
    assert error.answered
    assert not error.final
