"""Virtual clients: UDP sockets that send programmes on an exact schedule and listen.

A ``Player`` repeats its signal for ever; ``Band`` is the thread that sends for several
players at once, so that a test is free to kill and to turn knobs meanwhile. It measures
its own punctuality: a take in which the senders were late says nothing about the hub.

Both threads need the interpreter. Were the test's one waiting for a CPU while it has that,
the band's would wait with it, whatever its priority: so both get the same.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np

from shared.protocol import EXIT_PACKET, AudioHeader, pack_header
from tests.workers.hearing import Wire, to_bytes

_SO_RCVBUFFORCE = 33
_SWITCH_S = 0.0005
APART_S = 0.0004
"""Spread over a packet's time, as clients that know nothing of each other."""
_PRIORITY = 5
"""Below the workers'; above everything else that runs on the machine."""

Route = Callable[[int], Sequence[int]]


def straight(k: int) -> Sequence[int]:
    """Every datagram once, in order."""
    return (k,)


class Player:
    """One client.

    Args:
        signal: (channels, n) of wire values (see ``hearing``), repeated; n is a whole
            number of packets.
        wants: channels it wants to receive; as many as it sends unless given.
        first: number of its first packet.
        route: which datagrams leave when number k is due: none, several, another.
        address: of its socket; the hub's is of the same family.
    """

    def __init__(
        self,
        signal: Wire,
        *,
        frames: int = 128,
        bits: int = 16,
        wants: int | None = None,
        rate_code: int = 3,
        redundancy: int = 1,
        first: int = 0,
        route: Route = straight,
        address: str = "127.0.0.1",
    ) -> None:
        self.signal = signal
        self.channels = int(signal.shape[0])
        length = int(signal.shape[1])
        assert length % frames == 0
        self.frames = frames
        self.bits = bits
        self.wants = self.channels if wants is None else wants
        self.rate_code = rate_code
        self.redundancy = redundancy
        self.first = first
        self.route = route
        self.slot = -1
        self.hub = ("127.0.0.1", 0)
        self.steps = 0
        """Packets that were due so far."""
        self.newest = -1
        """The last of those that left."""
        self.late_s = 0.0
        """The worst delay of a send."""
        self.returned: list[bytes] = []
        self.exits = 0
        self._payloads = [
            to_bytes(signal[:, at : at + frames], bits) for at in range(0, length, frames)
        ]
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)

    @property
    def packet_bytes(self) -> int:
        return 16 + self.frames * self.channels * self.bits // 8

    def packet(self, k: int) -> bytes:
        """Full packet k; zero bytes before the first."""
        if k < 0:
            return bytes(self.packet_bytes)
        header = AudioHeader(
            0, (self.first + k) & 0xFFFF, self.frames, self.rate_code, self.bits,
            self.wants, self.channels,
        )  # fmt: skip
        return pack_header(header) + self._payloads[k % len(self._payloads)]

    def datagram(self, k: int) -> bytes:
        """Packet k and its redundant predecessors, newest first."""
        return b"".join(self.packet(k - age) for age in range(self.redundancy))

    def step(self) -> None:
        """Send what is due next."""
        for k in self.route(self.steps):
            self.send(self.datagram(k))
            self.newest = max(self.newest, k)
        self.steps += 1

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            self.socket.sendto(data, self.hub)

    def say_goodbye(self) -> None:
        for _ in range(2):
            self.send(EXIT_PACKET)

    def collect(self) -> None:
        """Take in what has come back so far."""
        while True:
            try:
                data, sender = self.socket.recvfrom(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            assert sender[:2] == self.hub, f"from {sender} instead of {self.hub}"
            if data == EXIT_PACKET:
                self.exits += 1
            else:
                self.returned.append(data)

    def hears(self) -> bool:
        """Whether anything at all has come back."""
        self.collect()
        return bool(self.returned)

    def close(self) -> None:
        self.socket.close()


def schedule(policy: int, priority: int) -> None:
    """How this thread gets a CPU, if it may choose; what it starts is not to inherit it."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


class Band:
    """Plays for several players from ``with`` to its end.

    Args:
        apart_s: how long after one's packets the next one's leave.
    """

    def __init__(
        self, players: Sequence[Player], rate: int = 48000, apart_s: float = APART_S
    ) -> None:
        self._rate = rate
        self._apart_s = apart_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="band")
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._queue: list[tuple[float, int, Player]] = []
        self._due: dict[Player, float] = {}
        self._gone: set[Player] = set()
        self._count = 0
        self._add(players)

    def _add(self, players: Sequence[Player]) -> None:
        start = time.monotonic() + 0.005
        with self._lock:
            for player in players:
                self._count += 1
                due = start + self._count * self._apart_s
                heapq.heappush(self._queue, (due, self._count, player))

    def add(self, *players: Player) -> None:
        """Others begin."""
        self._add(players)

    def remove(self, player: Player) -> None:
        """A player sends no more; it still listens."""
        self._gone.add(player)

    def __enter__(self) -> Band:
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        gc.disable()  # a full collection takes longer than a queue
        self._thread.start()
        schedule(os.SCHED_FIFO, _PRIORITY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """All stop sending, and hear what is still on its way."""
        self._stopping.set()
        self._thread.join()
        schedule(os.SCHED_OTHER, 0)
        gc.enable()
        sys.setswitchinterval(self._switch_s)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        schedule(os.SCHED_FIFO, _PRIORITY)
        try:
            while not self._stopping.is_set():
                self._next()
            time.sleep(0.05)
            for _, _, player in self._queue:
                player.collect()
        except BaseException as error:
            self._failure = error

    def _next(self) -> None:
        with self._lock:
            due, number, player = heapq.heappop(self._queue)
        pause = due - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if player not in self._gone:
            player.step()
            player.late_s = max(player.late_s, time.monotonic() - due)
        player.collect()
        with self._lock:
            heapq.heappush(self._queue, (due + player.frames / self._rate, number, player))


def noise(
    frames: int, channels: int = 2, *, bits: int = 16, seed: int = 1, level: float = 0.25
) -> Wire:
    """Reproducible noise as wire values, (channels, frames), without a zero in it."""
    rng = np.random.default_rng(seed)
    shape = channels, frames
    signs = rng.choice((-1, 1), shape)
    values: Wire
    if bits == 32:
        values = (rng.uniform(0.01 * level, level, shape) * signs).astype(np.float32)
    else:
        values = rng.integers(1, int(level * (1 << (bits - 1))), shape) * signs
    return values


def sine(frames: int, *, hz: float = 440.0, rate: int = 48000, peak: int = 30000) -> Wire:
    """A 16-bit sine, (1, frames), that repeats without a seam if frames are whole periods."""
    phase = 2 * np.pi * hz / rate * np.arange(frames)
    values: Wire = np.rint(peak * np.sin(phase)).astype(np.int64)[np.newaxis]
    return values
