"""The stem: the process that receivers are cloned from, without a line of Python.

Whatever Python touches is written to, a page for every object's reference count, and after a
fork a written page is a copy. So the zygote, which reads orders and writes reports, would leave
each of its children a megabyte or two that nobody else has. The stem is the zygote's child, too,
but after that it only waits in a kernel::

    zygote ── slots, sessions, descriptors ──► stem ── clone ──► receiver, the zygote's child
           ◄── pid, or −errno ────────────────

A receiver shares with the stem all that neither of them writes to: its own are the buffers that
it uses. By CLONE_PARENT it is no child but a sibling of the stem: the zygote waits for it as for
its other workers.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.arena import Arena
from shared.bundles import bundle
from shared.kernels import entry_point, kernel
from shared.libc import (
    EINTR,
    EINVAL,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOL_SOCKET,
    clone_sibling,
    close,
    errno,
    exit_process,
    mlock2,
    prctl,
    recvmsg,
    sched_setaffinity,
    sched_setscheduler,
    sendto,
)
from shared.limits import MAX_SHARING
from shared.messages import MAX_DESCRIPTORS, WorkerExit
from workers import realtime
from workers.inbox import FIRST, LIFE, MAIL, Inbox, make_inbox
from workers.rounds import run_receiver

ANSWER_S = 0.5
"""A clone takes milliseconds, and other orders wait: a stem that takes longer is replaced."""
_ORDER = struct.Struct(f"<q16s{2 * MAX_SHARING}q")
_ORDER_BYTES = _ORDER.size
_COUNT, _NAME, _SLOTS, _SESSIONS = 0, 1, 3, 3 + MAX_SHARING
"""Where the words of an order begin."""
_CONTROL_BYTES = socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)
_CONTROL_HEADER = socket.CMSG_LEN(0)
_DONE = int(WorkerExit.DONE)


@bundle
class Desk(NamedTuple):
    """What the stem reads orders with, and what it gives every receiver.

    Attributes:
        words: (3 + 2·MAX_SHARING,) int64, the order: how many clients, the name of their
            process in 16 bytes, slots, sessions.
        control: ancillary data, int64. vector: (2,) int64, struct iovec.
        message: (7,) int64, struct msghdr. answer: (1,) int64.
        cpus: uint64, the mask of processors; empty: any.
        priority: (1,) int32, struct sched_param; empty: no real time.
        inbox: Inbox for as many clients as an order can name.
    """

    words: npt.NDArray[np.int64]
    control: npt.NDArray[np.int64]
    vector: npt.NDArray[np.int64]
    message: npt.NDArray[np.int64]
    answer: npt.NDArray[np.int64]
    cpus: npt.NDArray[np.uint64]
    priority: npt.NDArray[np.int32]
    inbox: Inbox


def make_desk(rate_hz: int, *, real: bool = False, cpus: Sequence[int] | None = None) -> Desk:
    """A desk for receivers of a hub of this rate.

    Args:
        real: ask for SCHED_FIFO and locked memory.
        cpus: processors they may run on; None: any.
    """
    mask = sum(1 << cpu for cpu in cpus or ())
    desk = Desk(
        words=np.zeros(_ORDER.size // 8, np.int64),
        control=np.zeros(_CONTROL_BYTES // 8, np.int64),
        vector=np.zeros(2, np.int64),
        message=np.zeros(7, np.int64),
        answer=np.zeros(1, np.int64),
        cpus=np.array(
            [mask >> at & (1 << 64) - 1 for at in range(0, mask.bit_length(), 64)], np.uint64
        ),
        priority=np.full(int(real), realtime.RECEIVER_PRIORITY, np.int32),
        inbox=make_inbox(MAX_SHARING, rate_hz),
    )
    desk.vector[:] = desk.words.ctypes.data, _ORDER.size
    desk.message[2:5] = desk.vector.ctypes.data, 1, desk.control.ctypes.data
    return desk


@kernel
def _descriptor(control, k):
    """The k-th descriptor that came with an order."""
    return (control[2 + k // 2] >> (32 * (k % 2))) & 0xFFFFFFFF


@kernel
def _descriptors(control):
    """How many descriptors came with an order: where there is no room, fewer or none do."""
    if control[1] != SOL_SOCKET | SCM_RIGHTS << 32:
        return np.int64(0)
    return max(control[0] - _CONTROL_HEADER, 0) // 4


@kernel
def _live(arena, life, desk):
    """A receiver's life after its birth; its exit code."""
    words, inbox = desk.words, desk.inbox
    prctl(realtime.PR_SET_NAME, words[_NAME:].ctypes.data, 0, 0, 0)
    if len(desk.cpus) > 0:
        sched_setaffinity(0, 8 * len(desk.cpus), desk.cpus.ctypes.data)
    if len(desk.priority) > 0:
        mlock2(arena.header.ctypes.data, arena.header[0].bytes, realtime.MLOCK_ONFAULT)
        sched_setscheduler(0, realtime.FIFO, desk.priority.ctypes.data)
    clients = words[_COUNT]
    inbox.polls[LIFE, 0] = life
    for k in range(clients):
        inbox.polls[FIRST + k, 0] = _descriptor(desk.control, k)
    if _descriptors(desk.control) > clients:
        inbox.polls[MAIL, 0] = _descriptor(desk.control, clients)
    slots = words[_SLOTS : _SLOTS + MAX_SHARING]
    sessions = words[_SESSIONS : _SESSIONS + MAX_SHARING]
    return run_receiver(arena, slots, sessions, clients, inbox)


