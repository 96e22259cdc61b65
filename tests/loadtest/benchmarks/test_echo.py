"""The echo returns whatever it is sent, to whoever sent it."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest

from loadtest.conduct import servers
from loadtest.conduct.servers import Server
from shared.protocol import (
    EXIT_PACKET,
    MAX_DATAGRAM_BYTES,
    AudioHeader,
    pack_header,
    pack_hello,
    parse_answer,
)

pytestmark = pytest.mark.living

CLIENTS = 300
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with servers.echo(CLIENTS, cpus=os.sched_getaffinity(0), realtime=False) as server:
        yield server


def udp_port(echo: Server, hello: bytes) -> int:
    """The port that the echo answers to a hello."""
    with socket.create_connection((echo.host, echo.port), DEADLINE_S) as tcp:
        tcp.sendall(hello)
        return parse_answer(tcp.recv(4))


def datagram(frames: int, channels: int, bits: int, copies: int) -> bytes:
    """Full packets of noise, newest first."""
    packets = []
    for age in range(copies):
        header = AudioHeader(0, copies - age, frames, 3, bits, channels, channels)
        packets.append(pack_header(header) + random.randbytes(frames * channels * bits // 8))
    return b"".join(packets)


def returned(port: int, sent: list[bytes]) -> list[bytes]:
    """What comes back of datagrams sent from one socket, one after another."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(DEADLINE_S)
        for each in sent:
            udp.sendto(each, ("127.0.0.1", port))
            found.append(udp.recv(MAX_DATAGRAM_BYTES + 1))
    return found


@pytest.mark.end_to_end
def test_three_hundred_clients_of_mixed_sizes(echo: Server) -> None:
    formats = [(64, 1, 8, 1), (128, 2, 16, 1), (256, 2, 24, 2), (512, 16, 32, 1), (16, 1, 16, 4)]
    ports = [udp_port(echo, pack_hello(61000 + n, f"player {n}")) for n in range(CLIENTS)]

    assert len(set(ports)) == CLIENTS
    for n, port in enumerate(ports):
        sent = [datagram(*formats[n % len(formats)])]
        assert returned(port, sent) == sent


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "sent", [EXIT_PACKET, b"x", bytes(MAX_DATAGRAM_BYTES)], ids=["exit", "byte", "longest"]
)
def test_anything_comes_back(echo: Server, sent: bytes) -> None:
    port = udp_port(echo, pack_hello(61000, "somebody"))
    assert returned(port, [sent, sent]) == [sent, sent]


@pytest.mark.end_to_end
def test_client_without_a_name_is_answered(echo: Server) -> None:
    port = udp_port(echo, pack_hello(61000, None))
    assert returned(port, [b"here"]) == [b"here"]


@pytest.mark.end_to_end
def test_caller_without_a_hello_harms_nobody(echo: Server) -> None:
    with socket.create_connection((echo.host, echo.port), DEADLINE_S):
        pass
    assert udp_port(echo, pack_hello(61000, "somebody")) > 0
