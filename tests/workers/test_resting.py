"""Gaps so long that they are silent: the receiver rests, and nothing else shows that it did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import RxState
from tests.workers.arenas import arena_of
from tests.workers.networks import START_NS, Network, ended, formats, lossy, packets_for, through
from tests.workers.streams import RESUME, SLEEP, Event, Format, noise, take
from tests.workers.test_mix import band_on
from tests.workers.verdicts import assert_like_twin
from workers.receiver import crowd

MS = 1_000_000


@settings(max_examples=50)
@given(
    formats(),
    lossy,
    st.floats(0.1, 0.9),
    st.integers(60, 1500),
    st.sampled_from([None, SLEEP, RESUME]),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
)
def test_long_gaps_like_twin(
    fmt: Format,
    network: Network,
    share: float,
    gap_ms: int,
    trouble: int | None,
    when: float,
    stalled: bool,
    ends: bool,
) -> None:
    """The twin fills every tick of it. In the gap a receiver may hang, or die; after it the client
    goes on where it would be now, or (stalled) where it was; or its session ends in the gap."""
    events = through(network, fmt, packets_for(fmt, 12_000))
    last = events[-1].now_ns
    begin, gap = START_NS + int(share * (last - START_NS)), gap_ms * MS
    late = gap if stalled else 0
    before = [event for event in events if event.now_ns < begin]
    after = [
        event._replace(now_ns=event.now_ns + late, arrival_ns=event.arrival_ns + late)
        for event in events
        if event.now_ns >= begin + gap - late
    ]
    if ends:
        after = []
    troubles = []
    if trouble is not None:
        at = begin + int(when * 0.8 * gap)
        until = at + int(0.1 * gap) if trouble == SLEEP else 0
        troubles = [Event(trouble, at, until)]
    assert_like_twin(fmt, take(fmt, noise, ended([*before, *troubles, *after], fmt)))


@pytest.mark.parametrize("fmt", [Format(), Format(period=512), Format(sent_hz=44100)])
def test_a_resting_receiver_counts_the_time_and_one_gap(fmt: Format) -> None:
    """With conversion of the sample rate, too, which the twin has none of."""
    packets = 3 * fmt.client_hz // fmt.frames
    begin, back = START_NS + 500 * MS, START_NS + 2500 * MS
    events = [e for e in through(Network(), fmt, packets) if not begin <= e.now_ns < back]

    taken = take(fmt, noise, ended(events, fmt))

    rx = taken.rx
    assert (rx["underruns"], rx["restarts"], rx["late"]) == (2, 0, 0)  # the other is the end
    assert rx["concealed_frames"] == pytest.approx(2 * fmt.client_hz, abs=8192)
    silent = taken.heard[0, 48 * 600 : 48 * 2490]
    assert not silent.any()
    assert np.abs(taken.heard[0, 48 * 2600 : 48 * 2900]).max() > 0.1


def test_mixer_takes_who_rests_for_silent_and_not_for_starved() -> None:
    """And keeps its gain, so that what comes back is faded in by its receiver alone."""
    with arena_of(slots=1, period=64) as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=0)
        rx = arena.rx[0]
        rx["state"] = RxState.ACTIVE
        heard = []
        for tick in range(6):
            rests = tick in (2, 3)
            rx["resting"] = int(rests)
            rx["watermark"] = (2 if rests else tick + 1) * 64
            strips, _ = band.mixed(tick)
            heard.append(strips.get(0))
        assert heard[2] is heard[3] is None
        played = heard[4]
        assert played is not None
        np.testing.assert_array_equal(played, band.at(0, 4).astype(np.float32))
        assert arena.clock[0]["starved"] == 0


def test_a_fade_goes_on_while_its_source_rests() -> None:
    """What comes back is at once where everybody else is."""
    with arena_of(slots=1, period=64) as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=0)
        rx, order = arena.rx[0], arena.slots[0]
        rx["state"] = RxState.ACTIVE
        for tick in range(9):
            rests = 2 <= tick < 8
            if tick == 2:
                order["gain"], order["strip_fade"] = 0.25, 4
                order["strip_changes"] += 1
                arena.control[0]["levels"] += 2
            rx["resting"] = int(rests)
            rx["watermark"] = (2 if rests else tick + 1) * 64
            strips, _ = band.mixed(tick)
        np.testing.assert_array_equal(strips[0], 0.25 * band.at(0, 8).astype(np.float32))


def test_who_rests_shares_no_time() -> None:
    with arena_of(slots=8) as arena:
        arena.header[0]["cores"] = 1
        arena.rx["state"] = RxState.ACTIVE
        arena.rx["watermark"] = 999
        arena.rx["resting"][3:] = 1
        assert crowd(arena, 0, 1000) == 3
