"""Patience with those who die young, and what trouble is reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hub.accounts import WORST, Accounts, Present
from hub.staff import PAUSES_S, SHORT_LIFE_S, START_TRIES, Patience
from tests.hub.listening import make_arena


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


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as events:
        yield events


def test_what_grew_is_reported_once(logged: list[Any]) -> None:
    arena = make_arena(4)
    accounts = Accounts(arena)
    anna = [Present(slot=1, session=7, name="Anna")]
    assert accounts.report(anna) == {}
    arena.rx[1]["lost"] = 3
    arena.tx[1]["errors"] = 1
    arena.clock[0]["missed"] = 2
    arena.lanes["missed"][2] = 5
    assert accounts.report(anna) == {
        "": {"missed": 2, "lanes_missed": 5},
        "Anna": {"lost": 3, "errors": 1},
    }
    assert accounts.report(anna) == {}
    assert [event["event"] for event in logged] == ["hub in trouble", "client in trouble"]


def test_another_session_on_the_slot_starts_from_zero() -> None:
    arena = make_arena(4)
    accounts = Accounts(arena)
    arena.rx[1]["lost"] = 30
    accounts.report([Present(1, 7, "Anna")])
    arena.rx[1]["lost"] = 2
    assert accounts.report([Present(1, 8, "Berta")]) == {"Berta": {"lost": 2}}


def test_of_many_in_trouble_only_the_worst_are_named(logged: list[Any]) -> None:
    arena = make_arena(20)
    present = [Present(slot, slot + 1, f"c{slot}") for slot in range(20)]
    arena.rx["lost"] = range(1, 21)
    assert len(Accounts(arena).report(present)) == 20
    named = [event["name"] for event in logged if event["event"] == "client in trouble"]
    assert named == [f"c{slot}" for slot in range(19, 19 - WORST, -1)]
    assert logged[-1]["clients"] == 20 - WORST
