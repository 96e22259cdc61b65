"""Who is who: slots, names, crashes, and clients that come back."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.addresses import IPAddress
from hub.sessions import (
    CRASH_LIMIT,
    CRASH_WINDOW_S,
    REST_S,
    Phase,
    Session,
    SessionTable,
    unique_name,
)

HOME = ip_address("192.0.2.1")
AWAY = ip_address("2001:db8::1")


def enter(table: SessionTable, name: str = "Anna", now: float = 0.0) -> Session:
    session = table.open(name, HOME, 61002, now)
    assert session is not None
    return session


def active(table: SessionTable, peer_port: int, name: str = "Anna", now: float = 0.0) -> Session:
    session = enter(table, name, now)
    table.admit(session, peer_port, now)
    return session


def test_the_lowest_free_slot_is_given() -> None:
    table = SessionTable(3)
    assert [enter(table).slot for _ in range(3)] == [0, 1, 2]
    assert table.full
    assert table.open("Late", HOME, 61005, 0.0) is None


def test_session_numbers_never_come_back() -> None:
    table = SessionTable(1)
    first = enter(table)
    table.close(first, 1.0)
    assert enter(table, now=2.0).number == first.number + 1


def test_a_left_slot_rests_while_others_are_free() -> None:
    table = SessionTable(2)
    table.close(enter(table), 1.0)
    assert enter(table, now=1.1).slot == 1


def test_a_left_slot_is_given_at_once_when_no_other_is_free() -> None:
    table = SessionTable(1)
    table.close(enter(table), 1.0)
    assert not table.full
    assert enter(table, now=1.0).slot == 0


def test_a_slot_that_has_rested_is_reported_once() -> None:
    table = SessionTable(2)
    table.close(enter(table), 1.0)
    assert table.settle(1.0 + REST_S / 2) == []
    assert table.settle(1.0 + REST_S) == [0]
    assert table.settle(9.0) == []
    assert enter(table).slot == 0


def test_the_mixer_still_looks_at_a_resting_slot() -> None:
    table = SessionTable(4)
    enter(table)
    table.close(enter(table), 1.0)
    assert table.slots_high == 2
    table.settle(2.0)
    assert table.slots_high == 1


def test_a_client_without_name_is_called_by_its_address() -> None:
    table = SessionTable(2)
    session = table.open("", AWAY, 61002, 0.0)
    assert session is not None
    assert session.name == "2001_db8__1"


def test_an_account_is_a_name_too_and_stays_with_who_comes_back() -> None:
    table = SessionTable(4)
    old = table.open("", AWAY, 61002, 0.0, "anna")
    newcomer = table.open("", AWAY, 61003, 1.0, "anna")
    assert old is not None
    assert newcomer is not None
    assert (old.name, old.account, newcomer.name) == ("anna", "anna", "anna-01")
    table.admit(old, 4464, 0.5)
    table.take_over(newcomer, old, 4464, 1.5)
    assert table.replace(newcomer, 2.0).account == "anna"


def test_namesakes_are_told_apart() -> None:
    table = SessionTable(4)
    assert [enter(table, "dup").name for _ in range(3)] == ["dup", "dup-01", "dup-02"]
    found = table.by_name("dup-01")
    assert found is not None
    assert found.slot == 1


@given(st.lists(st.sampled_from(["a", "a-01", "a-02", "b", ""]), max_size=12))
def test_names_are_unique_whatever_is_asked_for(wanted: list[str]) -> None:
    taken: list[str] = []
    for name in wanted:
        taken.append(unique_name(name, taken))
    assert len(set(taken)) == len(taken)


def test_a_name_is_free_for_others_as_soon_as_nobody_is_shown_under_it() -> None:
    table = SessionTable(4)
    anna, berta = enter(table, "Anna"), enter(table, "Berta")
    table.rename(anna, "Berta")
    assert anna.name == "Anna"
    table.rename(anna, "Clara")
    table.close(berta, 1.0)
    assert [enter(table, name).name for name in ("Anna", "Berta", "Clara")] == [
        "Anna",
        "Berta",
        "Clara-01",
    ]


def test_who_may_be_met_is_found_by_musician_and_by_port_wherever_it_has_moved() -> None:
    table = SessionTable(8)
    namesake, other = active(table, 5001, "Anna"), active(table, 5002, "Berta")
    moved, waiting = active(table, 5003, "Clara"), enter(table, "Anna")
    table.follow(moved, 5009)
    newcomer = enter(table, "Anna")
    assert table.met_by(newcomer, 5002) == [namesake, other, waiting]
    assert table.met_by(newcomer, 5003) == [namesake, waiting]
    assert table.met_by(newcomer, 5009) == [namesake, moved, waiting]
    table.close(namesake, 1.0)
    assert table.met_by(newcomer, 5001) == [waiting]


def test_a_slot_that_is_preferred_is_given_and_one_to_be_avoided_last() -> None:
    table = SessionTable(4)

    def slot(prefer: int | None, *avoid: int) -> int:
        session = table.open("Anna", HOME, 61002, 0.0, prefer=prefer, avoid=avoid)
        assert session is not None
        return session.slot

    assert slot(2, 2) == 2
    assert slot(2, 0, 1) == 3
    assert slot(None, 0, 1) == 0
    assert slot(None, 1) == 1


def test_another_port_of_the_same_address_is_another_client() -> None:
    table = SessionTable(4)
    active(table, 4464)
    assert table.rival(enter(table), 4465) is None


def test_the_same_port_of_another_address_is_another_client() -> None:
    table = SessionTable(4)
    active(table, 4464)
    newcomer = table.open("Anna", AWAY, 61003, 0.0)
    assert newcomer is not None
    assert table.rival(newcomer, 4464) is None


def test_who_comes_back_takes_its_old_slot_and_name() -> None:
    table = SessionTable(4)
    old = active(table, 4464, "Anna")
    other = active(table, 4470, "Berta")
    newcomer = enter(table, "Anna", now=5.0)
    assert newcomer.name == "Anna-01"
    assert table.rival(newcomer, 4464) is old

    table.take_over(newcomer, old, 4464, 5.0)
    assert (old.phase, newcomer.phase) == (Phase.LEAVING, Phase.MOVING)
    assert table.moves() == [(newcomer, old)]
    back = table.replace(newcomer, 5.1)

    assert (back.slot, back.name, back.phase) == (old.slot, "Anna", Phase.ACTIVE)
    assert back.number not in (old.number, newcomer.number)
    assert (back.port, back.peer_port) == (newcomer.port, 4464)
    assert table.sessions() == [back, other]
    assert table.settle(9.0) == [newcomer.slot]


def test_neither_side_of_a_take_over_is_closed_by_itself() -> None:
    table = SessionTable(4)
    old, newcomer = active(table, 4464), enter(table)
    table.take_over(newcomer, old, 4464, 1.0)
    with pytest.raises(ValueError, match="is being replaced"):
        table.close(old, 1.0)
    assert not table.leave(old, 1.0)
    assert not table.leave(newcomer, 1.0)


def test_a_leaving_rival_is_seen_so_that_the_newcomer_waits() -> None:
    table = SessionTable(4)
    old, newcomer = active(table, 4464), enter(table)
    assert table.leave(old, 1.0)
    assert table.rival(newcomer, 4464) is old
    with pytest.raises(ValueError, match="active was wanted"):
        table.take_over(newcomer, old, 4464, 1.0)


def test_too_many_crashes_at_once_are_too_many() -> None:
    session = enter(SessionTable(1))
    assert [session.crashed(i * 0.1) for i in range(CRASH_LIMIT)] == [False] * 4 + [True]


def test_crashes_far_apart_are_borne() -> None:
    session = enter(SessionTable(1))
    assert not any(session.crashed(i * CRASH_WINDOW_S / 3) for i in range(20))
    assert session.restarts == 20


class TableMachine(RuleBasedStateMachine):
    """Any order of arrivals, admissions, come-backs and departures keeps the books straight."""

    SLOTS = 4

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(self.SLOTS)
        self.now = 0.0
        self.numbers: set[int] = set()
        self.present: dict[int, Session] = {}

    def pick(self, data: st.DataObject, *phases: Phase) -> Session | None:
        fitting = sorted(n for n, s in self.present.items() if s.phase in phases)
        return self.present[data.draw(st.sampled_from(fitting))] if fitting else None

    def note(self, session: Session) -> None:
        assert session.number not in self.numbers
        self.numbers.add(session.number)
        self.present[session.number] = session

    @rule(seconds=st.floats(0.0, 1.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for slot in self.table.settle(self.now):
            assert self.table.by_slot(slot) is None

    @rule(name=st.sampled_from(["a", "b", ""]), address=st.sampled_from([HOME, AWAY]))
    def arrive(self, name: str, address: IPAddress) -> None:
        session = self.table.open(name, address, 61002, self.now)
        if session is None:
            assert len(self.present) == self.SLOTS
        else:
            self.note(session)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), peer_port=st.sampled_from([4464, 4465]))
    def knock(self, data: st.DataObject, peer_port: int) -> None:
        session = self.pick(data, Phase.WAITING)
        if session is None:
            return
        rival = self.table.rival(session, peer_port)
        if rival is None:
            self.table.admit(session, peer_port, self.now)
        elif rival.phase is Phase.ACTIVE:
            self.table.take_over(session, rival, peer_port, self.now)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        newcomer = self.pick(data, Phase.MOVING)
        if newcomer is None:
            return
        old = next(old for new, old in self.table.moves() if new is newcomer)
        back = self.table.replace(newcomer, self.now)
        del self.present[old.number], self.present[newcomer.number]
        self.note(back)
        assert back.slot == old.slot

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def kick(self, data: st.DataObject) -> None:
        session = self.pick(data, *Phase)
        assert session is not None
        going = session.phase in (Phase.LEAVING, Phase.MOVING)
        assert self.table.leave(session, self.now) is not going

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        session = self.pick(data, Phase.WAITING, Phase.ACTIVE, Phase.LEAVING)
        if session is None or any(session is old for _, old in self.table.moves()):
            return
        self.table.close(session, self.now)
        del self.present[session.number]

    @invariant()
    def books_are_straight(self) -> None:
        sessions = self.table.sessions()
        assert sorted(s.number for s in sessions) == sorted(self.present)
        assert len({s.slot for s in sessions}) == len(sessions) == len(self.table)
        assert len({s.name for s in sessions}) == len(sessions)
        assert all(s.slot < self.table.slots_high <= self.SLOTS for s in sessions)
        assert len(self.table.waiting()) == sum(s.phase is Phase.WAITING for s in sessions)
        assert all(self.table.by_number(s.number) is s for s in sessions)
        assert all(self.table.by_slot(s.slot) is s for s in sessions)

    @invariant()
    def all_are_found_as_by_looking_at_each(self) -> None:
        sessions = self.table.sessions()
        for s in sessions:
            assert self.table.by_name(s.name) is s
            assert set(self.table.of_musician(s.key)) == {o for o in sessions if o.key == s.key}
            for port in (4464, 4465):
                assert self.table.met_by(s, port) == [
                    o for o in sessions if o is not s and (o.key == s.key or o.peer_port == port)
                ]
        for port in (4464, 4465):
            assert self.table.alone_at(port) == (sum(s.peer_port == port for s in sessions) < 2)

    @invariant()
    def nobody_is_served_twice(self) -> None:
        active = [s for s in self.table.sessions() if s.phase is Phase.ACTIVE]
        assert len({(s.address, s.peer_port) for s in active}) == len(active)


TestTable = TableMachine.TestCase
