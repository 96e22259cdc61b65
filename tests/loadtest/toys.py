"""A toy hub in Python: right, or deliberately wrong in one way.

It has no clock: it mixes whenever every client has a packet waiting, so that nothing it
does depends on how busy the machine is, and every fault found in it was put there.
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

from shared.layout import PatchMode
from shared.protocol import EXIT_BYTES, HEADER_BYTES, HELLO_BYTES, pack_answer

Pcm = npt.NDArray[np.int32]


class Behaviour:
    """What happens to each return packet; subclasses do it wrong."""

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        """What a listener gets in its count-th packet; voices: (channels, frames) each."""
        own = voices[listener]
        everybody: Pcm = np.sum(voices, axis=0, dtype=np.int32)
        match mode:
            case PatchMode.LOOPBACK:
                return own
            case PatchMode.FAN_OUT_NO_SELF:
                return everybody - own
            case PatchMode.FULL_MIX:
                return everybody
            case _:
                return np.zeros_like(own)

    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        """The datagrams in place of this one."""
        return [packet]


@dataclass(slots=True)
class _Client:
    udp: socket.socket
    peer: tuple[str, int] | None = None
    waiting: deque[Pcm] = field(default_factory=deque)
    header: bytes = b""
    sequence: int = 0
    count: int = 0


class ToyHub:
    """A hub for exactly `clients` clients on 127.0.0.1.

    Attributes:
        port: its TCP port.
        exits: exit packets that came.
    """

    def __init__(
        self, clients: int, mode: PatchMode, channels: int = 2, behaviour: Behaviour | None = None
    ) -> None:
        self.mode = mode
        self.channels = channels
        self.behaviour = behaviour or Behaviour()
        self.exits = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._clients = [_Client(_udp()) for _ in range(clients)]
        self.stranger = _udp()
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
        for each in (self._listener, self._stop, self.stranger, *(c.udp for c in self._clients)):
            each.close()

    def peer(self, index: int) -> tuple[str, int]:
        """Where a client sends from."""
        peer = self._clients[index].peer
        assert peer is not None
        return peer

    def _answer_hellos(self) -> None:
        index = 0
        while True:
            try:
                tcp, _ = self._listener.accept()
            except OSError:
                return
            with tcp:
                hello = b""
                while len(hello) < HELLO_BYTES and (more := tcp.recv(HELLO_BYTES)):
                    hello += more
                if index < len(self._clients):
                    tcp.sendall(pack_answer(self._clients[index].udp.getsockname()[1]))
                    index += 1

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
                    self.exits += 1
                    continue
                client.header = data[:HEADER_BYTES]
                pcm = np.frombuffer(data, "<i2", offset=HEADER_BYTES).astype(np.int32)
                client.waiting.append(pcm.reshape(self.channels, -1))

    def _mix_what_is_complete(self) -> None:
        if not self._started and all(client.waiting for client in self._clients):
            self._started = True
            for client in self._clients:  # what came before all were there
                while len(client.waiting) > 1:
                    client.waiting.popleft()
        while self._started and all(client.waiting for client in self._clients):
            voices = [client.waiting.popleft() for client in self._clients]
            for index, client in enumerate(self._clients):
                pcm = self.behaviour.mix(index, client.count, voices, self.mode)
                self._send(index, client, pcm.astype("<i2").tobytes())

    def _send(self, index: int, client: _Client, pcm: bytes) -> None:
        assert client.peer is not None
        header = client.header[:8] + struct.pack("<H", client.sequence) + client.header[10:]
        client.sequence = (client.sequence + 1) & 0xFFFF
        for datagram in self.behaviour.packets(index, client.count, header + pcm):
            client.udp.sendto(datagram, client.peer)
        client.count += 1


def _udp() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return udp


@contextlib.contextmanager
def toy_hub(
    clients: int, mode: PatchMode, channels: int = 2, behaviour: Behaviour | None = None
) -> Iterator[ToyHub]:
    """A toy hub for the length of a block."""
    hub = ToyHub(clients, mode, channels, behaviour)
    try:
        yield hub
    finally:
        hub.close()
