"""Patience with those who die young, and what trouble is reported."""

from __future__ import annotations

from hub.staff import PAUSES_S, SHORT_LIFE_S, START_TRIES, Patience


def test_at_start_three_short_lives_are_enough() -> None:
    patience = Patience()
    pauses = [patience.pause(0.1, at_start=True) for _ in range(START_TRIES)]
    assert None not in pauses[:-1]
    assert pauses[-1] is None


def test_later_pauses_grow_and_end() -> None:
    patience = Patience()
    pauses = [patience.pause(0.1, at_start=False) for _ in range(len(PAUSES_S))]
    assert pauses == [*PAUSES_S[1:], None]
    assert sorted(PAUSES_S) == list(PAUSES_S)


def test_a_long_life_makes_up_for_the_short_ones() -> None:
    patience = Patience()
    for _ in range(100):
        assert patience.pause(0.1, at_start=True) is not None
        assert patience.pause(SHORT_LIFE_S, at_start=True) == 0.0
