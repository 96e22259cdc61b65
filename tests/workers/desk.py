"""A mixing desk for tests of return streams: strips on an arena, listeners, a real socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from shared.arena import Arena
from shared.layout import STRIP_DEPTH, PatchMode, RxState
from shared.protocol import parse_datagram
from tests.workers import twins
from tests.workers.arenas import arena_of
from tests.workers.twins import Doubles, Floats
from workers.pacing import ENTRIES, MAX_PHASES, PHASES, begin_tick
from workers.rows import load_row
from workers.transmit import Lane, make_lane, serve_listener

SESSION = 3


@dataclass
class Desk:
    """Strips on an arena, one or more listeners, and the socket that all are heard on."""

    arena: Arena
    lane: Lane
    hub: socket.socket
    ear: socket.socket
    tick: int = 20
    wall_us: int = 1_795_323_038_698_913
    strips: dict[int, Floats] = field(default_factory=dict)

    @property
    def period(self) -> int:
        return int(self.arena.header[0]["period_frames"])

    @property
    def upmix(self) -> bool:
        return bool(self.arena.header[0]["upmix"])

    def listener(
        self,
        slot: int,
        *,
        frames: int = 128,
        bits: int = 16,
        wants: int = 2,
        sends: int = 2,
        rate_code: int = 3,
        redundancy: int = 1,
        session: int = SESSION,
        rate_hz: int = 0,
    ) -> twins.Listener:
        """A client that has joined; returns its twin."""
        rx = self.arena.rx[slot]
        rx["frames"], rx["bits"], rx["wants"], rx["channels"] = frames, bits, wants, sends
        rx["rate_code"], rx["redundancy"], rx["session"] = rate_code, redundancy, session
        rx["rate_hz"] = rate_hz
        rx["state"] = RxState.ACTIVE
        address, port = self.ear.getsockname()
        name = struct.pack("<H", socket.AF_INET) + struct.pack(">H", port)
        name += socket.inet_aton(address) + bytes(8)
        rx["sockaddr"][:16] = np.frombuffer(name, np.uint8)
        rx["sockaddr_bytes"] = 16
        self.lane.fds[slot], self.lane.sessions[slot] = self.hub.fileno(), session
        return twins.Listener(
            slot,
            frames=frames,
            bits=bits,
            wants=wants,
            sends=sends,
            rate_code=rate_code,
            period=self.period,
            upmix=self.upmix,
        )

    def publish(self, strips: dict[int, Floats]) -> Doubles:
        """The mixer's part: strips and buses of the next tick; returns the buses."""
        self.tick += 1
        self.wall_us += 1234
        self.strips = strips
        now = self.tick % STRIP_DEPTH
        voices, buses = self.arena.voices[now], self.arena.buses[now]
        voices[:], buses[:] = 0, 0
        control, clock = self.arena.control[0], self.arena.clock[0]
        clock["patch"][now], clock["master"][now] = control["patch"], control["master"]
        for slot, strip in strips.items():
            voices[slot] = len(strip)
            self.arena.strips[now, slot, : len(strip)] = strip
            for channel in range(16):
                heard = twins.source_channel(len(strip), channel, self.upmix)
                if heard is not None:
                    buses[channel] += strip[heard]
        copy: Doubles = buses.copy()
        return copy

    def mode(self, mode: PatchMode) -> None:
        self.arena.control[0]["patch"] = mode

    def levels(self, slot: int, levels: dict[int, float]) -> None:
        """A listener's row of levels, as the supervisor writes it and mails it."""
        row = self.arena.pair[slot]
        row[:] = np.nan
        for source, wanted in levels.items():
            row[source] = wanted
        self.arena.slots[slot]["overrides"] = len(levels)
        load_row(row, self.arena.pair_pan[slot], slot, 1, self.lane.rows)

    def serve(self, slot: int) -> list[bytes]:
        """Serve one listener; what it was sent."""
        serve_listener(self.arena, slot, self.tick, self.hub.fileno(), self.wall_us, self.lane)
        return self.heard()

    def serve_timed(self, slot: int, others: int = 0) -> list[tuple[float, bytes]]:
        """As ``serve``: what leaves with the tick and after it, and how many hub frames after.

        Args:
            others: packets that wait already.
        """
        schedule = self.lane.schedule
        begin_tick(self.arena.header[0], self.tick, schedule)
        schedule.state[ENTRIES] = others
        sent = [(0.0, datagram) for datagram in self.serve(slot)]
        phases = schedule.state[PHASES]
        for phase in range(MAX_PHASES):
            entry = schedule.first[phase]
            schedule.first[phase] = 0
            while entry:
                start = schedule.starts[entry]
                datagram = schedule.data[start : start + schedule.sizes[entry]].tobytes()
                sent.append((phase * self.period / phases, datagram))
                entry = schedule.following[entry]
        return sent

    def heard(self) -> list[bytes]:
        """Datagrams that have come, in order."""
        found = []
        while True:
            try:
                found.append(self.ear.recv(70_000))
            except BlockingIOError:
                return found


@contextmanager
def desk_of(
    *, slots: int = 3, period: int = 128, upmix: bool = False, rate_hz: int = 48000
) -> Iterator[Desk]:
    with (
        arena_of(slots=slots, period=period, upmix=upmix, rate_hz=rate_hz) as arena,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
    ):
        hub.bind(("127.0.0.1", 0))
        ear.bind(("127.0.0.1", 0))
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        ear.setblocking(False)
        yield Desk(arena, make_lane(slots, period, rate_hz), hub, ear)


def noise(rng: np.random.Generator, channels: int, frames: int) -> Floats:
    """16-bit noise, a third of full scale: three voices stay below the encoder's limit."""
    return (rng.integers(-11000, 11000, (channels, frames)) / 32768).astype(np.float32)


def decoded(datagram: bytes) -> Doubles:
    """(channels, frames) of a datagram's newest packet."""
    header, _ = parse_datagram(datagram)
    payload = datagram[16 : header.packet_bytes]
    size = len(payload) // header.sends
    if header.bits == 32:
        return np.frombuffer(payload, "<f4").reshape(header.sends, -1).astype(np.float64)
    channels = [payload[c * size : (c + 1) * size] for c in range(header.sends)]
    samples: Doubles = np.array([twins.decode(data, header.bits)[0] for data in channels])
    return samples
