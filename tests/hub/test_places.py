"""Places of those who left: what is found again, by whom, and what is forgotten."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub import places as module
from hub.hearing import Heard
from hub.identity import Key, musician_key
from hub.places import AVOIDED, KEPT_S, Place, Places
from hub.values import Queue

HOME = ip_address("192.0.2.1")
ANNA, BERTA = musician_key("", "Anna", HOME), musician_key("", "Berta", HOME)


def place(
    places: Places, key: Key = ANNA, left_s: float = 0.0, slot: int = 3, udp_port: int = 4464
) -> Place:
    musician = places.new_musician()
    kept = Place(musician, key, udp_port, slot, "Anna", 0.5, True, -40.0, Queue(7), True, left_s)
    places.keep(kept)
    return kept


def test_a_place_is_found_by_its_musician_only_and_taken_once() -> None:
    places = Places()
    kept = place(places)
    assert places.find(BERTA, 4464, 1.0) is None
    assert places.find(ANNA, 9999, 1.0) == kept
    assert places.take(ANNA, 4464, 1.0) == kept
    assert places.take(ANNA, 4464, 1.0) is None


def test_a_place_is_forgotten_after_half_a_day() -> None:
    places = Places()
    place(places, left_s=10.0)
    assert places.find(ANNA, 4464, 10.0 + KEPT_S) is not None
    assert places.find(ANNA, 4464, 10.1 + KEPT_S) is None
    assert len(places) == 0


def test_too_many_places_push_out_the_oldest() -> None:
    places = Places(limit=2)
    place(places)
    others = [place(places, BERTA, float(k)) for k in (1, 2)]
    assert places.find(ANNA, 4464, 3.0) is None
    assert places.find(BERTA, 4464, 3.0) == others[-1]


def test_of_namesakes_the_one_of_the_same_port_or_the_last_is_taken() -> None:
    places = Places()
    first, second = place(places, udp_port=4464), place(places, left_s=1.0, udp_port=4470)
    assert places.find(ANNA, 4464, 2.0) == first
    assert places.find(ANNA, 4470, 2.0) == second
    assert places.find(ANNA, 9999, 2.0) == second


def test_the_last_to_leave_have_their_slots_kept_free() -> None:
    places = Places()
    for slot in range(AVOIDED + 5):
        place(places, musician_key("", f"m{slot}", HOME), float(slot), slot)
    assert places.avoided() == set(range(5, AVOIDED + 5))


def test_pairs_come_back_when_both_are_there() -> None:
    places = Places()
    places.keep_pairs([(1, 2, Heard(0.5)), (2, 1, Heard(0.25)), (3, 1, Heard(2.0))])
    assert list(places.take_pairs(1, {1, 4})) == []
    assert sorted(places.take_pairs(1, {1, 2}), key=lambda pair: pair[:2]) == [
        (1, 2, Heard(0.5)),
        (2, 1, Heard(0.25)),
    ]
    assert list(places.take_pairs(1, {1, 2})) == []
    assert list(places.take_pairs(3, {1, 2, 3})) == [(3, 1, Heard(2.0))]


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    places = Places()
    places.keep_pairs((1, source, Heard(0.5)) for source in range(2, 7))
    assert sorted(source for _, source, _ in places.take_pairs(1, set(range(9)))) == [4, 5, 6]


class PlacesMachine(RuleBasedStateMachine):
    """Musicians come and go in any order; the books agree with plain lists."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(limit=self.LIMIT, kept_s=100.0)
        self.now = 0.0
        self.kept: list[Place] = []

    @rule(seconds=st.sampled_from([0.0, 1.0, 60.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from([ANNA, BERTA]), slot=st.integers(0, 3), port=st.integers(1, 2))
    def leave(self, key: Key, slot: int, port: int) -> None:
        self.kept.append(place(self.places, key, self.now, slot, port))
        self.places.keep_pairs([(self.kept[-1].musician, 999, Heard(0.5))])
        self.kept = [p for p in self.kept[-self.LIMIT :] if self.now - p.left_s <= 100.0]

    @rule(key=st.sampled_from([ANNA, BERTA]), port=st.integers(1, 3))
    def come_back(self, key: Key, port: int) -> None:
        self.kept = [p for p in self.kept if self.now - p.left_s <= 100.0]
        fitting = [p for p in self.kept if p.key == key]
        fitting = [p for p in fitting if p.udp_port == port] or fitting
        wanted = fitting[-1] if fitting else None
        assert self.places.take(key, port, self.now) == wanted
        if wanted is not None:
            self.kept.remove(wanted)
            (pair,) = self.places.take_pairs(wanted.musician, {wanted.musician, 999})
            assert pair == (wanted.musician, 999, Heard(0.5))

    @invariant()
    def nothing_is_left_over(self) -> None:
        self.places.expire(self.now)
        kept = [p for p in self.kept if self.now - p.left_s <= 100.0]
        assert list(self.places._places.values()) == kept
        assert sum(map(len, self.places._by_key.values())) == len(kept)
        assert {m for m, _ in self.places._pairs} == {p.musician for p in kept}
        assert len(self.places._by_musician) == len(kept) + bool(kept)


TestPlaces = PlacesMachine.TestCase
TestPlaces.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
