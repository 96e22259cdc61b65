"""Orders, reports and mail over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from shared.messages import (
    MAIL,
    MAX_DESCRIPTORS,
    MailOp,
    receive_order,
    send_mail,
    send_order,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_order_round_trip(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    orders = [
        {"op": "receiver", "token": 3, "slots": [1], "sessions": [7]},
        {"event": "failed", "token": 3, "error": "größer als 3 – 5 €"},
    ]
    for order in orders:
        send_order(ours, order)
    for order in orders:
        assert receive_order(theirs) == (order, [])


@pytest.mark.parametrize("count", [1, 2, MAX_DESCRIPTORS])
def test_descriptors_come_along_in_order(
    ends: tuple[socket.socket, socket.socket], count: int
) -> None:
    ours, theirs = ends
    pipes = [os.pipe() for _ in range(count)]
    send_order(ours, {"op": "receiver"}, tuple(write for _, write in pipes))
    received = receive_order(theirs)
    assert received is not None
    _, fds = received
    try:
        assert len(fds) == count
        for (read, _), fd in zip(pipes, fds, strict=True):
            assert not os.get_inheritable(fd)
            os.write(fd, b"x")
            assert os.read(read, 1) == b"x"
    finally:
        for fd in [*fds, *(end for pipe in pipes for end in pipe)]:
            os.close(fd)


def test_end_of_the_other_side_is_none(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.close()
    assert receive_order(theirs) is None


def test_nothing_there_on_a_non_blocking_socket(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    _, theirs = ends
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_order(theirs)


def test_mail_is_four_words(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    send_mail(ours, MailOp.DROP, 5, 1 << 33)
    assert MAIL.unpack(theirs.recv(100)) == (MailOp.DROP, 5, 1 << 33, 0)
    assert MAIL.size == 32


def test_full_mailbox_says_so(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.setblocking(False)
    sent = 0
    full = False
    while not full:
        try:
            send_mail(ours, MailOp.DROP, sent)
            sent += 1
        except BlockingIOError:
            full = True
    for slot in range(sent):
        assert MAIL.unpack(theirs.recv(100))[1] == slot


def test_worker_that_is_gone_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        send_mail(ours, MailOp.DROP, 0, 9)
