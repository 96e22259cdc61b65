"""The account of who serves whom, while clients change from their own receiver to a shared one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from hub import sharing
from hub.duties import Duty, Kind, ReceiverEnded, Worker
from hub.receivers import Receivers
from hub.sharing import Shared
from shared.messages import MAIL, MailOp


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def own(receivers: Receivers, session: int) -> Worker:
    """A receiver of one client, running."""
    worker = Worker(session, Duty(Kind.RECEIVER, slot=session, session=session), 0.0, pid=session)
    receivers.hired(worker)
    return worker


def shared(receivers: Receivers, places: int = 8) -> Worker:
    """One that begins with nobody."""
    worker = Worker(100, Duty(Kind.RECEIVER), 0.0, pid=100, shared=Shared(places))
    receivers.hired(worker)
    return worker


def test_more_than_the_cores_have_room_for_are_a_crowd(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "ALONE_A_CORE", 2)
    receivers, settled = Receivers(None, 1, lambda _: sock), Receivers(1, 1, lambda _: sock)
    seen = []
    for session in (1, 2, 3):
        own(receivers, session)
        own(settled, session)
        seen.append((receivers.places > 1, receivers.crowded))
    assert seen == [(False, False), (True, False), (True, True)]
    assert not settled.crowded  # one a worker is what was asked for
    assert [worker.duty.session for worker in receivers.alone()] == [1, 2, 3]


def test_who_is_to_be_alone_is_gathered_by_nobody_until_its_session_is_over(
    sock: socket.socket,
) -> None:
    """It may be what a shared receiver has died of."""
    receivers = Receivers(None, 1, lambda _: sock)
    suspect, another = own(receivers, 1), own(receivers, 2)
    receivers.keep_apart(1)
    assert receivers.alone() == [another]
    receivers.release(1)
    assert receivers.alone() == [suspect, another]


def test_until_its_own_receiver_has_ended_a_client_is_that_ones(sock: socket.socket) -> None:
    receivers = Receivers(None, 1, lambda _: sock)
    former, another = own(receivers, 1), own(receivers, 2)
    assert not receivers.relieve(former, 5.0)  # there is none to share
    heir = shared(receivers)
    assert heir.shared is not None

    assert receivers.relieve(former, 5.0)

    assert receivers.serving(1) == [former]
    assert receivers.alone() == [another]
    assert (receivers.relieving(4.9), list(receivers.sharing)) == (1, [1])
    assert receivers.relieving(5.1) == 0  # it keeps none waiting
    data, fds, _, _ = socket.recv_fds(heir.shared.theirs, 100, 4)
    assert MAIL.unpack(data) == (MailOp.AWAIT, 1, 1, 0)
    socket.socket(fileno=fds[0]).close()
    receivers.forget(former)
    assert receivers.heir(former) is heir
    assert receivers.heir(another) is None
    assert receivers.serving(1) == [heir]
    assert receivers.relieving(0.0) == 0
    heir.shared.close()


def test_who_dies_before_it_takes_over_ends_those_it_relieves_and_leaves_the_rest(
    sock: socket.socket,
) -> None:
    receivers = Receivers(None, 1, lambda _: sock)
    former, heir = own(receivers, 1), shared(receivers)
    assert receivers.put(2, 2) is heir
    assert receivers.relieve(former, 5.0)

    receivers.forget(heir)
    ended, with_it = receivers.ended(heir, -signal.SIGKILL)

    assert ended == ReceiverEnded((2,), -signal.SIGKILL, stuck=False, alone=False)
    assert with_it == [former]
    assert not receivers.sharing
    receivers.forget(former)
    assert receivers.heir(former) is None
    ended, with_it = receivers.ended(former, -signal.SIGKILL)
    assert ended == ReceiverEnded((1,), -signal.SIGKILL, stuck=False, alone=True)
    assert with_it == []
