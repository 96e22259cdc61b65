"""Mail to kernels: four words and a descriptor, through real sockets."""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from shared.arena import Arena
from shared.messages import MailOp, send_mail
from tests.workers.arenas import arena_of
from workers.mailbox import make_mailbox, read_mail
from workers.monitors import load_orders
from workers.transmit import MAX_MAIL, Lane, make_lane, read_all_mail


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's and the worker's end of a mailbox."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> set[str]:
    """What is open now; what a test before left to the garbage is closed first."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


def same_file(a: int, b: int) -> bool:
    return os.path.samestat(os.fstat(a), os.fstat(b))


# ---- one mail


def test_empty_box() -> None:
    with pair() as (_, theirs):
        assert read_mail(theirs.fileno(), make_mailbox()) == (False, -1)


def test_words_and_descriptor_arrive() -> None:
    box = make_mailbox()
    with pair() as (ours, theirs), open("/dev/null") as file:
        send_mail(ours, MailOp.SOCKET, 700, 1 << 40, file.fileno())
        found, fd = read_mail(theirs.fileno(), box)
        try:
            assert found
            assert box.words.tolist() == [MailOp.SOCKET, 700, 1 << 40, 0]
            assert fd != file.fileno()
            assert same_file(fd, file.fileno())
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)
        send_mail(ours, MailOp.DROP, 3)
        assert read_mail(theirs.fileno(), box) == (True, -1)
        assert box.words.tolist() == [MailOp.DROP, 3, 0, 0]


def test_mails_come_one_by_one_and_in_order() -> None:
    box = make_mailbox()
    with pair() as (ours, theirs):
        for slot in range(20):
            send_mail(ours, MailOp.DROP, slot, slot + 1)
        for slot in range(20):
            assert read_mail(theirs.fileno(), box)[0]
            assert box.words.tolist() == [MailOp.DROP, slot, slot + 1, 0]
        assert not read_mail(theirs.fileno(), box)[0]


@pytest.mark.parametrize("words", [1, 3, 5])
def test_mail_of_another_size_says_nothing(words: int) -> None:
    box = make_mailbox()
    with pair() as (ours, theirs):
        ours.send(struct.pack(f"<{words}q", *range(1, words + 1)))
        assert read_mail(theirs.fileno(), box) == (True, -1)
        assert box.words.tolist() == [0, 0, 0, 0]
        assert read_mail(theirs.fileno(), box) == (False, -1)


def test_closed_box_is_empty() -> None:
    with pair() as (ours, theirs):
        ours.close()
        assert read_mail(theirs.fileno(), make_mailbox()) == (False, -1)


# ---- a lane's mail


class Post:
    """The supervisor's part: letters, and the count that says so."""

    def __init__(self, arena: Arena, lane: Lane, ours: socket.socket, theirs: socket.socket):
        self.arena, self.lane, self.ours, self.theirs = arena, lane, ours, theirs

    def send(self, op: MailOp, slot: int, session: int = 0, fd: int | None = None) -> None:
        send_mail(self.ours, op, slot, session, fd)
        self.arena.control[0]["mail"][0] += 1

    def read(self) -> None:
        read_all_mail(self.arena, 0, self.theirs.fileno(), self.lane)


@contextmanager
def post_office(slots: int = 4) -> Iterator[Post]:
    with arena_of(slots=slots) as arena, pair() as (ours, theirs):
        post = Post(arena, make_lane(slots, 128, 48000), ours, theirs)
        yield post
        for fd in post.lane.fds.tolist():
            if fd >= 0:
                os.close(fd)