@kernel
def run_stem(arena, orders, life, desk):
    """Clone a receiver for every order, until nobody can give one any more.

    Args:
        arena: shared.arena.Arena.
        orders: SOCK_SEQPACKET socket.
        life: life pipe.
        desk: Desk.

    Returns:
        WorkerExit.DONE.
    """
    while True:
        desk.message[5] = _CONTROL_BYTES
        desk.control[0] = 0
        size = recvmsg(orders, desk.message.ctypes.data, MSG_CMSG_CLOEXEC)
        if size < 0 and errno() == EINTR:
            continue
        if size <= 0:
            return _DONE
        found, clients = _descriptors(desk.control), desk.words[_COUNT]
        fitting = found == clients or found == clients + 1
        complete = fitting and found > 0 and 0 <= clients <= MAX_SHARING
        if size == _ORDER_BYTES and complete:
            pid = clone_sibling()
            if pid == 0:
                close(orders)
                exit_process(_live(arena, life, desk))
            desk.answer[0] = pid if pid > 0 else -errno()
        else:
            desk.answer[0] = -EINVAL
        for k in range(found):
            close(_descriptor(desk.control, k))
        sendto(orders, desk.answer.ctypes.data, 8, MSG_NOSIGNAL, 0, 0)


class Stem:
    """The stem as the zygote, its parent, sees it.

    Args:
        arena, life: as the zygote has them.
        desk: made before, so that every stem has the same.
        settle: what the child does first: to let go of what is the zygote's.

    Raises:
        OSError: it could not be forked.
    """

    def __init__(self, arena: Arena, life: int, desk: Desk, settle: Callable[[], None]) -> None:
        run = entry_point(run_stem)
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                self._orders.close()
                raise
            if self.pid == 0:
                status = int(WorkerExit.FAILED)
                try:
                    self._orders.close()
                    settle()
                    realtime.set_name("tutti-stem")
                    realtime.sharpen_timers()
                    status = run(arena, theirs.fileno(), life, desk)
                except BaseException:  # the child must end here, whatever it was
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(status)
        self._orders.settimeout(ANSWER_S)

    def clone(self, slots: Sequence[int], sessions: Sequence[int], fds: Sequence[int]) -> int:
        """Have a receiver made for these sessions and their sockets; its pid.

        Args:
            fds: one more than sessions, if it is to be shared: its mail.

        Raises:
            BrokenPipeError, ConnectionResetError: the stem is dead, and has not read this.
            ConnectionAbortedError, TimeoutError: it does not answer; what it has done is unknown.
            OSError: the machine has no room for another process.
            ValueError: a number that no slot or session has.
        """
        rest = [0] * (MAX_SHARING - len(slots))
        shared = "+" * (len(fds) > len(slots))
        first = slots[0] if slots else ""
        name = f"tutti-rx-{first}{shared}".encode()[:15]
        try:
            order = _ORDER.pack(len(slots), name, *slots, *rest, *sessions, *rest)
        except struct.error as error:
            raise ValueError(f"slots {slots}, sessions {sessions}: {error}") from error
        socket.send_fds(self._orders, [order], list(fds))
        answer = self._orders.recv(8)
        if not answer:
            raise ConnectionAbortedError("the stem is gone")
        pid = int.from_bytes(answer, "little", signed=True)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def close(self) -> None:
        """End it; the zygote still has to wait for it."""
        self._orders.close()

    def kill(self) -> None:
        """End it at once; it must not have been waited for."""
        self._orders.close()
        os.kill(self.pid, signal.SIGKILL)
