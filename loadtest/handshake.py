"""The TCP side of a virtual client: hello out, the hub's UDP port back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.plan import Plan, Sources
from loadtest.wires import client_address
from shared.protocol import Answer, PeerError, pack_hello, parse_answer

ANSWER_TIMEOUT_S = 10.0


class HandshakeError(RuntimeError):
    """The hub did not let a client in; the text says what it did instead."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A client that may send.

    Attributes:
        index: which client.
        hub_port: the UDP port it was answered.
        started_ns: CLOCK_MONOTONIC when its TCP connection was begun.
        answered_ns: when the answer was there.
    """

    index: int
    hub_port: int
    started_ns: int
    answered_ns: int


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and address of a host name, the first that the resolver returns, as clients do.

    Raises:
        OSError: no such host.
    """
    family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    return socket.AddressFamily(family), str(address[0])


async def join(plan: Plan, index: int, family: int, host: str, udp_port: int) -> Joined:
    """One handshake, as a client from 1.3 on does it.

    Raises:
        HandshakeError: refused, no answer, or a code in place of a port.
    """
    started_ns = time.monotonic_ns()
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_STREAM) as tcp:
        tcp.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if plan.sources == Sources.ADDRESSES:
                    tcp.bind((client_address(index), 0))
                await loop.sock_connect(tcp, (host, plan.port))
                await loop.sock_sendall(tcp, pack_hello(udp_port, f"load {index + 1}"))
                answer = b""
                while len(answer) < 4 and (more := await loop.sock_recv(tcp, 4 - len(answer))):
                    answer += more
            port = parse_answer(answer)
        except TimeoutError as error:
            raise HandshakeError(f"client {index}: no answer in {ANSWER_TIMEOUT_S:g} s") from error
        except (OSError, PeerError) as error:
            raise HandshakeError(f"client {index}: {error}") from error
    if port > 0xFFFF:
        with contextlib.suppress(ValueError):
            raise HandshakeError(f"client {index}: the hub answered {Answer(port).name}")
        raise HandshakeError(f"client {index}: the hub answered {port}, which is no port")
    return Joined(index, port, started_ns, time.monotonic_ns())


async def join_all(
    plan: Plan,
    family: int,
    host: str,
    udp_ports: list[int],
    joined: Callable[[Joined], None],
) -> list[str]:
    """Let all clients in, ``join_rate`` a second, and announce each as soon as it is.

    Returns:
        What went wrong, a line a client.
    """
    begin = time.monotonic()
    problems: list[str] = []

    async def one(index: int) -> None:
        if plan.join_rate:
            await asyncio.sleep(begin + index / plan.join_rate - time.monotonic())
        try:
            joined(await join(plan, index, family, host, udp_ports[index % len(udp_ports)]))
        except HandshakeError as error:
            problems.append(str(error))

    await asyncio.gather(*(one(index) for index in range(plan.clients)))
    return problems