def test_socket_is_taken_and_dropped() -> None:
    with post_office() as post, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        before = open_descriptors()
        post.send(MailOp.SOCKET, 2, 9, client.fileno())
        post.read()
        fd = int(post.lane.fds[2])
        assert same_file(fd, client.fileno())
        assert post.lane.sessions.tolist() == [0, 0, 9, 0]

        post.send(MailOp.DROP, 2, 8)  # of a session that has gone already
        post.read()
        assert post.lane.fds[2] == fd

        post.send(MailOp.DROP, 2, 9)
        post.read()
        assert post.lane.fds[2] == -1
        assert post.lane.sessions[2] == 0
        assert open_descriptors() == before


def test_next_session_takes_the_place_of_the_last() -> None:
    with (
        post_office() as post,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        before = len(open_descriptors())
        post.send(MailOp.SOCKET, 0, 1, first.fileno())
        post.send(MailOp.SOCKET, 0, 2, second.fileno())
        post.send(MailOp.DROP, 0, 1)
        post.read()
        assert same_file(int(post.lane.fds[0]), second.fileno())
        assert post.lane.sessions[0] == 2
        assert len(open_descriptors()) == before + 1


def test_rows_are_read_from_the_arena_when_the_mixer_has_read_the_levels() -> None:
    with post_office() as post:
        post.arena.pair[1] = np.nan
        post.arena.pair[1, 3] = 0.25
        post.arena.slots[1]["overrides"] = post.arena.slots[1]["row_changes"] = 1
        load_orders(post.arena, 0, 0, 0, post.lane.rows, post.lane.monitors)
        assert post.lane.rows.counts.tolist() == [0, 0, 0, 0]
        post.arena.clock[0]["levels"][0] = 2
        load_orders(post.arena, 0, 0, 0, post.lane.rows, post.lane.monitors)
        rows = post.lane.rows
        assert rows.counts.tolist() == [0, 1, 0, 0]
        assert (rows.sources[1, 0], rows.levels[1, 0]) == (3, 0.25)
        assert not rows.coefficients[1, 0].any()


@pytest.mark.parametrize("slot", [-1, 4, 1 << 40, -(1 << 40)])
def test_mail_for_a_slot_that_is_none_is_dropped(slot: int) -> None:
    with post_office() as post, open("/dev/null") as file:
        before = open_descriptors()
        post.send(MailOp.SOCKET, slot, 1, file.fileno())
        post.send(MailOp.DROP, slot, 1)
        post.send(MailOp.DROP, slot, 0)
        post.read()
        assert post.lane.mail_seen[0] == 3
        assert np.all(post.lane.fds == -1)
        assert open_descriptors() == before, "the descriptor stays open"


def test_descriptor_with_other_mail_is_not_kept() -> None:
    with post_office() as post, open("/dev/null") as file:
        before = open_descriptors()
        post.send(MailOp.DROP, 0, 9, file.fileno())
        post.read()
        assert open_descriptors() == before


def test_box_is_only_looked_into_when_the_count_says_so() -> None:
    """A read costs a system call; here it would fail."""
    with post_office() as post:
        read_all_mail(post.arena, 0, -1, post.lane)
        send_mail(post.ours, MailOp.DROP, 0, 9)  # sent, but not counted yet
        post.read()
        assert post.lane.mail_seen[0] == 0
        post.arena.control[0]["mail"][0] = 1
        post.read()
        assert post.lane.mail_seen[0] == 1


def test_lane_reads_a_bounded_number_of_mails_a_tick() -> None:
    with post_office() as post:
        for _ in range(MAX_MAIL + 5):
            post.send(MailOp.DROP, 0, 9)
        post.read()
        assert post.lane.mail_seen[0] == MAX_MAIL
        post.read()
        assert post.lane.mail_seen[0] == MAX_MAIL + 5


def test_mail_that_was_counted_but_did_not_come_is_waited_for() -> None:
    with post_office() as post:
        post.arena.control[0]["mail"][0] = 1
        post.read()
        assert post.lane.mail_seen[0] == 0
        send_mail(post.ours, MailOp.DROP, 0, 9)
        post.read()
        assert post.lane.mail_seen[0] == 1
