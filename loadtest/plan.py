"""What a load run is: how many clients of which format, for how long, and who speaks when.

Packets have numbers on one common grid: packet k of client i is due at
``t0 + k * period + phase(i)``. Who speaks is a function of k alone, so that both the
sender and the checker know it without telling each other::

    k      first           first+turn      first+2*turn                last
           |<- on ->|      |<- on ->|      |<- on ->|                  |
    voice  client 0  ..... client 1  ..... client 2  ..... and round   silence
           |<----- turn -->|

In loopback (mode 1) nothing is mixed, and all speak from first to last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from shared.layout import PatchMode
from shared.protocol import HEADER_BYTES

MAX_CLIENTS = 8000
"""Loopback addresses are numbered 250 a block, and one process has descriptors for so many."""
SECOND_NS = 1_000_000_000
EXPECTED_MODES = (PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE)


class PlanError(ValueError):
    """A setting is out of range; the text says which, and what would be right."""


class Sources(StrEnum):
    """Where clients send from."""

    ADDRESSES = "addresses"
    """Each from its own address 127.1.x.y, all through one socket: thousands are cheap."""
    PORTS = "ports"
    """All from one address, each from its own port and socket: for hubs on other machines."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One load run.

    Attributes:
        host: the hub's address.
        port: its TCP port.
        clients: how many.
        seconds: length of the measured window.
        frames: samples per channel in a packet.
        rate_hz: sample rate.
        channels: sent and wanted.
        mode: what the hub is expected to do (its ``-p``).
        burst: all packets of a period at once, instead of spread evenly over it.
        sources: one address a client, or one port.
        join_rate: handshakes begun a second; 0: all at once.
        settle_s: quiet time between the last join and the window.
        talk_packets: packets a turn is spoken.
        pause_packets: packets of silence after it. Must be longer than the hub's queues
            differ between clients, or two voices overlap and count as wrong.
        step_us: the generator looks at its sockets at most this often.
    """

    host: str = "127.0.0.1"
    port: int = 4464
    clients: int = 10
    seconds: float = 10.0
    frames: int = 128
    rate_hz: int = 48000
    channels: int = 2
    mode: PatchMode = PatchMode.FULL_MIX
    burst: bool = False
    sources: Sources = Sources.ADDRESSES
    join_rate: float = 100.0
    settle_s: float = 1.0
    talk_packets: int = 6
    pause_packets: int = 8
    step_us: int = 50

    def __post_init__(self) -> None:
        ranges: tuple[tuple[str, float, float, float], ...] = (
            ("port", self.port, 1, 65535),
            ("clients", self.clients, 1, MAX_CLIENTS),
            ("seconds", self.seconds, 0.1, 86400),
            ("frames", self.frames, 16, 1024),
            ("rate", self.rate_hz, 8000, 192000),
            ("channels", self.channels, 1, 16),
            ("join rate", self.join_rate, 0, 100_000),
            ("settle", self.settle_s, 0, 60),
            ("talk", self.talk_packets, 1, 1000),
            ("pause", self.pause_packets, 1, 1000),
            ("step", self.step_us, 1, 1000),
        )
        for name, value, low, high in ranges:
            if not low <= value <= high:
                raise PlanError(f"{name}: {value} is not in {low:g}..{high:g}")
        if self.mode not in EXPECTED_MODES:
            allowed = ", ".join(str(int(mode)) for mode in EXPECTED_MODES)
            raise PlanError(f"mode: {int(self.mode)} cannot be checked; one of {allowed}")

    @property
    def period_ns(self) -> float:
        """Nanoseconds between two packets of a client."""
        return self.frames * SECOND_NS / self.rate_hz

    @property
    def packets(self) -> int:
        """Packets a client sends in the measured window."""
        return round(self.seconds * self.rate_hz / self.frames)

    @property
    def turn_packets(self) -> int:
        return self.talk_packets + self.pause_packets

    @property
    def payload_bytes(self) -> int:
        """Audio bytes of a packet; 16 bit."""
        return 2 * self.channels * self.frames

    @property
    def packet_bytes(self) -> int:
        return HEADER_BYTES + self.payload_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain values for a report."""
        return {**asdict(self), "mode": int(self.mode), "sources": str(self.sources)}
