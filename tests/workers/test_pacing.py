"""Packets that leave between ticks: when, in which order, and that nothing of them is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import PatchMode
from shared.protocol import BIT_RESOLUTIONS, parse_datagram
from tests.machine import to_oneself
from tests.workers.desk import Desk, desk_of, noise
from tests.workers.players import Band, Player
from tests.workers.players import noise as programme
from tests.workers.rig import Rig, wait_until
from tests.workers.takes import LATE_S
from workers.pacing import ENTRIES, MAX_PACKETS, NEVER_NS, PHASES, next_due
from workers.transmit import serve_tick

ONE = 1 << 32
_SO_TIMESTAMPNS = 35


@contextmanager
def paced_desk(period: int = 128, slots: int = 3) -> Iterator[Desk]:
    with desk_of(period=period, slots=slots) as desk:
        desk.arena.header[0]["pacing"] = 1
        desk.mode(PatchMode.FULL_MIX)
        yield desk


def departures(desk: Desk, ticks: int) -> np.ndarray:
    """Hub frames at which the packets of slot 0 leave; they are all there and in order."""
    found = []
    for _ in range(ticks):
        desk.publish({})
        found += [
            (desk.tick * desk.period + after, datagram) for after, datagram in desk.serve_timed(0)
        ]
    numbers = [parse_datagram(datagram)[0].sequence for _, datagram in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return np.array([at for at, _ in found])


# ---- when


@settings(max_examples=60)
@given(
    period=st.sampled_from([16, 32, 64, 128, 240, 256, 441, 480, 1024]),
    frames=st.one_of(st.sampled_from([16, 32, 64, 128, 441, 480]), st.integers(16, 1024)),
)
def test_packets_leave_as_far_apart_as_they_are_long(period: int, frames: int) -> None:
    """From the first on, to one phase; each in its tick's period, and one of them at its start."""
    with paced_desk(period) as desk:
        desk.listener(0, frames=frames, bits=8, wants=1)
        pattern = frames // np.gcd(frames, period)  # ticks until it repeats
        at = departures(desk, max(int(min(pattern, 200)), 4 * frames // period + 1))
        quantum = period / desk.lane.schedule.state[PHASES]
    assert np.all(np.abs(np.diff(at) - frames) < quantum + 1e-6)
    ends = 21 * period + frames * (1 + np.arange(len(at)))  # of their sound, on the hub's timeline
    tick_start = (ends - 1) // period * period
    assert np.all(at >= tick_start)
    assert np.all(at < tick_start + period)
    # an even schedule cannot be earlier: somebody's sound is only there when its packet leaves
    if pattern <= 200 and len(at) >= period // np.gcd(frames, period):
        assert np.min(at - tick_start) == 0


@pytest.mark.parametrize(
    ("frames", "phases"),
    [(128, [0] * 4), (256, [0] * 4), (1024, [0] * 4), (64, [0, 4] * 2), (32, [0, 2, 4, 6]),
     (16, [0, 1, 2, 3, 4, 5, 6, 7])],
)  # fmt: skip
def test_phases_of_usual_sizes(frames: int, phases: list[int]) -> None:
    with paced_desk() as desk:
        desk.listener(0, frames=frames, bits=8, wants=1)
        at = departures(desk, 4 * max(1, frames // 128))
    assert [round(one % 128 / 16) for one in at[: len(phases)]] == phases


@pytest.mark.parametrize("ppm", [300, -300])
def test_drifting_client_gets_packets_at_its_own_pace(ppm: float) -> None:
    """Over ten seconds they pass a tick's border more than once; then all are even."""
    with paced_desk() as desk:
        desk.arena.header[0]["match_clients"] = 1
        desk.listener(0, bits=8, wants=1)
        rx = desk.arena.rx[0]
        rx["clock_ratio"], rx["clock_certain"] = ppm * 1e-6, 1
        departures(desk, 1)
        desk.lane.returns.steps[0] = round((1 / (1 + ppm * 1e-6) - 1) * ONE)
        desk.lane.returns.owed[0] = 0
        at = departures(desk, 3750)
    settled = at[3400:]  # 128 frames were drifted after 3333 packets
    assert np.all(np.abs(np.diff(settled) - 128 / (1 + ppm * 1e-6)) < 16.1)
    assert len(at) in (3750 + round(ppm / 300), 3750 + 2 * round(ppm / 300))


# ---- what


@settings(max_examples=40)
@given(
    frames=st.sampled_from([16, 48, 64, 100, 441]),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    redundancy=st.integers(1, 3),
    seed=st.integers(0, 1 << 32),
)
def test_paced_packets_are_those_of_the_tick(
    frames: int, bits: int, redundancy: int, seed: int
) -> None:
    """In the same order, older copies included; only their time differs, and says when they left.

    Ticks are missed: a packet that is ended with silence leaves at once.
    """
    sent: list[list[bytes]] = []
    for paced in (1, 0):
        rng = np.random.default_rng(seed)
        with paced_desk() as desk:
            desk.arena.header[0]["pacing"] = paced
            desk.listener(0, frames=frames, bits=bits, redundancy=redundancy)
            sent.append([])
            for _ in range(8):
                if rng.random() < 0.2:
                    desk.tick += int(rng.integers(1, 9))
                desk.publish({1: noise(rng, 2, 128), 2: noise(rng, 1, 128)})
                for after, datagram in desk.serve_timed(0):
                    left_us = int.from_bytes(datagram[:8], "little") - desk.wall_us
                    assert abs(left_us - after / 48e-3) <= 1.0
                    size = parse_datagram(datagram)[0].packet_bytes
                    parts = [datagram[at : at + size] for at in range(0, len(datagram), size)]
                    sent[-1].append(b"".join(part[8:] for part in parts))
    assert sent[0] == sent[1]


def test_what_waits_is_sent_before_the_next_tick_is_served() -> None:
    """By ``serve_tick``, when the lane had no time before; in the order of its phases."""
    with paced_desk() as desk:
        desk.listener(0, frames=16)
        desk.listener(1, frames=64)
        for _ in range(2):
            desk.publish({})
            assert serve_tick(desk.arena, 0, 0, desk.tick, desk.wall_us, desk.lane) == 2
        found = [parse_datagram(datagram)[0] for datagram in desk.heard()]
        assert desk.lane.schedule.state[ENTRIES] == 7 + 1
    assert [(header.frames, header.sequence) for header in found] == [
        (16, 0), (64, 0), *((16, n) for n in range(1, 5)), (64, 1), (16, 5), (16, 6), (16, 7),
        (16, 8), (64, 2),
    ]  # fmt: skip


def test_packets_of_a_session_that_is_over_are_not_sent() -> None:
    with paced_desk() as desk:
        desk.listener(0, frames=64)
        desk.publish({})
        serve_tick(desk.arena, 0, 0, desk.tick, desk.wall_us, desk.lane)
        desk.lane.sessions[0] += 1  # the slot's next client; its socket came by mail
        desk.publish({})
        serve_tick(desk.arena, 0, 0, desk.tick, desk.wall_us, desk.lane)
        assert len(desk.heard()) == 1
        assert next_due(desk.lane.schedule) == NEVER_NS


def test_what_finds_no_room_leaves_at_once_and_in_order() -> None:
    with paced_desk() as desk:
        desk.listener(0, frames=16)
        for others in (0, MAX_PACKETS - 7, MAX_PACKETS - 8):
            desk.publish({})
            sent = desk.serve_timed(0, others)
            assert (len({after for after, _ in sent}) == 1) == (others == MAX_PACKETS - 7)
            found = [parse_datagram(datagram)[0].sequence for _, datagram in sent]
            assert found == list(range(found[0], found[0] + 8))


# ---- with real clocks


class Timed(Player):
    """A client that knows when each packet came: the kernel's own times, in s."""

    def listen(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.times: list[float] = []

    def collect(self) -> None:
        while True:
            try:
                data, control, _, _ = self.socket.recvmsg(65536, 64)
            except BlockingIOError:
                return
            seconds, nanos = np.frombuffer(control[0][2][:16], np.int64)
            self.times.append(float(seconds % 100_000) + 1e-9 * float(nanos))
            self.returned.append(data)


@pytest.mark.living
@pytest.mark.parametrize("lanes", [0, 1])
def test_small_packets_come_evenly(lanes: int) -> None:
    """At 64 frames on a hub of 128: the middle of all gaps."""
    player = Timed(programme(64 * 60, bits=16, seed=1, level=0.3), frames=64)
    player.listen()
    rig = Rig(lanes=lanes)
    off_us = []
    try:
        rig.join(player)
        with to_oneself(), Band([player]):
            wait_until(player.hears)
            for paced in (1, 0):
                rig.arena.header[0]["pacing"] = paced
                time.sleep(0.01)
                known = len(player.times)
                wait_until(lambda known=known: len(player.times) > known + 300)  # type: ignore[misc]
                gaps = np.diff(player.times[known : known + 300])
                off_us.append(1e6 * float(np.median(np.abs(gaps - 64 / 48000))))
        assert int(rig.arena.lanes[lanes]["paced"]) > 100
        missed = int(rig.arena.lanes[lanes]["missed"])  # not those before the mixer's first
        assert missed < 100 or player.late_s > LATE_S  # by a machine that halts
    finally:
        rig.stop()
        player.close()
    paced_us, burst_us = off_us
    assert paced_us < 300 < 1000 < burst_us < 1700
