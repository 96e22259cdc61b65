"""Mail to the mixer and the lanes: which socket a listener has, whose levels changed.

A mailbox belongs to one life of a worker: a new one starts empty, at count 0, and all
that still holds is posted again. What does not fit into the kernel's buffer waits here;
nothing waits twice, so that even a worker that never reads costs little.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from shared.arena import Arena
from shared.messages import MailOp, send_mail

RETRY_S = 0.01
BUFFER_BYTES = 1 << 20
_TRY_AGAIN = {errno.ENOBUFS, errno.ETOOMANYREFS}

_Letter = tuple[MailOp, int, int]


class Mailbox:
    """The supervisor's end of one worker's mailbox."""

    def __init__(
        self, arena: Arena, lane: int, socket_of: Callable[[int], socket.socket | None]
    ) -> None:
        self._count = arena.control["mail"][0]
        self._lane = lane
        self._socket_of = socket_of
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Letter, None] = {}
        self._sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._count[lane] = 0

    @property
    def waiting(self) -> int:
        """Letters that did not fit yet."""
        return len(self._waiting)

    def post(self, op: MailOp, slot: int, session: int = 0) -> None:
        """Send a letter, or let it wait for room."""
        self._waiting.setdefault((op, slot, session))
        if len(self._waiting) == 1:
            self._send()

    def close(self) -> None:
        """The worker is gone; so is what it did not get."""
        self._waiting.clear()
        if self._sock.fileno() != -1:
            self._loop.remove_writer(self._sock)
        self._sock.close()
        self.theirs.close()

    def _send(self, awaited: bool = False) -> None:
        """Send what waits, as far as it goes; awaited: there was no room, and now there is."""
        while self._waiting and self._sock.fileno() != -1:
            op, slot, session = letter = next(iter(self._waiting))
            try:
                self._put(op, slot, session)
            except BlockingIOError:
                if not awaited:
                    self._loop.add_writer(self._sock, self._send, True)
                return
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    self._loop.call_later(RETRY_S, self._send)
                    return
                self._waiting.clear()  # it has died; whoever comes next gets it all
                break
            del self._waiting[letter]
        if awaited and self._sock.fileno() != -1:
            self._loop.remove_writer(self._sock)

    def _put(self, op: MailOp, slot: int, session: int) -> None:
        fd = None
        if op is MailOp.SOCKET:
            sock = self._socket_of(session)
            if sock is None:
                return  # left before the letter did
            fd = sock.fileno()
        send_mail(self._sock, op, slot, session, fd)
        self._count[self._lane] += 1


class Mailroom:
    """Mailboxes by lane; 0 is the mixer's.

    Args:
        lanes: separate lanes; with none the mixer serves every listener.
        socket_of: a session's UDP socket, None once it is closed.
    """

    def __init__(
        self, arena: Arena, lanes: int, socket_of: Callable[[int], socket.socket | None]
    ) -> None:
        self._arena = arena
        self._lanes = lanes
        self._socket_of = socket_of
        self._boxes: dict[int, Mailbox] = {}

    def lane_of(self, slot: int) -> int:
        """The lane that serves a listener."""
        return 1 + slot % self._lanes if self._lanes else 0

    def connect(self, lane: int) -> socket.socket:
        """A new, empty mailbox for a lane's next life; returns the worker's end of it."""
        self.disconnect(lane)
        box = self._boxes[lane] = Mailbox(self._arena, lane, self._socket_of)
        return box.theirs

    def disconnect(self, lane: int) -> None:
        box = self._boxes.pop(lane, None)
        if box is not None:
            box.close()

    def post(self, op: MailOp, slot: int, session: int = 0) -> None:
        """Mail to the lane that serves this listener; lost when it has no mailbox."""
        box = self._boxes.get(self.lane_of(slot))
        if box is not None:
            box.post(op, slot, session)

    def close(self) -> None:
        for lane in list(self._boxes):
            self.disconnect(lane)
