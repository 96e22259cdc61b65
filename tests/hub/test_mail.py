"""Mail to lanes: sockets and levels, to each its own, and none in vain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from shared.layout import EndReason
from shared.messages import MAIL, MailOp
from tests.hub.stays import House

FLOOD = 20_000
"""More mail than the kernel has room for."""

Letter = tuple[MailOp, int, int, bool]


def read_mail(sock: socket.socket) -> list[Letter]:
    """All letters in a mailbox: op, slot, session, and whether a socket came along."""
    sock.setblocking(False)
    letters: list[Letter] = []
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(sock, 64, 4)
        except BlockingIOError:
            return letters
        op, slot, session, _ = MAIL.unpack(data)
        letters.append((MailOp(op), slot, session, bool(fds)))
        for fd in fds:
            socket.close(fd)


def in_a_loop(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


@pytest.mark.parametrize("lanes", [0, 2])
def test_each_lane_is_told_of_its_own_listeners_only(lanes: int) -> None:
    def tell() -> None:
        house = House(lanes)
        boxes = {lane: house.membership.mailroom.connect(lane) for lane in range(lanes + 1)}
        anna, berta = house.join(4464, "Anna"), house.join(4465, "Berta")
        house.membership.levels.set_pair(berta.slot, anna.slot, 0.5)
        house.end(anna, EndReason.CLIENT_EXIT)
        assert house.arena.control["mail"][0].sum() == 3
        letters = [
            (MailOp.SOCKET, 0, anna.number, True),
            (MailOp.SOCKET, 1, berta.number, True),
            (MailOp.DROP, 0, anna.number, False),
        ]
        for lane, box in boxes.items():
            own = [x for x in letters if (lane == 0 if lanes == 0 else lane == 1 + x[1] % lanes)]
            assert read_mail(box) == own
        house.membership.close()

    in_a_loop(tell)


def test_a_new_lane_is_told_all_that_holds() -> None:
    def tell() -> None:
        house = House()
        first = house.membership.mailroom.connect(0)
        anna, berta = house.join(4464, "Anna"), house.join(4465, "Berta")
        house.membership.levels.set_pair(berta.slot, anna.slot, 0.5)
        house.end(anna, EndReason.CLIENT_EXIT)
        assert len(read_mail(first)) == 3

        box = house.membership.mailroom.connect(0)
        assert house.arena.control["mail"][0][0] == 0
        house.membership.post_all(0)
        assert read_mail(box) == [
            (MailOp.SOCKET, berta.slot, berta.number, True),
        ]
        assert house.arena.control["mail"][0][0] == 1
        house.membership.close()

    in_a_loop(tell)


def test_mail_waits_for_a_lane_that_does_not_read_and_nothing_waits_twice() -> None:
    async def flood() -> None:
        house = House()
        room = house.membership.mailroom
        box = room.connect(0)
        for _ in range(3):
            for slot in range(FLOOD):
                room.post(MailOp.DROP, slot)
        assert 0 < room._boxes[0].waiting <= FLOOD
        letters: list[Letter] = []
        while room._boxes[0].waiting:
            letters += read_mail(box)
            await asyncio.sleep(0)
        letters += read_mail(box)
        assert {slot for _, slot, _, _ in letters} == set(range(FLOOD))
        assert house.arena.control["mail"][0][0] == len(letters) < 2 * FLOOD
        house.membership.close()

    asyncio.run(asyncio.wait_for(flood(), 60.0))


def test_mail_to_a_dead_lane_is_dropped() -> None:
    def post() -> None:
        house = House()
        house.membership.mailroom.connect(0).close()
        house.enter()
        assert house.arena.control["mail"][0][0] == 0
        house.membership.close()

    in_a_loop(post)


def test_nothing_is_mailed_for_a_socket_that_is_closed() -> None:
    def post() -> None:
        house = House()
        box = house.membership.mailroom.connect(0)
        house.membership.mailroom.post(MailOp.SOCKET, 0, 99)
        assert read_mail(box) == []
        house.membership.close()

    in_a_loop(post)
