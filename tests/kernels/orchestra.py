"""An arena with so many clients, as the mixer and the lanes find it in the midst of a session."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from shared.arena import Arena
from shared.layout import STRIP_DEPTH, PatchMode, RxState
from shared.protocol import AudioHeader, pack_header
from tests.workers.arenas import arena_of
from workers.inbox import Inbox, make_inbox
from workers.mixer import Sources, make_sources
from workers.transmit import Lane, make_lane

SESSION = 5
PERIOD = 128
_FOREVER = 1 << 60
_PORT = 4464


@dataclass
class Orchestra:
    """Everybody is there, and all their samples are in time, for ever.

    Attributes:
        sources, lane: the mixer's and the lane's memory.
        tick: (1,) int64, the next.
    """

    arena: Arena
    sources: Sources
    lane: Lane
    tick: np.ndarray[tuple[int], np.dtype[np.int64]]


def sockaddr(port: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """(32,) uint8, sockaddr_in of 127.0.0.1."""
    name = np.zeros(32, np.uint8)
    raw = struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + bytes([127, 0, 0, 1])
    name[: len(raw)] = np.frombuffer(raw, np.uint8)
    return name


@contextmanager
def orchestra(
    clients: int, *, mode: PatchMode = PatchMode.FULL_MIX, bits: int = 16, send: bool = False
) -> Iterator[Orchestra]:
    """Clients of stereo packets as long as the period, and soft enough not to clip.

    Args:
        send: to a socket that nobody reads, through the whole of the kernel's UDP; else to a
            descriptor that is none, which the system call finds out at once.
    """
    rng = np.random.default_rng(1)
    with (
        arena_of(slots=clients, period=PERIOD) as arena,
        open(os.devnull, "rb") as no_socket,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
    ):
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        ear.bind(("127.0.0.1", 0))
        arena.control[0]["patch"] = mode
        arena.clock[0]["patch"][:], arena.clock[0]["master"][:] = mode, 1.0
        rx = arena.rx
        for name, value in {
            "state": RxState.ACTIVE, "session": SESSION, "frames": PERIOD, "bits": bits,
            "rate_code": 3, "channels": 2, "wants": 2, "redundancy": 1, "ring_frames": 4096,
            "watermark": _FOREVER, "sockaddr_bytes": 16,
        }.items():  # fmt: skip
            rx[name] = value
        rx["sockaddr"] = sockaddr(ear.getsockname()[1])
        arena.rings[:, :2, :4096] = rng.uniform(-1, 1, 4096).astype(np.float32) / (2 * clients)
        arena.strips[:, :, :2] = rng.uniform(-1, 1, PERIOD).astype(np.float32) / (2 * clients)
        arena.voices[:] = 2
        arena.buses[:, :2] = arena.strips[0, :, :2].sum(axis=0)
        lane = make_lane(clients, PERIOD, 48000)
        lane.fds[:] = hub.fileno() if send else no_socket.fileno()
        lane.sessions[:] = SESSION
        yield Orchestra(arena, make_sources(clients), lane, np.array([STRIP_DEPTH], np.int64))


@dataclass
class Seat:
    """One client at its receiver.

    Attributes:
        name: (32,) uint8, its sockaddr; datagram: (bytes,) uint8, a packet of noise.
        number: (1,) int64, of its next packet.
    """

    arena: Arena
    inbox: Inbox
    name: np.ndarray[tuple[int], np.dtype[np.uint8]]
    datagram: np.ndarray[tuple[int], np.dtype[np.uint8]]
    number: np.ndarray[tuple[int], np.dtype[np.int64]]


def packet(frames: int, channels: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """A full packet of noise."""
    rng = np.random.default_rng(2)
    head = pack_header(AudioHeader(0, 0, frames, 3, bits, channels, channels))
    if bits == 32:
        body = rng.uniform(-0.5, 0.5, frames * channels).astype("<f4").tobytes()
    else:
        body = rng.bytes(frames * channels * bits // 8)
    return np.frombuffer(head + body, np.uint8).copy()


@contextmanager
def seat(frames: int, channels: int, bits: int) -> Iterator[Seat]:
    """A client that the hub expects, whose first packet is yet to come."""
    with arena_of(slots=1, period=PERIOD) as arena:
        name = sockaddr(_PORT)
        order, rx = arena.slots[0], arena.rx[0]
        order["session"] = order["admit"] = SESSION
        order["queue_packets"] = 4
        raw = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
        order["peer_high"], order["peer_low"] = np.frombuffer(raw, np.int64)
        rx["state"], rx["session"], rx["frames"] = RxState.WAITING, SESSION, frames
        inbox = make_inbox(1, 48000)
        yield Seat(arena, inbox, name, packet(frames, channels, bits), np.zeros(1, np.int64))
