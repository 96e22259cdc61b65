"""A bad network between real clients and the hub, in a process of its own.

A client is told to connect here. Its hello goes on to the hub, and it is answered with a
port of the relay; the hub gets its datagrams from another one, as from behind a NAT::

    jacktrip -C 127.0.0.1 -P relay.port        relay              hub
      UDP p  <-------------------------->  near | far  <------>  UDP base+i

What befalls the datagrams in between, each direction of each client by itself, is the
matter of `weather.py`. They are let go at an absolute time, counted from their arrival;
with real-time priority, if that is permitted, some hundredths of a millisecond late.

The relay ends with the process that started it, and after `LIFE_S` at the latest.
"""

from __future__ import annotations

import contextlib
import heapq
import multiprocessing
import os
import select
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.end_to_end.weather import PERFECT, Fate, Path, Weather

LIFE_S = 600.0
ANSWER_S = 30.0
HERE = "127.0.0.1"
_HELLO_BYTES = 68
_EXIT_BYTES = 63
_BUFFER_BYTES = 4 << 20
_PRIORITY = 12
"""Above JACK's clients, so that their work is not part of the delay; below the hub's receivers."""

PASSAGE = np.dtype(
    [
        ("client", np.int32),  # in the order of their hellos
        ("down", np.int32),  # 0: towards the hub
        ("sequence", np.int64),  # of its newest packet, extended beyond 16 bits; -1: none
        ("bytes", np.int64),
        ("fate", np.int64),
        ("copies", np.int64),  # that pass
        ("held", np.int64),  # of these still here
        ("arrival_ns", np.int64),  # CLOCK_MONOTONIC
        ("due_ns", np.int64),  # of the first copy
        ("sent_ns", np.int64),  # 0: not yet
    ]
)
"""One datagram that came by."""
_HELD, _SENT = (list(PASSAGE.names or ()).index(name) for name in ("held", "sent_ns"))


class Way(IntEnum):
    """A direction."""

    UP = 0
    DOWN = 1


class Relay:
    """Handle of the relay's process, to be used as a context manager.

    Attributes:
        port: TCP port to give to the clients.
    """

    def __init__(self, hub_port: int, seed: int = 1) -> None:
        # Not forked: this process may have threads, and JACK's library in it.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, hub_port, seed, LIFE_S), name="relay", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            self.port: int = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the clients hear nothing more."""
        self._pipe.close()
        self._process.join(10.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(10.0)

    def impair(
        self, *, up: Path | None = None, down: Path | None = None, client: int | None = None
    ) -> None:
        """Another network from now on; its fates begin anew.

        Args:
            up, down: None: as it was.
            client: in the order of their hellos; None: all, and all who come later.
        """
        for way, path in ((Way.UP, up), (Way.DOWN, down)):
            if path is not None:
                self._ask("impair", way, path, client)

    def black_out(self, *, up: bool = False, down: bool = False) -> None:
        """Whether nothing at all passes, from now on."""
        self._ask("black_out", up, down)

    def change_port(self, client: int = 0) -> tuple[int, int]:
        """Give a client another port towards the hub; the old one and the new one.

        As when a NAT forgets a mapping: what the hub still sends to the old one is lost.
        """
        old, new = self._ask("change_port", client)
        return int(old), int(new)

    def passages(self) -> NDArray[Any]:
        """(datagrams,) PASSAGE: all that came by since `forget`, in the order of arrival."""
        return np.frombuffer(self._ask("passages"), PASSAGE)

    def forget(self) -> None:
        """Begin to record anew."""
        self._ask("forget")

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, *arguments))
        return self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(ANSWER_S):
            raise AssertionError("the relay does not answer")
        try:
            return self._pipe.recv()
        except EOFError as error:
            raise AssertionError("the relay has ended") from error


@dataclass(slots=True)
class _Path:
    """One direction of a client."""

    weather: Weather
    black: bool = False
    highest: int = -1

    def extended(self, datagram: bytes) -> int:
        """The newest packet's number, without the wrap at 65536; -1 for what is no audio."""
        if len(datagram) < 16 or len(datagram) == _EXIT_BYTES:
            return -1
        number = int(struct.unpack_from("<H", datagram, 8)[0])
        if self.highest < 0:
            self.highest = number
        number = self.highest + (number - self.highest + 32768) % 65536 - 32768
        self.highest = max(self.highest, number)
        return number


@dataclass(slots=True)
class _Client:
    """A client's sockets, and who is at their ends."""

    near: socket.socket
    far: socket.socket
    hub: tuple[str, int]
    paths: tuple[_Path, _Path]
    address: tuple[str, int] | None = None
    old: list[socket.socket] = field(default_factory=list)


def _udp() -> socket.socket:
    new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    new.bind((HERE, 0))
    new.setblocking(False)
    return new


