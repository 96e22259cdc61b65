"""Hand-made clients: a hello, a UDP socket, a steady tone, and ears."""

from __future__ import annotations

import itertools
import select
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

import numpy as np

from shared.protocol import (
    EXIT_PACKET,
    EXIT_REPEATS,
    HEADER_BYTES,
    RATES_HZ,
    AudioHeader,
    pack_header,
    pack_hello,
    parse_answer,
    parse_header,
)

HELLO_TIMEOUT_S = 20.0
EARS = 4000
"""Packets that are remembered."""


def say_hello(
    hub_port: int,
    name: str | None,
    udp_port: int = 4464,
    address: str = "127.0.0.1",
    host: str = "",
) -> int | None:
    """The hub's UDP port for a client of this address; None when it will not have us.

    host: where the hub is, if not at that address as well.
    """
    with socket.create_connection(
        (host or address, hub_port), HELLO_TIMEOUT_S, source_address=(address, 0)
    ) as tcp:
        tcp.sendall(pack_hello(udp_port, name))
        answer = b""
        while len(answer) < 4 and (more := tcp.recv(4 - len(answer))):
            answer += more
    return parse_answer(answer) if answer else None


class Musician:
    """A client that plays a constant on all its channels, a packet a period.

    Attributes:
        level: 16-bit sample value it plays.
        period_s: how long one of its packets lasts.
        port: the hub's UDP port that serves it.
        exits: exit packets that came.
        late_s: the worst delay of a packet it sent; may be set back.
    """

    def __init__(
        self,
        hub_port: int,
        name: str | None = "musician",
        *,
        level: int = 1000,
        address: str = "127.0.0.1",
        host: str = "",
        udp_port: int = 0,
        frames: int = 128,
        channels: int = 2,
        rate_code: int = 3,
    ) -> None:
        self.level, self.frames, self.channels = level, frames, channels
        self.period_s = frames / RATES_HZ[rate_code]
        self.exits = 0
        self.late_s = 0.0
        self._rate_code = rate_code
        self._heard: deque[tuple[AudioHeader, int]] = deque(maxlen=EARS)
        self._strangers = 0
        self._sequence = 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((address, udp_port))
        self.udp_port: int = self._socket.getsockname()[1]
        host = host or address
        port = say_hello(hub_port, name, self.udp_port, address, host)
        if port is None:
            self._socket.close()
            raise ConnectionRefusedError(f"the hub will not have {name!r}")
        self.port = port
        self._hub = (host, port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Say good-bye, as a client does that is stopped."""
        if not self._stop.is_set():
            self.fall_silent()
            for _ in range(EXIT_REPEATS):
                self._socket.sendto(EXIT_PACKET, self._hub)
        self._socket.close()

    def fall_silent(self) -> None:
        """Send no more, as a client does that was killed; its socket stays open."""
        self._stop.set()
        self._thread.join(5.0)

    @property
    def heard(self) -> list[tuple[AudioHeader, int]]:
        """Packets that came back: header, and the first sample (16 bit)."""
        return list(self._heard)

    @property
    def hears(self) -> int | None:
        """First sample of the newest packet."""
        return self._heard[-1][1] if self._heard else None

    def hears_only(self, level: int, packets: int) -> bool:
        """Whether so many packets have come, and the newest all began with this sample."""
        newest = [sample for _, sample in self.heard[-packets:]]
        return newest == [level] * packets

    def heard_since(self, packet: int) -> list[int]:
        """First samples of this packet and all after it."""
        return [sample for header, sample in self.heard if header.sequence >= packet]

    @property
    def packets(self) -> int:
        """How many packets came back, by the hub's own count."""
        return self._heard[-1][0].sequence + 1 if self._heard else 0

    def skipped(self) -> int:
        """Packet numbers that are missing in what came back; fails on any out of order."""
        numbers = [header.sequence for header, _ in self.heard]
        steps = [b - a for a, b in itertools.pairwise(numbers)]
        assert all(step >= 1 for step in steps), f"numbers go back or repeat: {numbers}"
        return sum(step - 1 for step in steps)

    @property
    def strangers(self) -> int:
        """Datagrams that did not come from the hub's port."""
        return self._strangers

    def _play(self) -> None:
        due = time.monotonic()
        ears = select.poll()  # not select(): the number of our socket may be beyond its reach
        ears.register(self._socket, select.POLLIN)
        while not self._stop.is_set():
            self._send()
            self.late_s = max(self.late_s, time.monotonic() - due)
            # who came late does not send it all at once, but hears all that is there
            due = max(due + self.period_s, time.monotonic() - 0.05)
            while True:
                self._hear_all()
                wait_s = due - time.monotonic()
                if wait_s <= 0.0 or self._stop.is_set():
                    break
                ears.poll(1000.0 * wait_s)

    def _hear_all(self) -> None:
        for _ in range(EARS):
            try:
                data, source = self._socket.recvfrom(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # ICMP's answer to a packet of ours
                continue
            self._listen(data, source)

    def stamp_us(self) -> int:
        """TimeStamp of the next packet: none of a clock."""
        return 0

    def _send(self) -> None:
        header = AudioHeader(
            self.stamp_us(), self._sequence & 0xFFFF, self.frames, self._rate_code, 16,
            self.channels, self.channels,
        )  # fmt: skip
        self._sequence += 1
        samples = np.full(self.channels * self.frames, self.level, "<i2")
        try:
            self._socket.sendto(pack_header(header) + samples.tobytes(), self._hub)
        except OSError:
            return

    def _listen(self, data: bytes, source: tuple[object, ...]) -> None:
        if source[:2] != self._hub:
            self._strangers += 1
        elif data == EXIT_PACKET:
            self.exits += 1
        else:
            sample = int.from_bytes(data[HEADER_BYTES : HEADER_BYTES + 2], "little", signed=True)
            self._heard.append((parse_header(data), sample))
