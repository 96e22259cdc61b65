"""A toy hub on real sockets, in Python: right, or deliberately wrong in one way.

It has no clock: it mixes whenever every client has a packet waiting, so that nothing it does
depends on how busy the machine is, and every fault found in it was put there.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.protocol import EXIT_BYTES, HEADER_BYTES, HELLO_BYTES, pack_answer

Pcm = npt.NDArray[np.int32]
CHANNELS = 2


class Behaviour:
    """Mode 2, everybody hears all others; subclasses do it wrong."""

    def mix(self, listener: int, count: int, voices: list[Pcm]) -> Pcm:
        """What a listener gets in its count-th packet; voices: (channels, frames) each."""
        total: Pcm = np.zeros_like(voices[0])
        for talker, pcm in enumerate(voices):
            if talker != listener:
                total += self.part(listener, talker, pcm)
        return total

    def part(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        """What a talker adds to it."""
        return pcm

    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        """The datagrams in place of this one."""
        return [packet]

    def stray(self, listener: int, count: int) -> bytes:
        """A datagram besides, from another port; empty: none."""
        return b""


@dataclass(slots=True)
class _Client:
    udp: socket.socket
    peer: tuple[str, int] | None = None
    waiting: deque[Pcm] = field(default_factory=deque)
    header: bytes = b""
    count: int = 0


class ToyHub:
    """A hub for exactly `clients` clients on 127.0.0.1, 16 bits and two channels each.

    Attributes:
        port: its TCP port.
    """

    def __init__(self, clients: int, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._clients = [_Client(_udp()) for _ in range(clients)]
        self._by_address: dict[str, _Client] = {}
        self._stranger = _udp()
        self._stop, self._wake = socket.socketpair()
        self._started = False
        self._threads = [
            threading.Thread(target=self._answer_hellos, daemon=True),
            threading.Thread(target=self._serve, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._wake.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        sockets = (self._listener, self._stop, self._stranger, *(c.udp for c in self._clients))
        for each in sockets:
            each.close()

    def _answer_hellos(self) -> None:
        """A client's number is in its address, so that the order of arrival does not matter."""
        while True:
            try:
                tcp, (address, _) = self._listener.accept()
            except OSError:
                return
            with tcp:
                hello = b""
                while len(hello) < HELLO_BYTES and (more := tcp.recv(HELLO_BYTES)):
                    hello += more
                index = int(address.rsplit(".", 1)[1]) - 1
                tcp.sendall(pack_answer(self._clients[index].udp.getsockname()[1]))

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            for index, client in enumerate(self._clients):
                selector.register(client.udp, selectors.EVENT_READ, index)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stop:
                        return
                    self._receive(self._clients[key.data])
                self._mix_what_is_complete()

    def _receive(self, client: _Client) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, client.peer = client.udp.recvfrom(65536)
                if len(data) == EXIT_BYTES:
                    continue
                client.header = data[:HEADER_BYTES]
                pcm = np.frombuffer(data, "<i2", offset=HEADER_BYTES).astype(np.int32)
                client.waiting.append(pcm.reshape(CHANNELS, -1))

    def _mix_what_is_complete(self) -> None:
        if not self._started and all(client.waiting for client in self._clients):
            self._started = True
            for client in self._clients:  # what came before all were there
                while len(client.waiting) > 1:
                    client.waiting.popleft()
        while self._started and all(client.waiting for client in self._clients):
            voices = [client.waiting.popleft() for client in self._clients]
            for index, client in enumerate(self._clients):
                pcm = self._behaviour.mix(index, client.count, voices)
                self._send(index, client, pcm.astype("<i2").tobytes())

    def _send(self, index: int, client: _Client, pcm: bytes) -> None:
        assert client.peer is not None
        number = struct.pack("<H", client.count & 0xFFFF)
        packet = client.header[:8] + number + client.header[10:] + pcm
        for datagram in self._behaviour.packets(index, client.count, packet):
            client.udp.sendto(datagram, client.peer)
        if stray := self._behaviour.stray(index, client.count):
            self._stranger.sendto(stray, client.peer)
        client.count += 1


def _udp() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return udp


@contextlib.contextmanager
def toy_hub(clients: int, behaviour: Behaviour) -> Iterator[ToyHub]:
    """A toy hub for the length of a block."""
    hub = ToyHub(clients, behaviour)
    try:
        yield hub
    finally:
        hub.close()
