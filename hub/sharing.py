"""Receivers that serve several clients: who has room, and how a client is put to one.

A shared receiver begins with one client, and gets the others by mail. A session that ends in it
leaves room for another; one that nobody is left in is let go after a while. When it dies, each
of its sessions goes on with a process of its own: should one of them have been the cause, it
will be alone the next time. Of SIGKILL none is the cause: then they share another.

Where there are too many for a process each, those who have one are gathered, some at a time: a
shared receiver asks the client's own to let go of it, and goes on at the same sample.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from shared.messages import MailOp, send_mail

ALONE_A_CORE = 64
"""Clients of a core, from which on they share receivers if nothing else is asked for."""
AUTO_PLACES = 16
"""Clients of a receiver that is shared then: more save little, and would fall with it."""
RETIRE_S = 10.0
"""A shared receiver without clients waits so long for others."""


class Shared:
    """One shared receiver: whom it serves, and the supervisor's end of its mail.

    Args:
        places: how many it may serve.
        sessions: slot by session of those it begins with.

    Attributes:
        sessions: slot by session.
        theirs: the receiver's end, until it has been started.
    """

    def __init__(self, places: int, sessions: Mapping[int, int] | None = None) -> None:
        self.sessions = dict(sessions or {})
        self._places = places
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    @property
    def room(self) -> int:
        """Places that are free; none once it is told to end."""
        return 0 if self._ours.fileno() == -1 else self._places - len(self.sessions)

    def put(self, slot: int, session: int, sock: socket.socket, op: MailOp = MailOp.SOCKET) -> bool:
        """Have it serve one more; False if that cannot be.

        Args:
            op: AWAIT of one whom another receiver serves until it has let go of it.
        """
        if self.room <= 0:
            return False
        try:
            send_mail(self._ours, op, slot, session, sock.fileno())
        except OSError:
            return False
        self.sessions[session] = slot
        return True

    def close(self) -> None:
        """Put nobody to it any more: it ends with the last of its sessions."""
        self._ours.close()
        self.theirs.close()


def places(wanted: int | None, clients: int, cores: int) -> int:
    """How many clients the next receiver may serve.

    Args:
        wanted: ``--clients-per-worker``; None: auto.
        clients: that are served already.
    """
    if wanted is not None:
        return wanted
    return 1 if clients < ALONE_A_CORE * cores else AUTO_PLACES
