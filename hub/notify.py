"""Tells systemd how the hub fares: ready, alive, ending (sd_notify(3)).

The protocol is a datagram of ``NAME=value`` lines to the socket that systemd names; its page
asks to have it written out rather than depend on libsystemd, and the packages that wrap those
few lines are no longer kept. Without ``NOTIFY_SOCKET`` nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()

NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
FEEDS_IN_TIME = 3.0
"""The watchdog is fed so many times within the time that systemd gives."""


class ServiceManager:
    """The line to systemd, if it started us and wants to know.

    Args:
        ticks: how many ticks the hub has mixed so far: the watchdog is fed only when there are
            more than at the last time. (The supervisor's own loop is proved by the call.)
    """

    def __init__(self, ticks: Callable[[], int], environ: Mapping[str, str] = os.environ) -> None:
        self._ticks = ticks
        self._ticked = -1
        self._ready = False
        self._next_feed_s = 0.0
        self._socket: socket.socket | None = None
        self.feed_s = _feed_s(environ)
        """Seconds between two feeds of the watchdog, or None: there is none."""
        path = environ.get(NOTIFY_SOCKET, "")
        if not path:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            # '@' stands for the zero byte that begins an abstract name
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            log.warning("systemd cannot be told", path=path, why=error.strerror)
            self.close()

    def ready(self, status: str) -> None:
        """The hub serves clients; from now on the watchdog is fed."""
        self._ready = True
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The hub has begun to end."""
        self._tell("STOPPING=1\nSTATUS=says good-bye")

    def feed(self, now: float) -> None:
        """Keep the watchdog quiet, if it is time and the hub ticks; call it often.

        Args:
            now: CLOCK_MONOTONIC, seconds.
        """
        if self.feed_s is None or not self._ready or now < self._next_feed_s:
            return
        ticks = self._ticks()
        if ticks != self._ticked:
            self._ticked = ticks
            self._next_feed_s = now + self.feed_s
            self._tell("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(text.encode())
        except OSError as error:  # its queue is full, or it is being restarted: it asks for little
            log.debug("systemd was not told", text=text, why=error.strerror)


def _feed_s(environ: Mapping[str, str]) -> float | None:
    """How often to feed the watchdog; None where none is set for this process."""
    try:
        usec = int(environ.get(WATCHDOG_USEC, "0"))
        pid = int(environ.get(WATCHDOG_PID, str(os.getpid())))
    except ValueError:
        return None
    return usec / 1e6 / FEEDS_IN_TIME if usec > 0 and pid == os.getpid() else None
