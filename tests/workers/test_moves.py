"""A client whose port changes is followed; nobody else behind its router takes its place."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.protocol import sequence_step
from tests.workers.arenas import arena_of
from workers.moves import (
    BOUND_US,
    CLOCK_NS,
    MOVE_PAUSE_NS,
    MOVE_RUN,
    SILENT_NS,
    follow,
    note,
    proven,
    timestamp_us,
)

MS, SECOND = 1_000_000, 1_000_000_000
PACKET_NS = 2_666_666
BEGIN_NS = 10**12
HOME, ROUTED, OTHER = 4464, 61_234, 50_000
"""The client's port, the one it moves to, anybody else's."""


class Datagram(NamedTuple):
    """One that came from the client's address, in its format."""

    port: int
    number: int
    stamp_us: int
    at: int


@dataclass
class MovesTwin:
    """Who the client is: lists of what came, and the rules in plain Python."""

    port: int = HOME
    newest: int = 0
    own: int = 0
    looks: list[tuple[int, int]] = field(default_factory=list)
    steady: bool = False
    suspects: list[Datagram] = field(default_factory=list)

    def takes(self, one: Datagram) -> bool:
        """Whether it is the client's."""
        if one.port != self.port and not self.proves(one):
            return False
        self.port, self.own = one.port, one.at
        if not self.looks or one.at - self.looks[-1][1] >= CLOCK_NS:
            self.steady = bool(self.looks) and self.on_time(one)
            self.looks.append((one.stamp_us, one.at))
        step = sequence_step(one.number & 0xFFFF, self.newest & 0xFFFF)
        self.newest += max(step, 0)
        return True

    def proves(self, one: Datagram) -> bool:
        """Whether one from another port is the last of enough."""
        step, silent = sequence_step(one.number & 0xFFFF, self.newest & 0xFFFF), one.at - self.own
        if step < 1 or step * PACKET_NS > silent + BOUND_US * 1000:
            return False
        if not self.steady or not self.on_time(one):
            return False
        if self.suspects:
            last = self.suspects[-1]
            ahead = sequence_step(one.number & 0xFFFF, (last.number + 1) & 0xFFFF)
            if one.port != last.port or one.at - last.at > MOVE_PAUSE_NS:
                self.suspects = []
            elif ahead < 0:
                return False
        self.suspects.append(one)
        if len(self.suspects) < MOVE_RUN or silent < SILENT_NS:
            return False
        self.suspects = []
        return True

    def on_time(self, one: Datagram) -> bool:
        stamp, at = self.looks[-1]
        error = (one.stamp_us - stamp - (one.at - at) // 1000) % 2**32
        return min(error, 2**32 - error) <= BOUND_US


def judged(arrivals: Sequence[Datagram]) -> tuple[list[bool], int]:
    """Which are taken for the client's, by kernels as by the twin; how often it moved."""
    taken, twin = [], MovesTwin(newest=arrivals[0].number)
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["peer_port"], rx["highest"] = HOME, arrivals[0].number
        for one in sorted(arrivals, key=lambda one: one.at):
            number16, stamp = one.number & 0xFFFF, one.stamp_us & 0xFFFFFFFF
            own = one.port == rx["peer_port"]
            if not own and proven(rx, one.port, number16, stamp, one.at, PACKET_NS):
                name = struct.pack("<H", 2) + struct.pack(">H", one.port) + bytes(28)
                follow(rx, np.frombuffer(name, np.uint8), one.port)
                assert bytes(rx["sockaddr"][:5]) == bytes(2) + name[2:4] + bytes(1)
                own = True
            if own:
                note(rx, stamp, one.at)
                rx["highest"] += max(sequence_step(number16, int(rx["highest"]) & 0xFFFF), 0)
            taken.append(own)
            assert own == twin.takes(one)
        assert rx["peer_port"] == twin.port
        assert rx["highest"] == twin.newest
        return taken, int(rx["moves"])


EPOCH_US = 1_795_323_038_698_913


def sent(
    first: int, count: int, *, port: int = HOME, start_ns: int = BEGIN_NS, clock_us: int = EPOCH_US
) -> list[Datagram]:
    """Packets of a client whose clock says clock_us at BEGIN_NS, in time."""
    times = [start_ns + k * PACKET_NS for k in range(count)]
    return [
        Datagram(port, first + k, clock_us + (at - BEGIN_NS) // 1000, at)
        for k, at in enumerate(times)
    ]


def after(arrivals: Sequence[Datagram], count: int, port: int) -> list[Datagram]:
    """The same client goes on from another port."""
    last = arrivals[-1]
    at = last.at + PACKET_NS
    clock = last.stamp_us - (last.at - BEGIN_NS) // 1000
    return sent(last.number + 1, count, port=port, start_ns=at, clock_us=clock)


def through(arrivals: Sequence[Datagram], seed: int, loss: float, jitter_ms: int) -> list[Datagram]:
    """What a network lets pass, and how late."""
    rng = np.random.default_rng(seed)
    passed = [one for one in arrivals if rng.uniform() >= loss]
    return [one._replace(at=one.at + int(rng.uniform() * jitter_ms * MS)) for one in passed]


SECONDS = SECOND // PACKET_NS
"""Packets a second."""


@settings(max_examples=25)
@given(
    st.sampled_from([0, 64_900, 65_500]),
    st.integers(0, 8000),
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([0, 5, 60]),
    st.sampled_from([EPOCH_US, EPOCH_US & 0xFFFFFFFF, (1 << 64) - 1_500_000]),
)
def test_client_that_moves_is_followed(
    first: int, outage_ms: int, seed: int, loss: float, jitter_ms: int, clock_us: int
) -> None:
    """After any outage that does not end the session; it is deaf hardly longer than that."""
    home = sent(first, 3 * SECONDS, clock_us=clock_us)
    away = after(home, outage_ms * MS // PACKET_NS + SECONDS, ROUTED)
    heard = [one for one in away if one.at >= away[0].at + outage_ms * MS]
    arrivals = sorted(
        [*through(home, seed, loss, jitter_ms), *through(heard, seed + 1, loss, jitter_ms)],
        key=lambda one: one.at,
    )
    taken, moves = judged(arrivals)
    assert moves == 1
    ours = [one.at for one, is_ours in zip(arrivals, taken, strict=True) if is_ours]
    again = next(one.at for one in arrivals if one.port == ROUTED and one.at in ours)
    silent_ns = max(SILENT_NS, outage_ms * MS)
    assert again - home[-1].at <= silent_ns + (jitter_ms + 10 * MOVE_RUN) * MS
    since = [one.at for one in arrivals if one.port == ROUTED and one.at >= again]
    assert set(since) <= set(ours)


def test_client_that_moves_to_and_fro_is_followed() -> None:
    arrivals = sent(0, 3 * SECONDS)
    for port in (ROUTED, HOME, OTHER, ROUTED):
        arrivals += after(arrivals, SECONDS, port)
    assert judged(arrivals)[1] == 4


@pytest.mark.parametrize("clock", ["none", "stands", "random", "twice as fast"])
def test_client_without_a_clock_cannot_be_followed(clock: str) -> None:
    rng = np.random.default_rng(1)
    home = sent(0, 3 * SECONDS)
    arrivals = [*home, *after(home, 3 * SECONDS, ROUTED)]
    stamps: Callable[[Datagram], int] = {
        "none": lambda one: 0,
        "stands": lambda one: EPOCH_US,
        "random": lambda one: int(rng.integers(0, 1 << 62)),
        "twice as fast": lambda one: 2 * one.stamp_us,
    }[clock]
    assert judged([one._replace(stamp_us=stamps(one)) for one in arrivals])[1] == 0


# ---- others behind the same router


silences = st.sampled_from([0, 50, 99, 150, 2000])
"""For so long, in ms, nothing of the client comes, while others send."""


def with_silence(silence_ms: int) -> list[Datagram]:
    """A client whose network fails for a while."""
    stream = sent(65_000, 6 * SECONDS)
    begin = BEGIN_NS + 3 * SECOND
    return [one for one in stream if not begin <= one.at < begin + silence_ms * MS]


def assert_stays(client: Sequence[Datagram], others: Sequence[Datagram]) -> None:
    arrivals = sorted([*client, *others], key=lambda one: one.at)
    taken, moves = judged(arrivals)
    assert moves == 0
    assert all(ours == (one.port == HOME) for one, ours in zip(arrivals, taken, strict=True))


@settings(max_examples=12)
@given(silences, st.integers(1, 3500), st.sampled_from([0, 65_536]))
def test_its_own_packets_replayed_do_not_move_it(
    silence_ms: int, delay_ms: int, shift: int
) -> None:
    """Not even with numbers that fit, from a turn of the numbers ago."""
    client = with_silence(silence_ms)
    replayed = [
        one._replace(port=OTHER, at=one.at + delay_ms * MS, number=one.number + shift)
        for one in client
    ]
    if shift:  # now numbers fit, but TimeStamp is late
        assume(delay_ms * 1000 > BOUND_US)
        ahead = delay_ms * MS // PACKET_NS + 1
        replayed = [one._replace(number=one.number + ahead) for one in replayed]
    assert_stays(client, replayed)


@settings(max_examples=12)
@given(silences, st.integers(0, 65_535), st.integers(-(1 << 40), 1 << 40), st.integers(0, 3000))
def test_another_musician_does_not_take_its_place(
    silence_ms: int, first: int, clock_us: int, start_ms: int
) -> None:
    """Same router, same format, its own numbers or its own clock."""
    client = with_silence(silence_ms)
    numbers = (first - client[0].number - start_ms * MS // PACKET_NS) & 0xFFFF
    near = min(numbers, 65_536 - numbers) * PACKET_NS <= SECOND * 3
    assume(not near or min(clock_us % 2**32, -clock_us % 2**32) > 2 * BOUND_US)
    other = sent(
        first,
        4 * SECONDS,
        port=OTHER,
        start_ns=BEGIN_NS + start_ms * MS,
        clock_us=EPOCH_US + clock_us,
    )
    assert_stays(client, other)


@settings(max_examples=12)
@given(silences, st.integers(0, 1 << 32))
def test_random_packets_do_not_move_it(silence_ms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    client = with_silence(silence_ms)
    junk = [
        Datagram(
            int(rng.integers(1024, 65_536)),
            int(rng.integers(0, 65_536)),
            int(rng.integers(0, 1 << 62)),
            BEGIN_NS + int(rng.integers(0, 6 * SECOND)),
        )
        for _ in range(2000)
    ]
    assert_stays(client, [one for one in junk if one.port != HOME])


def test_its_true_packets_from_elsewhere_do_not_move_it_while_it_plays() -> None:
    """Somebody forwards what it sends, at once: it is still there itself."""
    client = with_silence(0)
    assert_stays(client, [one._replace(port=OTHER, at=one.at - MS) for one in client])


@settings(max_examples=25)
@given(st.data())
def test_any_datagrams_like_twin(data: st.DataObject) -> None:
    """Stretches of packets: from any port, with jumps of number, time and clock."""
    edge = st.sampled_from([0, 0, 0, 1, 8, 9, -1, -9, 40, 130, 5000])
    arrivals = sent(0, 2 * SECONDS)
    for _ in range(data.draw(st.integers(1, 12))):
        port = data.draw(st.sampled_from([HOME, ROUTED, OTHER]))
        part = after(arrivals, data.draw(st.integers(1, 60)), port)
        pause = data.draw(st.sampled_from([0, 0, 90, 110, 190, 210, 1100])) * MS
        jump, slip = data.draw(edge), data.draw(edge) * 1000
        arrivals += [
            one._replace(at=one.at + pause, stamp_us=one.stamp_us + pause // 1000 + slip,
                         number=one.number + jump)
            for one in part
        ]  # fmt: skip
    judged(arrivals)


def test_timestamp_is_read_modulo_2_32() -> None:
    raw = np.frombuffer(b"\xff" + struct.pack("<Q", EPOCH_US), np.uint8)
    assert timestamp_us(raw, 1) == EPOCH_US % 2**32
