"""Redundancy: what copies can repair is repaired, and nothing that only looks like a copy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import PatchMode
from shared.protocol import AudioHeader, pack_header, parse_datagram
from tests.workers.networks import ended
from tests.workers.players import Player
from tests.workers.players import noise as programme
from tests.workers.rig import Rig
from tests.workers.streams import DATAGRAM, Event, Format, datagram, noise, plain, take
from tests.workers.takes import repeat_if_disturbed
from tests.workers.takes import take as perform
from tests.workers.verdicts import stream
from workers.conceal import FADE_FRAMES
from workers.stay import COPIES_RUN

PACKETS = 60
FORMATS = [Format(queue=8), Format(frames=64, queue=8, channels=2, bits=24), Format(441, queue=6)]
RIGHT, ZERO, STALE, AHEAD, FOREIGN, NOISE = range(6)
"""What a copy may be: right; zero bytes; an older packet's; misnumbered; of another format."""


def copy_of(fmt: Format, first: int, k: int, kind: int) -> bytes:
    """Packet k of a stream that begins with number first, as it stands in a later datagram."""
    number = first + k + {STALE: -3, AHEAD: 1}.get(kind, 0)
    index = (k - 3 if kind == STALE else k) * fmt.frames
    whole = datagram(fmt, noise, Event(DATAGRAM, 0, 0, ((number, index),)))
    match kind:
        case 1:
            return bytes(len(whole))
        case 4:
            header = AudioHeader(0, number & 0xFFFF, 32, 3, 8, 1, 1)
            return pack_header(header).ljust(len(whole), b"\1")
        case 5:
            return np.random.default_rng(number).bytes(len(whole))
    return whole


copies = st.one_of(st.just([RIGHT] * 3), st.lists(st.integers(0, 5), min_size=3, max_size=3))
datagrams = st.tuples(st.integers(0, 9), st.integers(1, 4), copies)
"""Lost if below the threshold; how many packets; what the copies are."""


@settings(max_examples=40)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from([0, 30_000, 65_500, 65_534]),
    st.sampled_from([0, 1, 3, 6]),
    st.lists(datagrams, min_size=PACKETS, max_size=PACKETS),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_what_copies_can_repair_is_repaired(
    fmt: Format,
    first: int,
    threshold: int,
    parts: list[tuple[int, int, list[int]]],
    same: int | None,
) -> None:
    """Whatever is lost, and whatever stands where copies should; also at 65535 → 0."""
    events = []
    known, came = set(), set()
    for k, (event, (luck, count, kinds)) in enumerate(zip(plain(fmt, PACKETS), parts, strict=True)):
        if 0 < k < PACKETS - 12 and luck < threshold:  # what is queued at the end is not heard
            continue
        ages = range(1, min(same or count, k + 1))
        data = [copy_of(fmt, first, k, RIGHT)]
        data += [copy_of(fmt, first, k - age, kinds[age - 1]) for age in ages]
        came.add(k)
        known |= {k} | {k - age for age in ages if kinds[age - 1] == RIGHT}
        events.append(event._replace(packets=(), data=b"".join(data)))
    taken = take(fmt, noise, ended(events, fmt))

    missing = set(range(max(came) + 1)) - known
    assert taken.counted("lost", "repaired", "restarts") == (len(missing), len(known - came), 0)
    assert taken.counted("late", "duplicates", "malformed") == (0, 0, 0)
    assert taken.rx["highest"] == first + max(came)
    sent, base = stream(fmt, PACKETS), int(taken.trace[0, 1])
    there = np.repeat([k in known for k in range(max(came) + 1)], fmt.frames)
    gaps = np.concatenate([[0], np.cumsum(~there)])
    index = np.arange(FADE_FRAMES, len(there))
    clean = index[there[index] & (gaps[index] == gaps[index - FADE_FRAMES])]
    np.testing.assert_array_equal(taken.heard[:, base + clean], sent[:, clean])


@given(st.sampled_from(FORMATS), st.integers(2, 4), st.integers(1, 40))
def test_datagram_that_is_cut_short_is_none(fmt: Format, count: int, cut: int) -> None:
    """Its length is no number of packets, whatever its first header says."""
    events = plain(fmt, 20)
    data = b"".join(copy_of(fmt, 0, 10 - age, RIGHT) for age in range(count))
    events[10] = events[10]._replace(data=data[:-cut])
    taken = take(fmt, noise, events)
    assert taken.counted("malformed", "repaired", "packets") == (1, 0, 19)


def test_datagram_that_begins_with_zeros_is_none() -> None:
    fmt = FORMATS[0]
    events = plain(fmt, 20)
    data = copy_of(fmt, 0, 10, ZERO) + copy_of(fmt, 0, 9, RIGHT)
    events[10] = events[10]._replace(data=data)
    assert take(fmt, noise, events).counted("malformed", "packets") == (1, 19)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 2 * COPIES_RUN)), max_size=8))
def test_number_of_copies_is_followed_when_it_lasts(stretches: list[tuple[int, int]]) -> None:
    fmt = Format(frames=16, period=128, queue=8)
    counts = [2, *(count for count, length in stretches for _ in range(length))]
    events = [
        e._replace(
            packets=tuple((k - a, (k - a) * 16) if k >= a else None for a in range(counts[k]))
        )
        for k, e in enumerate(plain(fmt, len(counts)))
    ]
    wanted, run = 2, 0
    for before, now in itertools.pairwise(counts):
        before, now = min(before, 8), min(now, 8)
        run = 0 if now == wanted else run + 1 if now == before else 1
        wanted = now if run >= COPIES_RUN else wanted
    assert take(fmt, noise, events).rx["redundancy"] == wanted


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FULL_MIX)
    yield rig
    rig.stop()


@pytest.mark.living
@repeat_if_disturbed
def test_client_is_answered_with_as_many_copies_as_it_sends_now(rig: Rig) -> None:
    """More, then fewer: nothing else changes, and what is sent as a copy always is one."""
    player = Player(programme(128 * 50))
    with perform(rig, player) as performance:
        for player.redundancy in (1, 3, 2):
            performance.play(0.2)
    performance.assert_hears(player, {player: 1.0})
    performance.assert_numbered(player)
    assert performance.heard[player].stream.misrouted == 0
    answered = [parse_datagram(data)[1] for data in player.returned]
    assert answered == [1] * answered.count(1) + [3] * answered.count(3) + [2] * answered.count(2)
    assert min(answered.count(n) for n in (1, 2, 3)) >= 30