class _Relay:
    """The process's own side: one loop, and a short-lived thread a hello."""

    def __init__(self, pipe: Connection, hub_port: int, seed: int) -> None:
        self.pipe = pipe
        self.hub_port = hub_port
        self.seed = seed
        self.kind = [PERFECT, PERFECT]
        self.changes = 0
        self.listener = socket.create_server((HERE, 0))
        self.clients: list[_Client] = []
        self.queue: list[tuple[int, int, int, Way, int, bytes]] = []
        self.serial = 0
        self.records: list[list[int]] = []
        self.first_record = 0
        # Tells the loop that a hello's thread has taken somebody in.
        self.woken, self.waker = os.pipe()

    def run(self, until_s: float) -> None:
        self.pipe.send(self.listener.getsockname()[1])
        while time.monotonic() < until_s:
            wait_s = 0.5
            if self.queue:
                wait_s = max(0.0, (self.queue[0][0] - time.monotonic_ns()) / 1e9)
            sockets: dict[Any, tuple[int, Way | None]] = {}
            for number, client in enumerate(self.clients):
                sockets[client.near] = number, Way.UP
                sockets[client.far] = number, Way.DOWN
                sockets.update((each, (number, None)) for each in client.old)
            # Unlike epoll's, its timeout counts in microseconds.
            ready, _, _ = select.select(
                [self.listener, self.pipe, self.woken, *sockets], [], [], min(wait_s, 0.5)
            )
            self._let_go()
            for source in ready:
                if source is self.pipe:
                    if not self._obey():
                        return
                elif source is self.listener:
                    threading.Thread(
                        target=self._introduce, args=(self.listener.accept()[0],), daemon=True
                    ).start()
                elif source is self.woken:
                    os.read(self.woken, 1)
                else:
                    self._drain(source, *sockets[source])
            self._let_go()

    def _drain(self, source: socket.socket, number: int, way: Way | None) -> None:
        client = self.clients[number]
        while True:
            try:
                datagram, sender = source.recvfrom(65536)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            now_ns = time.monotonic_ns()
            if way is None:
                self._record(number, Way.DOWN, -1, datagram, Fate.STRAY, now_ns, [])
                continue
            path = client.paths[way]
            sequence = path.extended(datagram)
            fate, times = path.weather.fate(now_ns)
            if way == Way.UP:
                client.address = sender
            elif client.address is None:
                fate, times = Fate.STRAY, []
            if path.black:
                fate, times = Fate.BLACKED_OUT, []
            at = self._record(number, way, sequence, datagram, fate, now_ns, times)
            for due_ns in times:
                self.serial += 1
                heapq.heappush(self.queue, (due_ns, self.serial, number, way, at, datagram))

    def _record(
        self,
        client: int,
        way: Way,
        sequence: int,
        datagram: bytes,
        fate: Fate,
        arrival_ns: int,
        times: list[int],
    ) -> int:
        copies, due_ns = len(times), times[0] if times else 0
        self.records.append(
            [client, way, sequence, len(datagram), fate, copies, copies, arrival_ns, due_ns, 0]
        )
        return self.first_record + len(self.records) - 1

    def _let_go(self) -> None:
        while self.queue and self.queue[0][0] <= time.monotonic_ns():
            _, _, number, way, at, datagram = heapq.heappop(self.queue)
            client = self.clients[number]
            target = client.hub if way == Way.UP else client.address
            socket_ = client.far if way == Way.UP else client.near
            assert target is not None
            with contextlib.suppress(OSError):  # the other side has just gone
                socket_.sendto(datagram, target)
            if at >= self.first_record:
                record = self.records[at - self.first_record]
                record[_HELD] -= 1
                record[_SENT] = record[_SENT] or time.monotonic_ns()

    def _introduce(self, near: socket.socket) -> None:
        """Pass a hello on, and its answer back."""
        with near, contextlib.suppress(OSError):
            near.settimeout(10)
            hello = _exactly(near, _HELLO_BYTES)
            with socket.create_connection((HERE, self.hub_port), 10) as far:
                far.sendall(hello)
                hub_udp_port = struct.unpack("<i", _exactly(far, 4))[0]
            number = len(self.clients)
            paths = (
                _Path(Weather(self.kind[Way.UP], self._seed(number, Way.UP))),
                _Path(Weather(self.kind[Way.DOWN], self._seed(number, Way.DOWN))),
            )
            client = _Client(_udp(), _udp(), (HERE, hub_udp_port), paths)
            port = client.near.getsockname()[1]
            self.clients.append(client)
            os.write(self.waker, b"!")
            near.sendall(struct.pack("<i", port))

    def _seed(self, client: int, way: Way) -> str:
        return f"{self.seed} {client} {way} {self.changes}"

    def _obey(self) -> bool:
        """One command of the handle; False when it is gone."""
        try:
            name, *arguments = self.pipe.recv()
        except (EOFError, OSError):
            return False
        self.pipe.send(getattr(self, f"_on_{name}")(*arguments))
        return True

    def _on_impair(self, way: Way, path: Path, only: int | None) -> None:
        if only is None:
            self.kind[way] = path
        self.changes += 1
        for number, client in enumerate(self.clients):
            if only in (None, number):
                client.paths[way].weather = Weather(path, self._seed(number, way))

    def _on_black_out(self, up: bool, down: bool) -> None:
        for client in self.clients:
            client.paths[Way.UP].black, client.paths[Way.DOWN].black = up, down

    def _on_change_port(self, number: int) -> tuple[int, int]:
        client = self.clients[number]
        client.old.append(client.far)
        client.far = _udp()
        return client.old[-1].getsockname()[1], client.far.getsockname()[1]

    def _on_passages(self) -> bytes:
        return np.array([tuple(each) for each in self.records], PASSAGE).tobytes()

    def _on_forget(self) -> None:
        self.first_record += len(self.records)
        self.records.clear()


def _serve(pipe: Connection, hub_port: int, seed: int, life_s: float) -> None:
    """The process."""
    # A Ctrl-C at the keyboard is for pytest alone; we end when it closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    _Relay(pipe, hub_port, seed).run(time.monotonic() + life_s)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes")
        data += part
    return data
