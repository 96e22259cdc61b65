"""Who is who: the table of hub.identity, line by line and as a whole."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.identity import SILENT_S, Verdict, decide, is_nameless, musician_key, nameless_name
from hub.sessions import Phase, Session

HOME, AWAY = ip_address("192.0.2.1"), ip_address("198.51.100.2")
NOW = 100.0
KNOCKED = NOW - 0.01
ALIVE, SILENT, BETWEEN = NOW - 0.001, NOW - SILENT_S, NOW - 1.0
LET_IN, WAIT, TAKE_OVER, CLEAR = Verdict


class Hub:
    """Sessions, and when each was heard."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.heard: dict[int, float] = {}

    def add(
        self, name: str = "Anna", heard: float = ALIVE, port: int | None = 4464, *,
        address: str = str(HOME), account: str = "", phase: Phase = Phase.ACTIVE,
    ) -> Session:  # fmt: skip
        number = len(self.sessions)
        session = Session(
            number, number, f"{name}-{number}", name, ip_address(address), 61002 + number, 0.0,
            account, phase=phase, peer_port=port,
        )  # fmt: skip
        self.sessions.append(session)
        self.heard[number] = heard
        return session

    def judge(
        self, name: str = "Anna", port: int = 4464, *, address: str = str(HOME), account: str = ""
    ) -> tuple[Verdict, Session | None]:
        phase = Phase.WAITING
        newcomer = self.add(name, 0.0, None, address=address, account=account, phase=phase)
        decision = decide(
            newcomer, port, KNOCKED, self.sessions, lambda s: self.heard[s.number], NOW
        )
        return decision.verdict, decision.other


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.mark.parametrize("heard", [ALIVE, BETWEEN, SILENT])
def test_the_same_musician_at_its_port_takes_over(hub: Hub, heard: float) -> None:  # line 1
    assert hub.judge() == (LET_IN, None)
    old = hub.add(heard=heard)
    assert hub.judge() == (TAKE_OVER, old)


def test_another_musician_at_a_port_clears_it(hub: Hub) -> None:  # line 2
    old = hub.add("Berta")
    assert hub.judge("Anna") == (CLEAR, old)


@pytest.mark.parametrize("phase", [Phase.LEAVING, Phase.MOVING])
@pytest.mark.parametrize("name", ["Anna", "Berta"])
def test_a_port_that_is_being_left_is_waited_for(hub: Hub, phase: Phase, name: str) -> None:  # 3
    old = hub.add(name, phase=phase)
    assert hub.judge() == (WAIT, old)


def test_a_living_namesake_stays_and_so_does_the_newcomer(hub: Hub) -> None:  # line 4
    hub.add(heard=ALIVE)
    assert hub.judge(port=4465) == (LET_IN, None)


def test_a_silent_namesake_has_come_back(hub: Hub) -> None:  # line 5
    old = hub.add(heard=SILENT)
    hub.add("Berta", SILENT, 4470)
    assert hub.judge(port=4465) == (TAKE_OVER, old)


def test_a_namesake_who_may_yet_be_heard_is_waited_for(hub: Hub) -> None:  # line 6
    old = hub.add(heard=BETWEEN)
    assert hub.judge(port=4465) == (WAIT, old)


def test_of_several_silent_namesakes_none_is_taken_over(hub: Hub) -> None:  # line 7
    hub.add(heard=SILENT, port=1)
    hub.add(heard=SILENT, port=2)
    assert hub.judge(port=4465) == (LET_IN, None)


def test_a_nameless_one_replaces_another_at_its_own_port_only(hub: Hub) -> None:  # line 8
    nameless = nameless_name(HOME)
    old = hub.add(nameless, SILENT)
    assert is_nameless(old)
    assert hub.judge(nameless, 4465) == (LET_IN, None)
    assert hub.judge(nameless, 4464) == (TAKE_OVER, old)


def test_an_account_is_known_from_anywhere(hub: Hub) -> None:
    old = hub.add(account="anna", heard=SILENT, address=str(AWAY))
    assert hub.judge(account="anna") == (TAKE_OVER, old)
    assert hub.judge(account="berta") == (LET_IN, None)
    assert hub.judge() == (LET_IN, None)


def test_a_name_from_elsewhere_is_another_musician(hub: Hub) -> None:
    hub.add(heard=SILENT, address=str(AWAY))
    assert hub.judge(port=4465) == (LET_IN, None)


def test_two_names_of_one_account_are_two_musicians(hub: Hub) -> None:
    hub.add("Anna", SILENT, account="choir")
    assert hub.judge("Berta", 4465, account="choir") == (LET_IN, None)


def test_who_has_not_been_let_in_is_in_nobodys_way(hub: Hub) -> None:
    hub.add(heard=SILENT, port=None, phase=Phase.WAITING)
    assert hub.judge() == (LET_IN, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("", "Anna", HOME), ("", "Anna", HOME), True),
        (("", "Anna", HOME), ("", "anna", HOME), False),
        (("", "Anna", ip_address("2001:db8::1")), ("", "Anna", ip_address("2001:db8::2")), True),
        (("a", "Anna", HOME), ("a", "Anna", AWAY), True),
        (("a", "Anna", HOME), ("", "Anna", HOME), False),
    ],
)
def test_by_what_a_musician_is_known(one: tuple, other: tuple, same: bool) -> None:  # type: ignore[type-arg]
    assert (musician_key(*one) == musician_key(*other)) is same


_SESSION = st.tuples(
    st.sampled_from(["Anna", "Berta", nameless_name(HOME)]),
    st.sampled_from([ALIVE, BETWEEN, SILENT, KNOCKED, NOW - SILENT_S + 1e-6, 0.0]),
    st.sampled_from([1, 2, 3, 4, None]),
    st.sampled_from([str(HOME), str(AWAY)]),
    st.sampled_from(["", "", "anna"]),
    st.sampled_from(list(Phase)),
)


@given(
    st.lists(_SESSION, max_size=6),
    st.sampled_from(["Anna", nameless_name(HOME)]),
    st.sampled_from(["", "anna"]),
)
def test_the_table(sessions: list[tuple], name: str, account: str) -> None:  # type: ignore[type-arg]
    """What holds whoever is there: nobody alive is displaced, and two never share a port."""
    hub = Hub()
    for who, heard, port, address, holder, phase in sessions:
        known = phase in (Phase.ACTIVE, Phase.LEAVING, Phase.MOVING)
        hub.add(who, heard, port if known else None, address=address, account=holder, phase=phase)
    verdict, other = hub.judge(name, 4, account=account)
    newcomer = hub.sessions.pop()
    at_port = [s for s in hub.sessions if (s.address, s.peer_port) == (HOME, 4)]
    namesakes = [s for s in hub.sessions if s.key == newcomer.key and s.active]
    if verdict in (TAKE_OVER, CLEAR):
        assert other is not None
        assert other.active
        assert (verdict is TAKE_OVER) is (other.key == newcomer.key)
        if other not in at_port:
            assert not is_nameless(newcomer)
            assert hub.heard[other.number] <= NOW - SILENT_S
            assert [s for s in namesakes if hub.heard[s.number] <= NOW - SILENT_S] == [other]
    elif verdict is WAIT:
        assert other is not None
        if other in at_port:
            assert not other.active
        else:  # it is not for ever
            assert NOW - SILENT_S < hub.heard[other.number] <= KNOCKED
    else:
        assert not at_port
        if not is_nameless(newcomer):
            silent = [s for s in namesakes if hub.heard[s.number] <= NOW - SILENT_S]
            assert len(silent) != 1
