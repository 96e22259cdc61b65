"""The receiver's own kernels against twins, and headers that ask for more than is fair."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.layout import EndReason, PatchMode, RxState
from shared.protocol import EXIT_PACKET, MAX_REDUNDANCY, AudioHeader, pack_header, parse_header
from tests.workers.arenas import arena_of, sending
from tests.workers.rig import Rig, wait_until
from workers.receiver import LOOKED_AT, _measure_jitter, crowd

pytestmark = pytest.mark.alone


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9_000_000)), min_size=1, max_size=60),
)
def test_jitter_is_the_deviation_from_the_senders_spacing(steps: list[tuple[int, int]]) -> None:
    """Given packets some steps apart, when they come this much later than the one before."""
    sequence, arrival, expected = 0, 1_000_000_000, 0
    with arena_of() as arena:
        header, rx = arena.header[0], arena.rx[0]
        sending(arena, 128)
        rx["arrival_ns"] = arrival
        for count, spacing in steps:
            sequence, arrival = sequence + count, arrival + spacing
            expected += abs(spacing - count * 128 * 1_000_000_000 // int(header["rate_hz"]))
            _measure_jitter(rx, sequence, arrival)
            rx["highest"] = sequence
        assert rx["jitter_ns"] == expected
        assert int(rx["jitter"].sum()) == len(steps)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FULL_MIX)
    yield rig
    rig.stop()


class Visitor:
    """A bare socket at a new slot of the hub."""

    def __init__(self, rig: Rig) -> None:
        self.slot = rig.open()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(rig.hub(self.slot))

    def send(self, frames: int, wants: int, sends: int, bits: int, copies: int, k: int) -> None:
        header = AudioHeader(0, k, frames, 3, bits, wants, sends)
        packet = pack_header(header) + bytes(header.packet_bytes - 16)
        self.socket.send((packet * copies)[:65507])


def test_packets_below_sixteen_frames_open_no_session(rig: Rig) -> None:
    visitor = Visitor(rig)
    for frames in range(1, 16):
        visitor.send(frames, 1, 1, 8, 1, 0)
    wait_until(lambda: rig.counter(visitor.slot, "malformed") == 15)
    assert rig.state(visitor.slot) is RxState.WAITING


def test_a_thousand_copies_are_answered_with_a_few(rig: Rig) -> None:
    visitor = Visitor(rig)
    packet_bytes = 16 + 16
    for k in range(8):
        visitor.send(16, 1, 1, 8, 65507 // packet_bytes, k)
    wait_until(lambda: rig.state(visitor.slot) is RxState.ACTIVE)
    assert rig.counter(visitor.slot, "redundancy") == MAX_REDUNDANCY
    data = visitor.socket.recv(65536)
    assert len(data) == packet_bytes * MAX_REDUNDANCY


def test_the_number_of_copies_is_settled_by_the_first_datagram(rig: Rig) -> None:
    visitor = Visitor(rig)
    for k in range(40):
        visitor.send(128, 2, 2, 16, 1 + k % 3, k)
    wait_until(lambda: rig.state(visitor.slot) is RxState.ACTIVE)
    assert rig.counter(visitor.slot, "redundancy") == 1
    assert len(visitor.socket.recv(65536)) == parse_header(visitor.socket.recv(65536)).packet_bytes


def test_a_session_begins_with_the_newest_of_what_waited_for_its_receiver(rig: Rig) -> None:
    """Counted from the oldest, all that follows would be played so much later."""
    visitor = Visitor(rig)
    pid = rig.counter(visitor.slot, "pid")
    os.kill(pid, signal.SIGSTOP)
    try:
        for k in range(20):
            visitor.send(128, 2, 2, 16, 1, k)
            time.sleep(0.003)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: rig.state(visitor.slot) is RxState.ACTIVE)
    assert rig.counter(visitor.slot, "base_sequence") & 0xFFFF >= 18


def test_who_wants_more_than_a_datagram_holds_is_told_goodbye(rig: Rig) -> None:
    visitor = Visitor(rig)
    visitor.send(1024, 16, 1, 32, 1, 0)
    assert visitor.socket.recv(65536) == EXIT_PACKET
    wait_until(lambda: rig.state(visitor.slot) is RxState.ENDED)
    assert rig.reason(visitor.slot) is EndReason.TOO_LARGE


@given(st.lists(st.booleans(), min_size=1, max_size=LOOKED_AT - 1), st.integers(1, 4), st.data())
def test_few_who_conceal_share_a_cores_time(
    lacks: list[bool], cores: int, data: st.DataObject
) -> None:
    with arena_of(slots=len(lacks)) as arena:
        arena.header[0]["cores"] = cores
        arena.rx["state"] = RxState.ACTIVE
        arena.rx["watermark"] = np.where(lacks, 999, 1000)
        pids = data.draw(st.lists(st.integers(1, 3), min_size=len(lacks), max_size=len(lacks)))
        arena.rx["pid"] = pids
        slot = data.draw(st.integers(0, len(lacks) - 1))
        others = [pid for k, pid in enumerate(pids) if lacks[k] and k != slot]
        here = others.count(pids[slot])
        assert crowd(arena, slot, 1000) == 1 + (here + (len(others) - here) / cores)


@given(st.integers(LOOKED_AT, 1000), st.floats(0, 1), st.integers(0, 9))
def test_of_many_some_tell_how_many_conceal(slots: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with arena_of(slots=slots) as arena:
        arena.header[0]["cores"] = 1
        arena.rx["state"] = np.where(rng.random(slots) < 0.9, RxState.ACTIVE, RxState.WAITING)
        arena.rx["watermark"] = np.where(rng.random(slots) < share, 999, 1000)
        slot = int(rng.integers(slots))
        arena.rx["pid"] = np.arange(slots)
        waiting = (arena.rx["state"] == RxState.ACTIVE) & (arena.rx["watermark"] == 999)
        step = slots // LOOKED_AT + 1
        seen = int(waiting[slot % step :: step].sum()) - bool(waiting[slot])
        assert crowd(arena, slot, 1000) == 1 + seen * step
        assert abs(crowd(arena, slot, 1000) - 1 - waiting.sum()) < slots * 0.5 + step
