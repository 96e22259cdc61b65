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
from tests.workers.arenas import GUARD_NS, arena_of
from workers import grace
from workers.grace import LAG_TICKS
from workers.hubtime import frames_to_ns, tick_after, tick_time
from workers.room import kept

PERIOD, TICK = 128, 100
PERIOD_NS = int(frames_to_ns(PERIOD, 48000))
SCRATCH = np.zeros(2, np.int64)


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
        playing = [missing for state, resting, missing in sources
                   if state is RxState.ACTIVE and not resting]  # fmt: skip
        lack = [missing for missing in playing if 0 < missing <= LAG_TICKS * PERIOD]
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


@given(st.integers(0, 400), st.integers(-PERIOD_NS, 3 * PERIOD_NS), st.integers(0, 10**7))
def test_patience_like_twin(lack: int, late_ns: int, allowance_ns: int) -> None:
    """The guard and some for each, what is left of the allowance, and until the next tick is a
    quarter of a period late."""
    with arena_of(period=PERIOD) as arena:
        header = arena.header[0]
        now_ns = int(tick_time(header, TICK)) + late_ns
        end_ns = int(tick_time(header, TICK + 1)) + PERIOD_NS // 4
        assert grace.patience_ns(header, TICK, lack, allowance_ns, now_ns) == min(
            GUARD_NS + 4000 * lack, allowance_ns, end_ns - now_ns
        )


@pytest.mark.parametrize("period", [16, 32, 64, 128, 256, 512, 1024])
def test_what_a_waiting_tick_needs_is_not_written_over(period: int) -> None:
    """Receivers keep so much before the tick that they provide for when the wait ends."""
    with arena_of(period=period) as arena:
        header = arena.header[0]
        now_ns = int(tick_time(header, TICK))
        end_ns = now_ns + int(grace.patience_ns(header, TICK, 10**6, 10**12, now_ns))
        provided = int(tick_after(header, end_ns - 1 + GUARD_NS)) * period
        assert provided - int(kept(header)) <= TICK * period
        assert end_ns > now_ns


def test_so_much_may_be_waited_and_no_more() -> None:
    with arena_of(period=PERIOD) as arena:
        allowance_ns = 0
        for ticks in range(1, 100):
            allowance_ns = grace.saved(arena.header[0], allowance_ns)
            assert allowance_ns == min(ticks * (PERIOD_NS // 16), 2 * PERIOD_NS)


def due(arena: Arena, period: int, sources: int, ticks: int = 1) -> None:
    """A tick's time has come, and so many sources lack its sound, ended so many ticks before."""
    arena.header[0]["period_frames"] = period
    whole_ns = int(frames_to_ns(TICK * period, 48000))
    arena.header[0]["t0_ns"] = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - whole_ns
    for rx in arena.rx[:sources]:
        rx["state"], rx["watermark"] = RxState.ACTIVE, (TICK + 1 - ticks) * period


SECOND, MUCH_NS = 48000, 10**10
"""A period in which whoever is kept from the core has time all the same; an allowance."""


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """None of the times below is a compiler's."""
    with arena_of() as arena:
        grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH)


def test_who_has_sound_or_lags_too_far_is_not_waited_for() -> None:
    with arena_of(slots=4) as arena:
        due(arena, SECOND, 2, ticks=0)
        assert grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH) == (0, False)
        due(arena, SECOND, 4, ticks=LAG_TICKS + 1)
        assert grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH) == (0, False)


def test_receivers_that_do_nothing_are_waited_for_in_vain() -> None:
    with arena_of(slots=3) as arena:
        due(arena, SECOND, 3)
        waited_ns, in_vain = grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH)
        assert in_vain
        assert waited_ns >= GUARD_NS + 3 * grace.SOURCE_NS


def test_without_an_allowance_or_after_its_time_a_tick_does_not_wait() -> None:
    with arena_of(slots=3) as arena:
        due(arena, SECOND, 3)
        assert grace.wait_for_receivers(arena, TICK, 0, SCRATCH) == (0, False)
        arena.header[0]["t0_ns"] -= 2 * 10**9
        assert grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH) == (0, False)


@pytest.mark.parametrize("stuck", [0, 1])
def test_the_tick_goes_on_when_all_have_their_sound_but_one(stuck: int) -> None:
    with arena_of(slots=8) as arena:
        arena.header[0]["guard_ns"] = 400_000_000
        due(arena, SECOND, 8)

        def read() -> None:
            for rx in arena.rx[stuck:]:
                time.sleep(0.02)
                rx["watermark"] = (TICK + 1) * SECOND

        receivers = threading.Thread(target=read)
        receivers.start()
        waited_ns, in_vain = grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH)
        lack, _ = grace.lacking(arena, TICK)
        receivers.join()
        assert lack <= 1
        assert not in_vain
        assert waited_ns > 0


def test_it_was_in_vain_where_most_did_not_go_on() -> None:
    with arena_of(slots=64) as arena:
        arena.header[0]["guard_ns"] = 50_000_000
        due(arena, SECOND, 64)

        def read() -> None:
            time.sleep(0.01)
            arena.rx["watermark"][:20] = (TICK + 1) * SECOND

        receivers = threading.Thread(target=read)
        receivers.start()
        _, in_vain = grace.wait_for_receivers(arena, TICK, MUCH_NS, SCRATCH)
        receivers.join()
        assert in_vain
