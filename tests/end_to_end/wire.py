"""A wire between a client and the hub that can be listened to and cut.

The client is told to connect here; its hello goes on to the hub, and so does every
datagram, from a socket of the wire's own. To the hub the client then looks as if it
sat behind a NAT: its datagrams come from another port than its hello announced.

    jacktrip -C 127.0.0.1 -P wire.port        wire               hub
      UDP p  <------------------------->  near | far  <------>  UDP 61002+i

The far socket belongs to the port of the client's hello, and stays when the client
comes back with the same one.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

EXIT_PACKET = b"\xff" * 63

# What becomes of a datagram: the datagrams to send in its place, given its number and itself.
Impairment = Callable[[int, bytes], list[bytes]]


def perfect(number: int, datagram: bytes) -> list[bytes]:
    """No impairment."""
    return [datagram]


@dataclass(frozen=True, slots=True)
class Passage:
    """One datagram that came by."""

    at_s: float
    source_port: int
    datagram: bytes

    @property
    def is_exit(self) -> bool:
        return self.datagram == EXIT_PACKET

    @property
    def sequence(self) -> int:
        return int(struct.unpack_from("<H", self.datagram, 8)[0])


@dataclass(slots=True)
class _Direction:
    impairment: Impairment = perfect
    passages: list[Passage] = field(default_factory=list)


class Wire:
    """Relay of one or more clients to a hub on 127.0.0.1.

    Attributes:
        port: TCP port to give to the clients.
        up, down: impairments and passages, as they came, towards the hub and from it.
    """

    def __init__(self, hub_port: int) -> None:
        self._hub_port = hub_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.up = _Direction()
        self.down = _Direction()
        self._far: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._accept, daemon=True),
            threading.Thread(target=self._relay, daemon=True),
        ]

    def __enter__(self) -> Wire:
        self._listener.settimeout(0.1)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        for far in self._far.values():
            far.close()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def passed_down(self) -> list[Passage]:
        """What the hub sent so far."""
        with self._lock:
            return list(self.down.passages)

    def passed_up(self) -> list[Passage]:
        """What the clients sent so far."""
        with self._lock:
            return list(self.up.passages)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, (client_host, _) = self._listener.accept()
            except TimeoutError:
                continue
            with near, socket.create_connection(("127.0.0.1", self._hub_port), 10) as far:
                near.settimeout(10)
                hello = _exactly(near, 68)
                far.sendall(hello)
                hub_udp_port = struct.unpack("<i", _exactly(far, 4))[0]
                client_port = struct.unpack_from("<i", hello)[0]
                answer = self._connect((client_host, client_port), hub_udp_port)
                near.sendall(struct.pack("<i", answer))

    def _connect(self, client: tuple[str, int], hub_udp_port: int) -> int:
        """Relay between this client and this port of the hub; the near port for the client."""
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        near.bind(("127.0.0.1", 0))
        near.setblocking(False)
        with self._lock:
            far = self._far.get(client[1])
            if far is None:
                far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                far.bind(("127.0.0.1", 0))
                far.setblocking(False)
                self._far[client[1]] = far
            else:
                self._selector.unregister(far)
        self._selector.register(near, selectors.EVENT_READ, (far, lambda: hub_udp_port, self.up))
        self._selector.register(far, selectors.EVENT_READ, (near, lambda: client[1], self.down))
        port: int = near.getsockname()[1]
        return port

    def _relay(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                target, target_port, direction = key.data
                while True:
                    try:
                        datagram, (_, port) = source.recvfrom(65536)
                    except (BlockingIOError, ConnectionRefusedError):
                        break
                    with self._lock:
                        number = len(direction.passages)
                        direction.passages.append(Passage(time.monotonic(), port, datagram))
                    for out in direction.impairment(number, datagram):
                        try:
                            target.sendto(out, ("127.0.0.1", target_port()))
                        except OSError:  # the other side has just gone
                            continue


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes")
        data += part
    return data
