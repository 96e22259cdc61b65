"""Who has room among shared receivers, and what becomes of their sessions."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hub.sharing import ALONE_A_CORE, AUTO_PLACES, Shared, places
from shared.layout import EndReason, RxState
from shared.messages import MAIL, MailOp
from tests.hub.stays import House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.membership.close()


@pytest.mark.parametrize(
    ("wanted", "clients", "cores", "expected"),
    [
        (1, 1000, 1, 1),
        (4, 0, 1, 4),
        (None, 0, 1, 1),
        (None, ALONE_A_CORE - 1, 1, 1),
        (None, ALONE_A_CORE, 1, AUTO_PLACES),
        (None, ALONE_A_CORE, 2, 1),
        (None, 2 * ALONE_A_CORE, 2, AUTO_PLACES),
    ],
)
def test_how_many_share(wanted: int | None, clients: int, cores: int, expected: int) -> None:
    assert places(wanted, clients, cores) == expected


def test_who_is_put_to_a_shared_receiver_is_mailed_to_it_with_its_socket() -> None:
    shared = Shared(2, {70: 3})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert shared.put(4, 71, sock)
        assert not shared.put(5, 72, sock)
    assert shared.sessions == {70: 3, 71: 4}
    data, fds, _, _ = socket.recv_fds(shared.theirs, 100, 4)
    assert MAIL.unpack(data) == (MailOp.SOCKET, 4, 71, 0)
    with socket.socket(fileno=fds[0]) as received:
        assert received.type == socket.SOCK_DGRAM
    shared.close()


def test_nobody_is_put_to_one_that_has_died_or_does_not_read() -> None:
    shared, full = Shared(1 << 20, {1: 0}), Shared(1 << 20, {1: 0})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        shared.theirs.close()
        assert not shared.put(1, 2, sock)
        shared.close()
        assert not shared.put(1, 2, sock)
        put = 0
        while put < 10_000 and full.put(1, 2 + put, sock):
            put += 1
        assert 0 < put < 10_000
    assert len(full.sessions) == put + 1
    full.close()


def test_who_has_ended_moves_out_while_its_receiver_lives(house: House) -> None:
    anna, berta = house.join(4464), house.join(4470, "Berta")
    house.staff.sharing = {anna.number, berta.number}
    house.receiver(anna, RxState.ENDED, end_reason=EndReason.CLIENT_EXIT)

    house.membership.poll(1.0)

    assert house.table.sessions() == [berta]
    assert house.staff.sharing == {berta.number}
    assert house.directory.hub.sessions_ended == {EndReason.CLIENT_EXIT: 1}
    assert len(house.staff.hired) == 2


def test_an_ended_session_is_left_to_a_receiver_of_its_own(house: House) -> None:
    """Its end is known when the process has ended."""
    anna, berta = house.join(4464), house.join(4470, "Berta")
    house.staff.sharing = {berta.number}
    house.receiver(anna, RxState.ENDED, end_reason=EndReason.CLIENT_EXIT)
    house.membership.poll(1.0)
    assert anna in house.table.sessions()


def test_who_is_given_up_by_a_shared_receiver_gets_one_of_its_own(house: House) -> None:
    """As those are whose packets would take too long; who is served by nobody yet is not."""
    anna, berta = house.join(4464), house.enter("Berta", 0.5)
    house.staff.sharing = {anna.number, berta.number}
    house.membership.poll(0.6)
    assert house.staff.alone == []
    house.receiver(berta, RxState.KNOCKING, pid=0, peer_port=4470)

    house.membership.poll(1.0)

    assert house.staff.alone == [berta.number]
    assert house.staff.sharing == {anna.number}
    house.membership.poll(1.1)
    assert berta.active
    assert house.staff.alone == [berta.number]


def test_who_begins_to_play_while_others_are_looked_at_has_not_ended(house: House) -> None:
    """Its receiver is another process: what was seen of it a moment ago need not be so now."""
    anna, berta = house.enter("Anna", 0.5), house.enter("Berta", 0.5)

    class Sharing(set[int]):
        def __contains__(self, number: object) -> bool:
            house.receiver(berta, RxState.ACTIVE, pid=99, peer_port=4471)
            return super().__contains__(number)

    for session, port in ((anna, 4470), (berta, 4471)):
        house.receiver(session, RxState.KNOCKING, pid=99, peer_port=port)
    house.staff.sharing = Sharing({anna.number, berta.number})

    house.membership.poll(1.0)

    assert house.table.sessions() == [anna, berta]
    assert house.staff.sharing >= {anna.number, berta.number}
    assert house.staff.alone == []
    assert house.directory.hub.restarts == {}


def test_all_whose_receiver_has_died_go_on_alone_and_it_counts_once(house: House) -> None:
    anna, berta = house.join(4464), house.join(4470, "Berta")
    gone = house.join(4480, "Clara")
    house.receiver(gone, RxState.ENDED, end_reason=EndReason.CLIENT_EXIT)

    house.membership.receiver_ended([anna.number, berta.number, gone.number], -11, 1.0)

    assert house.staff.alone == [anna.number, berta.number]
    assert house.table.sessions() == [anna, berta]
    assert house.directory.hub.restarts == {("receiver", "crashed"): 1}


def test_all_whose_receiver_was_killed_may_share_another(house: House) -> None:
    """What one of them sent is not what it died of; and one process is there sooner than many."""
    anna, berta = house.join(4464), house.join(4470, "Berta")
    house.membership.receiver_ended([anna.number, berta.number], -9, 1.0, alone=False)
    assert house.staff.alone == []
    assert house.staff.hired[-2:] == [(anna.slot, anna.number), (berta.slot, berta.number)]
    assert house.directory.hub.restarts == {("receiver", "killed"): 1}


def test_receivers_that_were_stuck_are_counted_as_such(house: House) -> None:
    anna, berta = house.join(4464), house.join(4470, "Berta")
    house.membership.receiver_ended([anna.number, berta.number], -9, 1.0, stuck=True)
    assert house.directory.hub.restarts == {("receiver", "stuck"): 1}
    assert house.staff.alone == [anna.number, berta.number]


def test_a_come_back_is_completed_when_both_have_ended_in_living_receivers(house: House) -> None:
    old = house.join(4464)
    house.staff.sharing = {old.number}
    newcomer = house.enter("Anna", 1.0)
    house.staff.sharing |= {newcomer.number}
    house.knock(newcomer, 4464, 1.0)
    for session in (old, newcomer):
        house.receiver(session, RxState.ENDED, end_reason=EndReason.REPLACED)
        house.membership.poll(1.1)
    (session,) = house.table.sessions()
    assert session.slot == old.slot
    assert house.staff.sharing == set()
