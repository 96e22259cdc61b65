"""Packet numbers: extended beyond 16 bits, and a client that counts anew told from all else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.arenas import arena_of
from tests.workers.networks import ended
from tests.workers.numbering_twin import NumberingTwin
from tests.workers.streams import DATAGRAM, Event, Format, Take, noise, plain, take
from tests.workers.verdicts import assert_like_twin, stream
from workers.numbering import (
    MAX_JUMP,
    NEVER,
    ODD,
    ODD_GAP,
    ODD_RUN,
    PAUSE_NS,
    PLACED,
    RESTART_NS,
    SEEN_PACKETS,
    extend,
)

MS = 1_000_000
PACKET_NS = 2_666_666


@settings(max_examples=200)
@given(st.integers(0, 1 << 40), st.integers(-70_000, 70_000))
def test_extended_numbers(highest: int, step: int) -> None:
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["highest"] = highest
        seen = np.full(SEEN_PACKETS, NEVER, np.int64)
        number, verdict, restarted = extend(rx, seen, (highest + step) & 0xFFFF, 0, PACKET_NS)
        near = (step + 32768) % 65536 - 32768
        assert not restarted
        if abs(near) <= MAX_JUMP:
            assert (number, verdict) == (highest + near, PLACED)
        else:
            assert verdict == ODD
            assert rx["odd_run"] == 1


steps = st.one_of(
    st.just(1),
    st.integers(-3, ODD_GAP + 3),
    st.sampled_from([-MAX_JUMP - 1, -MAX_JUMP, MAX_JUMP, MAX_JUMP + 1, 20_000, 65_534]),
    st.integers(-400, -1),
)
spans = st.sampled_from([0, 1000, PACKET_NS // 2, PACKET_NS, PACKET_NS, 2 * PACKET_NS, PAUSE_NS])


@settings(max_examples=200)
@given(
    st.integers(0, 1 << 20),
    st.lists(st.tuples(steps, spans, st.integers(1, 60), st.booleans()), min_size=1, max_size=30),
)
def test_any_numbers_like_twin(first: int, parts: list[tuple[int, int, int, bool]]) -> None:
    """Stretches of consecutive numbers, each at a pace of its own, some of them of use."""
    seen = np.full(SEEN_PACKETS, NEVER, np.int64)
    twin = NumberingTwin(PACKET_NS, first)
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["highest"] = rx["accounted"] = first
        now, number = 10**12, first
        for step, span, count, useful in parts:
            number += step - 1
            for _ in range(count):
                number, now = number + 1, now + span
                extended, verdict, restarted = extend(rx, seen, number & 0xFFFF, now, PACKET_NS)
                assert twin.extend(number & 0xFFFF, now) == (
                    None if verdict == ODD else extended,
                    restarted,
                )
                if verdict == PLACED and extended > rx["highest"]:
                    rx["highest"] = twin.highest = extended
                if useful:
                    rx["odd_run"] = 0
                    twin.useful()


# ---- who counts anew is heard again soon

Arrival = tuple[int, int]
"""Packet number and time."""
QUEUE = 8


def numbered(arrivals: Sequence[Arrival], packet_ns: int = PACKET_NS) -> list[int]:
    """Where, in a stream of packets, the client was taken to count anew.

    A packet is of use when it is new and not too old for a queue.
    """
    seen = np.full(SEEN_PACKETS, NEVER, np.int64)
    came: set[int] = set()
    turns = []
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["highest"] = rx["accounted"] = arrivals[0][0]
        for k, (number, at) in enumerate(arrivals):
            extended, verdict, restarted = extend(rx, seen, number & 0xFFFF, at, packet_ns)
            if restarted:
                turns.append(k)
            if verdict == PLACED:
                if extended not in came and extended > rx["highest"] - QUEUE:
                    rx["odd_run"] = 0
                came.add(extended)
                rx["highest"] = max(int(rx["highest"]), extended)
    return turns


def disturbed(
    arrivals: Sequence[Arrival], seed: int, loss: float, copies: float, jitter_ns: float
) -> list[Arrival]:
    """What a network makes of them: some lost, some doubled, all late by up to jitter_ns."""
    rng = np.random.default_rng(seed)
    come = [
        (number, at + int(rng.uniform(0, 1) * jitter_ns))
        for number, at in arrivals
        for _ in range(1 + (rng.uniform() < copies))
        if rng.uniform() >= loss
    ]
    return sorted(come, key=lambda arrival: arrival[1])


def steady(
    first: int, count: int, start_ns: int = 10**12, packet_ns: int = PACKET_NS
) -> list[Arrival]:
    return [(first + k, start_ns + k * packet_ns) for k in range(count)]


def next_of(arrivals: Sequence[Arrival], packet_ns: int = PACKET_NS) -> int:
    return arrivals[-1][1] + packet_ns


@settings(max_examples=25)
@given(
    st.one_of(st.integers(1, MAX_JUMP), st.integers(MAX_JUMP, 60_000)),
    st.sampled_from([PACKET_NS // 4, PACKET_NS, 10 * MS]),
    st.sampled_from([2000, 65_600]),
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_client_that_counts_anew_is_followed(
    back: int, packet_ns: int, end: int, seed: int, loss: float, copies: float, jitter: float
) -> None:
    """However far it steps back, and whatever the network does besides."""
    before = steady(end - 300, 300, packet_ns=packet_ns)
    again = next_of(before, packet_ns)
    after = steady(end - back, 60 + 300 * MS // packet_ns, again, packet_ns)
    arrivals = disturbed([*before, *after], seed, loss, copies, jitter * packet_ns)
    turns = numbered(arrivals, packet_ns)
    if turns:
        assert len(turns) == 1
        deaf_ns = arrivals[turns[0]][1] - again
    else:
        deaf_ns = back * packet_ns
    assert deaf_ns <= 1.35 * RESTART_NS + (ODD_RUN + ODD_GAP) * packet_ns


def test_client_that_counts_anew_is_heard_bit_by_bit() -> None:
    """In every turn of several; to the sample where the twin has it."""
    fmt = Format(queue=4)
    events = plain(fmt, 700)
    for at, back in ((300, 250), (500, 120), (560, 121)):
        events[at:] = [
            e._replace(packets=((e.packets[0][0] - back, e.packets[0][1]),))  # type: ignore[index]
            for e in events[at:]
        ]
    taken = take(fmt, noise, ended(events, fmt))
    assert taken.rx["restarts"] == 3
    assert_like_twin(fmt, taken)
    taken = take(fmt, noise, events)
    tail = stream(fmt, 700)[:, 620 * 128 :]
    end = int(taken.trace[-1, 0])
    np.testing.assert_array_equal(taken.heard[:, end - tail.shape[1] : end], tail)


# ---- what is no restart


@settings(max_examples=25)
@given(
    st.integers(1, 900),
    st.integers(20, 450),
    st.sampled_from([0.3, 0.9, 1.0]),
    st.integers(0, 1 << 32),
)
def test_echo_of_a_network_that_fails_meanwhile_is_no_restart(
    delay_ms: int, outage_ms: int, share: float, seed: int
) -> None:
    """Everything comes twice, much later; then for a while only the repetitions come."""
    outage = range(400, 400 + outage_ms * MS // PACKET_NS)
    kept = [arrival for arrival in steady(0, 700) if arrival[0] not in outage]
    again = disturbed(kept, seed, 1 - share, 0, 0)
    echo = [(number, at + delay_ms * MS) for number, at in again]
    heard = [arrival for arrival in [*kept, *echo] if arrival[1] <= kept[-1][1]]
    assert not numbered(sorted(heard, key=lambda arrival: arrival[1]))


@settings(max_examples=25)
@given(
    st.integers(10, 900),
    st.sampled_from([0.0, 0.01, 0.3, 0.6]),
    st.sampled_from(["in order", "newest first", "backwards", "twice", "shuffled"]),
    st.integers(0, 1 << 32),
)
def test_burst_after_a_stall_is_no_restart(held: int, pace: float, order: str, seed: int) -> None:
    """Whatever was held back comes faster than real time, in any order, once or twice."""
    before = steady(0, 40)
    burst = [number for number, _ in steady(40, held)]
    match order:
        case "newest first":
            burst = [burst[-1], *burst[:-1]]
        case "backwards":
            burst.reverse()
        case "twice":
            burst *= 2
        case "shuffled":
            burst = np.random.default_rng(seed).permutation(burst).tolist()
    end_ns = next_of(before) + held * PACKET_NS
    released = [(n, end_ns + int(k * pace * PACKET_NS)) for k, n in enumerate(burst)]
    after = steady(40 + held, 3 * held + 60, end_ns)
    assert not numbered(sorted([*before, *released, *after], key=lambda arrival: arrival[1]))


@pytest.mark.parametrize("ahead", [5, 20])
def test_a_number_ahead_of_its_time_makes_no_restart_of_the_others(ahead: int) -> None:
    """One stray is the newest for a while; those after it are old, and of use."""
    assert taken_with_stray(ahead).rx["restarts"] == 0


@pytest.mark.parametrize("ahead", [100, 900])
def test_a_number_far_ahead_of_its_time_silences_nobody(ahead: int) -> None:
    """The place of the stray is taken back when the others do not follow."""
    taken = taken_with_stray(ahead)
    tail = stream(Format(), 300)[:, 200 * 128 :]
    end = int(taken.trace[-1, 0])
    np.testing.assert_array_equal(taken.heard[:, end - tail.shape[1] : end], tail)


def taken_with_stray(ahead: int) -> Take:
    """A stream of 300 packets; after the 100th comes one with a number from the future."""
    events = plain(Format(), 300)
    at = events[100].now_ns + 1000
    stray = Event(DATAGRAM, at, at, ((100 + ahead, (100 + ahead) * 128),))
    return take(Format(queue=QUEUE), noise, [*events[:101], stray, *events[101:]])


@settings(max_examples=10)
@given(st.sampled_from([2, 3, 4]), st.integers(0, 1 << 32), st.sampled_from([0.0, 0.1, 0.4]))
def test_redundant_copies_are_no_restart(copies: int, seed: int, loss: float) -> None:
    fmt = Format(queue=QUEUE)
    rng = np.random.default_rng(seed)
    events = [
        e._replace(packets=tuple((k - a, (k - a) * 128) if k >= a else None for a in range(copies)))
        for k, e in enumerate(plain(fmt, 120))
        for _ in range(1 + (rng.uniform() < 0.3))
        if k == 0 or rng.uniform() >= loss
    ]
    assert take(fmt, noise, events).rx["restarts"] == 0
