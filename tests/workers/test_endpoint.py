from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shared.arena import Arena
from shared.layout import RING_FRAMES, STRIP_DEPTH, EndpointSlot, EndReason, RxState
from shared.protocol import EXIT_PACKET, SILENCE_TIMEOUT_S
from tests.workers.arenas import arena_of
from workers import stay
from workers.endpoint import exchange
from workers.inbox import make_inbox
from workers.transmit import Lane, make_lane

PEER, DEVICE, STREAM = EndpointSlot
PERIOD = 100
"""No power of two: the line's end falls into a period."""


@pytest.fixture
def arena() -> Iterator[Arena]:
    with arena_of(slots=3, period=PERIOD) as arena:
        arena.rx[DEVICE]["wants"] = 3
        arena.rx[STREAM]["wants"] = 2
        yield arena


@pytest.fixture(scope="module")
def lane() -> Lane:
    return make_lane(3, PERIOD, 48000)


def mixed(arena: Arena, tick: int, peer: int, device: int) -> None:
    """A tick's strips, as if so many channels of each source had sounded; the rest is old."""
    now, rng = tick % STRIP_DEPTH, np.random.default_rng(tick)
    arena.strips[now] = rng.uniform(-1, 1, arena.strips[now].shape)
    arena.buses[now] = 9.0
    arena.voices[now] = (peer, device, 0)


def played(arena: Arena, first: int, frames: int, channel: int) -> Any:
    return arena.lines[DEVICE, channel][np.arange(first, first + frames) % RING_FRAMES]


def test_what_the_peer_sends_is_played_and_what_it_does_not_send_is_silent(
    arena: Arena, lane: Lane
) -> None:
    for tick in range(700, 700 + 2 * RING_FRAMES // PERIOD, 7):
        arena.lines[DEVICE] = 5.0
        arena.tx[DEVICE]["last_tick"] = tick - 3  # two were missed
        mixed(arena, tick, peer=2, device=0)
        exchange(arena, tick, lane)
        for channel in range(3):
            heard = arena.strips[tick % STRIP_DEPTH, PEER, channel]
            want = heard if channel < 2 else np.zeros(PERIOD)
            assert (played(arena, tick * PERIOD, PERIOD, channel) == want).all()
            assert not played(arena, (tick - 2) * PERIOD, 2 * PERIOD, channel).any()
            assert (played(arena, (tick + 1) * PERIOD, 50, channel) == 5.0).all()
        assert (arena.lines[DEVICE, 3] == 5.0).all()  # more than anybody asked for
        assert arena.tx[DEVICE]["last_tick"] == tick


def test_a_long_pause_is_silent_on_all_of_the_line(arena: Arena, lane: Lane) -> None:
    arena.lines[DEVICE] = 5.0
    mixed(arena, 1 << 30, peer=0, device=0)
    exchange(arena, 1 << 30, lane)
    assert not arena.lines[DEVICE, :3].any()


@pytest.mark.parametrize("device", [0, 1, 2])
def test_the_stream_carries_the_device_alone(arena: Arena, lane: Lane, device: int) -> None:
    mixed(arena, 6, peer=2, device=device)
    exchange(arena, 6, lane)
    for channel in range(2):
        said = arena.strips[6 % STRIP_DEPTH, DEVICE, channel].astype(np.float64)
        assert (arena.buses[6 % STRIP_DEPTH, channel] == said * (channel < device)).all()


@pytest.mark.parametrize(("endpoint", "goodbyes"), [(0, 2), (1, 0)])
def test_who_was_silent_is_told_nothing_by_an_endpoint(
    arena: Arena, endpoint: int, goodbyes: int
) -> None:
    """A hub that was silent may be another by now, and its port another client's."""
    arena.header[0]["endpoint"] = endpoint
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub:
        hub.bind(("127.0.0.1", 0))
        hub.setblocking(False)
        address = struct.pack("=H", socket.AF_INET)
        address += struct.pack("!H4s8x", hub.getsockname()[1], bytes((127, 0, 0, 1)))
        rx = arena.rx[PEER]
        rx["state"], rx["valid_ns"] = RxState.KNOCKING, 0
        rx["sockaddr"][: len(address)] = np.frombuffer(address, np.uint8)
        rx["sockaddr_bytes"] = len(address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            fd, inbox = ours.fileno(), make_inbox(1, 48000)
            stay.obey(arena, int(PEER), fd, 0, inbox, int(SILENCE_TIMEOUT_S * 1e9) - 1)
            assert rx["state"] == RxState.KNOCKING
            stay.obey(arena, int(PEER), fd, 0, inbox, int(SILENCE_TIMEOUT_S * 1e9))
        assert (rx["state"], rx["end_reason"]) == (RxState.ENDED, EndReason.SILENCE)
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(hub.recv(100))
        assert got == [EXIT_PACKET] * goodbyes


def test_nothing_is_sent_to_a_peer_that_has_left(arena: Arena, lane: Lane) -> None:
    arena.rx[PEER]["session"] = arena.rx[STREAM]["session"] = 4
    lane.sessions[STREAM] = 4
    mixed(arena, 6, peer=0, device=0)
    for state in (RxState.WAITING, RxState.ACTIVE):
        arena.rx[PEER]["state"] = state
        exchange(arena, 6, lane)
        assert lane.sessions[STREAM] == 4
    arena.rx[PEER]["state"] = RxState.ENDED
    exchange(arena, 6, lane)
    assert lane.sessions[STREAM] == 0
