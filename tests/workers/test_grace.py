"""Whether the mixer gives receivers time, and how long: only to those that will use it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arena import Arena
from shared.layout import RxState
from tests.workers.arenas import arena_of
from workers import grace
from workers.grace import LAG_TICKS
from workers.hubtime import frames_to_ns

PERIOD, TICK = 128, 100
PERIOD_NS = int(frames_to_ns(PERIOD, 48000))
SCRATCH = np.zeros(2, np.int64)


def covers(arena: Arena, slot: int, ticks: int) -> None:
    """A playing source's sound ends so many ticks before it is wanted; 0: it is there."""
    arena.rx[slot]["state"] = RxState.ACTIVE
    arena.rx[slot]["watermark"] = (TICK + 1 - ticks) * PERIOD


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(RxState)),
            st.booleans(),
            st.integers(-PERIOD, (LAG_TICKS + 2) * PERIOD),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_lacking_like_twin(sources: list[tuple[RxState, bool, int]]) -> None:
    with arena_of(slots=6, period=PERIOD) as arena:
        for rx, (state, resting, missing) in zip(arena.rx, sources, strict=False):
            rx["state"], rx["resting"] = state, resting
            rx["watermark"] = (TICK + 1) * PERIOD - missing
        playing = [each for each in sources if each[0] is RxState.ACTIVE]
        lack = [1 for _, resting, missing in playing
                if not resting and 0 < missing <= LAG_TICKS * PERIOD]  # fmt: skip
        assert grace.lacking(arena, TICK) == (len(lack), len(playing))


@pytest.mark.parametrize(
    ("lack", "playing", "waited"),
    [
        (0, 0, False), (0, 1, False), (1, 1, True),
        (1, 2, False), (2, 2, True), (1, 31, False), (2, 31, True),
        (18, 300, False), (19, 300, True),
    ],
)  # fmt: skip
def test_one_client_of_several_is_not_waited_for(lack: int, playing: int, waited: bool) -> None:
    assert grace.waits(lack, playing) is waited


def test_who_has_sound_is_not_waited_for() -> None:
    with arena_of(slots=2, period=PERIOD) as arena:
        covers(arena, 0, 0)
        covers(arena, 1, LAG_TICKS + 1)  # does nothing any more
        assert grace.wait_for_receivers(arena, TICK, 2, SCRATCH) == (0, False)


def test_receivers_that_do_nothing_are_waited_for_in_vain_and_not_long() -> None:
    with arena_of(slots=3, period=PERIOD) as arena:
        for slot in range(3):
            covers(arena, slot, 1)
        waited_ns, in_vain = grace.wait_for_receivers(arena, TICK, 3, SCRATCH)
        assert in_vain
        assert waited_ns >= arena.header[0]["guard_ns"]


def test_many_are_waited_for_longer_but_no_more_than_a_period() -> None:
    """By the looks that are planned, not by a clock that others may stop."""
    with arena_of(slots=400, period=PERIOD) as arena:
        for slot in range(400):
            covers(arena, slot, 1)
        few, many = (grace.patience_ns(arena.header[0], lack) for lack in (3, 400))
        assert few == arena.header[0]["guard_ns"] + 3 * grace.SOURCE_NS
        assert many == min(arena.header[0]["guard_ns"] + 400 * grace.SOURCE_NS, PERIOD_NS)
        assert grace.patience_ns(arena.header[0], 4000) == PERIOD_NS


def test_the_tick_goes_on_when_all_have_their_sound() -> None:
    with arena_of(slots=4, period=PERIOD) as arena:
        arena.header[0]["guard_ns"] = 1_000_000_000
        arena.header[0]["period_frames"] = 48000  # whoever reads may be kept from the core
        needed = (TICK + 1) * 48000
        for rx in arena.rx:
            rx["state"], rx["watermark"] = RxState.ACTIVE, needed - 48000

        def read() -> None:
            for rx in arena.rx:
                time.sleep(0.01)
                rx["watermark"] = needed

        receivers = threading.Thread(target=read)
        receivers.start()
        waited_ns, in_vain = grace.wait_for_receivers(arena, TICK, 4, SCRATCH)
        found = grace.lacking(arena, TICK)
        receivers.join()
        assert found == (0, 4)
        assert not in_vain
        assert waited_ns >= 30_000_000


def test_some_of_many_that_go_on_are_no_vain_wait() -> None:
    with arena_of(slots=4, period=PERIOD) as arena:
        for slot in range(4):
            covers(arena, slot, int(slot < 2))
        waited_ns, in_vain = grace.wait_for_receivers(arena, TICK, 4, SCRATCH)
        assert not in_vain  # four had none when it was looked, two have now
        assert waited_ns > 0
