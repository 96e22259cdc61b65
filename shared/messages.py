"""Messages between the supervisor and its processes, over Unix SOCK_SEQPACKET pairs.

*Orders* to the zygote and its *reports* are JSON objects, one a datagram, with file
descriptors attached where noted::

    {"op": "receiver", "token": n, "slots": [k], "sessions": [s]}   + a UDP socket a slot, and
                                      behind them its mail socket if it is to be shared: then
                                      there may be no slot
    {"op": "mixer", "token": n}                                     + its mail socket
    {"op": "lane", "token": n, "lane": 1..K, "lanes": K}            + its mail socket
    {"op": "bridge", "token": n, "server": name, ...}               (workers.jackbridge)
    {"op": "kill", "token": n}        SIGKILL, if that worker still lives

    {"event": "ready", "seconds": s, "compiled": kernels compiled anew,
     "refused": [{"what", "error", "advice"}]}      real-time settings the machine refused
    {"event": "started", "token": n, "pid": p}
    {"event": "failed", "token": n, "error": text}  could not be forked; n is null when
                                     the order could not even be read
    {"event": "exited", "token": n, "pid": p, "status": exit code, or −signal}

*Mail* to the mixer, the lanes and shared receivers is four int64, so that a kernel can read
it, and for SOCKET and AWAIT one descriptor. After sending to a lane, the supervisor raises
``CONTROL.mail[lane]``; only then does the kernel spend a system call to look. A shared receiver
looks once a tick; when its mail socket is closed, it ends with the last of its sessions. The
sockets' own locks order the supervisor's writes to the arena before the mail that announces
them.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from enum import IntEnum
from typing import Any

from shared.limits import MAX_SHARING

MAIL = struct.Struct("<4q")
MAX_ORDER_BYTES = 65536
MAX_DESCRIPTORS = MAX_SHARING + 1


class MailOp(IntEnum):
    """First word of a mail; the others are slot, session and 0."""

    SOCKET = 1
    """The attached descriptor is this session's UDP socket; to a receiver: serve it."""
    DROP = 2
    """Close the socket of this session."""
    AWAIT = 3
    """To a shared receiver: the attached descriptor is this session's UDP socket; ask the receiver
    that serves it to let go of it, then serve it."""


class WorkerExit(IntEnum):
    """Exit codes of workers."""

    DONE = 0
    FAILED = 1
    HUB_GONE = 3
    JACK_GONE = 4


def send_order(sock: socket.socket, order: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one JSON message with descriptors.

    Raises:
        OSError: the other side is gone.
    """
    socket.send_fds(sock, [json.dumps(order).encode()], list(fds))


def receive_order(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive one JSON message and its descriptors (close-on-exec); None at the end.

    Raises:
        BlockingIOError: nothing there, on a non-blocking socket.
        ValueError: no JSON object; its descriptors are closed.
    """
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(MAX_ORDER_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        return None
    try:
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError(f"message {data[:40]!r} is no JSON object")
    except ValueError:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds.tolist()


def send_mail(
    sock: socket.socket, op: MailOp, slot: int, session: int = 0, fd: int | None = None
) -> None:
    """Send one mail; the caller then raises ``CONTROL.mail`` of that lane.

    Raises:
        OSError: the worker is gone, or (BlockingIOError) its mailbox is full.
    """
    socket.send_fds(sock, [MAIL.pack(op, slot, session, 0)], [] if fd is None else [fd])
