"""What is left out under load: nothing in a calm hub, one step after the other, and back."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hub.overload.resources import Readings
from hub.overload.shedding import (
    BETWEEN_CLIENTS,
    CALM,
    FIRST_SHARE,
    HURRY,
    LONGEST_LOOKS,
    LOOKS,
    MISSED_SHARE,
    MOST_SHARE,
    PATIENCE_LOOKS,
    SOON_LOOKS,
    Shedding,
    Step,
)

LIMIT = 0.95
BUSY, QUIET = Readings(cpu=1.0), Readings(cpu=0.5)
TICKS = 94
LAG = LOOKS // 2
"""Looks until most of the last readings are calm."""


def test_without_a_limit_nothing_is_ever_left_out() -> None:
    shedding = Shedding(None)
    for _ in range(100):
        assert not shedding.look(Readings(3.0, 3.0, 3.0, 3.0, 1.0, 3.0))
        assert not shedding.hurry(0, TICKS)
    assert (shedding.step, shedding.dropped) == (Step.NOTHING, 0)


def test_steps_are_taken_in_order_and_then_clients_go_one_at_a_time() -> None:
    shedding = Shedding(LIMIT)
    went = [shedding.look(BUSY) for _ in range(3 * LOOKS)]
    assert not any(went)
    assert shedding.step is Step.CONCEALMENT
    assert shedding.left_out == [Step.METERS, Step.MIXES, Step.CONCEALMENT]
    assert set(shedding.taken.values()) == {1}
    went = [shedding.look(BUSY, 30) for _ in range(4 * BETWEEN_CLIENTS)]
    assert went.index(1) == LOOKS - 1
    assert [one for one in went if one] == [1, 2, 4, 7]
    assert shedding.dropped == sum(went)
    gone = [k for k, one in enumerate(went) if one]
    assert all(later - earlier >= BETWEEN_CLIENTS for earlier, later in pairwise(gone))


def test_ever_more_clients_go_until_it_is_enough_and_then_it_begins_anew() -> None:
    shedding = Shedding(LIMIT)
    fits, clients, gone, took = 262, 420, [], 0
    while clients >= fits:
        took += 1
        going = shedding.look(Readings(cpu=min(LIMIT * clients / fits, 1.0)), clients)
        clients -= going
        gone += [going] if going else []
    first = int(420 * FIRST_SHARE)
    assert gone[:-1] == [first << k for k in range(len(gone) - 1)]
    assert max(gone) <= MOST_SHARE * 420
    assert took < 10 * LOOKS
    for _ in range(LOOKS):
        shedding.look(QUIET, clients)
    again = [shedding.look(BUSY, clients) for _ in range(LOOKS)]
    assert [one for one in again if one] == [int(clients * FIRST_SHARE)]


def test_clients_stay_where_it_is_not_their_work_that_fills_the_time() -> None:
    shedding = Shedding(LIMIT)
    late = Readings(cpu=0.9 * CALM * LIMIT, lateness=2.0)
    for _ in range(20 * LOOKS):
        assert not shedding.look(late)
        assert not any(shedding.hurry(TICKS, TICKS // 4) for _ in range(4))
    assert shedding.step is Step.CONCEALMENT
    assert any(shedding.look(Readings(cpu=1.0, lateness=2.0)) for _ in range(LOOKS))


def test_steps_are_taken_back_in_reverse_when_it_was_calm_for_long_enough() -> None:
    shedding = Shedding(LIMIT)
    for _ in range(3 * LOOKS):
        shedding.look(BUSY)
    steps = []
    for k in range(3 * PATIENCE_LOOKS + LAG):
        shedding.look(BUSY if k % 5 == 4 else QUIET)  # a single bad second is none
        steps.append(shedding.step)
    expected = [Step.CONCEALMENT] * (PATIENCE_LOOKS - 1 + LAG)
    expected += [Step.MIXES] * PATIENCE_LOOKS + [Step.METERS] * PATIENCE_LOOKS + [Step.NOTHING]
    assert steps == expected


def test_missed_ticks_of_a_busy_hub_are_not_waited_for() -> None:
    shedding = Shedding(LIMIT)
    shedding.look(BUSY)
    for step in (Step.METERS, Step.MIXES, Step.CONCEALMENT):
        for _ in range(HURRY):
            assert shedding.step < step
            assert not shedding.hurry(TICKS, TICKS // 4)
        assert shedding.step is step
    assert [shedding.hurry(TICKS, TICKS // 4) for _ in range(HURRY)] == [0] * (HURRY - 1) + [1]
    # the next one only when what that has helped was seen
    assert not any(shedding.hurry(TICKS, TICKS // 4) for _ in range(10 * HURRY))


def test_missed_ticks_of_an_idle_hub_are_the_machines() -> None:
    shedding = Shedding(LIMIT)
    shedding.look(Readings(cpu=0.2, work=2.0, lateness=1.0, throttled=1.0))
    assert not any(shedding.hurry(TICKS, TICKS) for _ in range(100))
    assert shedding.step is Step.NOTHING


def test_a_full_line_is_not_relieved_by_leaving_out_work() -> None:
    shedding = Shedding(LIMIT)
    for _ in range(50):
        assert not shedding.look(Readings(line=2.0))
    assert shedding.step is Step.NOTHING


def test_a_hub_at_its_limit_changes_ever_more_rarely() -> None:
    """To leave out levels helps just enough: each time they are back it is too much again."""
    shedding, changes, before = Shedding(LIMIT), [], Step.NOTHING
    for k in range(1000):
        shedding.look(BUSY if shedding.step is Step.NOTHING else QUIET)
        if shedding.step != before:
            changes.append(k)
            before = shedding.step
    gaps = [later - earlier for earlier, later in pairwise(changes)]
    assert gaps[1::2] == [LOOKS] * len(gaps[1::2])
    waits = gaps[0::2]
    assert waits == [min(PATIENCE_LOOKS << k, LONGEST_LOOKS) + LAG for k in range(len(waits))]
    for _ in range(10 * LONGEST_LOOKS):
        shedding.look(QUIET)
    assert (shedding.step, shedding.patience) == (Step.NOTHING, PATIENCE_LOOKS)


readings = st.builds(Readings, *([st.floats(0.0, 3.0)] * 6))
quarters = st.lists(st.integers(0, TICKS), min_size=4, max_size=4)


@given(st.lists(st.tuples(readings, quarters), max_size=80))
def test_whatever_happens_steps_are_one_at_a_time_and_in_order(
    seconds: list[tuple[Readings, list[int]]],
) -> None:
    shedding = Shedding(LIMIT)
    before, undone = shedding.step, -SOON_LOOKS
    for k, (reading, missed) in enumerate(seconds):
        went = [shedding.look(reading)]
        steps = [shedding.step]
        for count in missed:
            went.append(shedding.hurry(TICKS - count, count))
            steps.append(shedding.step)
        for step, gone in zip(steps, went, strict=True):
            assert abs(step - before) <= 1
            assert not gone or before is step is Step.CONCEALMENT
            if step < before:
                assert k - undone >= PATIENCE_LOOKS
                undone = k
            before = step
        assert PATIENCE_LOOKS <= shedding.patience <= LONGEST_LOOKS


@given(
    st.lists(
        st.tuples(st.floats(0.0, LIMIT, exclude_max=True), st.booleans(), quarters),
        max_size=80,
    )
)
def test_a_calm_hub_leaves_nothing_out(seconds: list[tuple[float, bool, list[int]]]) -> None:
    """Single bad seconds, and single quarters in which ticks are missed, are no load."""
    shedding, good = Shedding(LIMIT), LOOKS
    for share, bad, missed in seconds:
        spoilt = bad and good >= LOOKS
        good = 0 if spoilt else good + 1
        assert not shedding.look(Readings(*([2.0 if spoilt else share] * 6)))
        for quarter, count in enumerate(missed):
            seen = count if quarter % HURRY == 0 else int(MISSED_SHARE * TICKS)
            assert not shedding.hurry(TICKS - seen, seen)
    assert (shedding.step, shedding.dropped) == (Step.NOTHING, 0)


@given(st.lists(st.floats(0.0, 1.5), min_size=1, max_size=200))
def test_what_was_left_out_comes_back_in_the_end(shares: list[float]) -> None:
    shedding = Shedding(LIMIT)
    for share in shares:
        shedding.look(Readings(cpu=share))
    for _ in range(3 * shedding.patience + LAG):
        shedding.look(Readings(cpu=0.99 * CALM * LIMIT))
    assert shedding.step is Step.NOTHING
