"""The zygote as the supervisor sees it: a process that forks workers on order.

    supervisor ── orders (JSON, descriptors) ──►  zygote ── fork ──► workers
               ◄── reports (JSON) ──────────────         ◄─ reaps ──

``Zygote`` is one such process, from its start to its end, and tells what happens as facts:
its reports as they come, then ``ZygoteDied``. Its workers outlive it: the supervisor is
their subreaper, ``Orphans`` watches them and reports their ends in the same words.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hub import kin
from shared.ancestry import children_in
from shared.messages import receive_order, send_order

log = structlog.get_logger()

RETRY_S = 0.01
_TRY_AGAIN = {errno.ENOBUFS, errno.ETOOMANYREFS}
"""No memory, or too many descriptors under way: both pass."""
_ROOT = Path(__file__).resolve().parent.parent
"""Where the packages lie; the zygote must find them whatever its working directory holds."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a zygote says: ``shared.messages`` has the words."""

    words: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ZygoteDied:
    """A zygote ended; its workers may live on.

    Attributes:
        session: its session id, by which orphans of its are known.
        status: exit code, or minus the signal.
    """

    session: int
    status: int


Tell = Callable[[Report | ZygoteDied], None]


def zygote_command(sock: int, arena: int, life: int, settings: Mapping[str, Any]) -> list[str]:
    """How a zygote is started; the descriptors are inherited."""
    command = [sys.executable, "-P", "-m", "workers"]
    command += ["--socket", str(sock), "--arena", str(arena), "--life", str(life)]
    return [*command, "--settings", json.dumps(settings)]


class Zygote:
    """One zygote process.

    Args:
        arena: memfd of the arena.
        life: read end of the pipe whose write end only the supervisor holds.
        settings: {"realtime": bool, "cpus": [..] | None, "mixer_cpus": [..] | None}.
        tell: called with facts, on the loop's thread.

    Raises:
        OSError: it could not be started.
    """

    def __init__(
        self,
        arena: int,
        life: int,
        settings: Mapping[str, Any],
        tell: Tell,
        command: Callable[[int, int, int, Mapping[str, Any]], list[str]] = zygote_command,
    ) -> None:
        self._tell = tell
        self._waiting: deque[tuple[dict[str, Any], tuple[socket.socket, ...], bool]] = deque()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._loop = asyncio.get_running_loop()
        path = os.environ.get("PYTHONPATH")
        with theirs:
            self._process = subprocess.Popen(
                command(theirs.fileno(), arena, life, settings),
                pass_fds=(theirs.fileno(), arena, life),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), path]))},
                # a Ctrl-C of the terminal must reach the supervisor only
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._readable)
        self._loop.add_reader(self._pidfd, self._ended)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def order(
        self,
        words: dict[str, Any],
        attached: Iterable[socket.socket] = (),
        *,
        close: bool = False,
    ) -> None:
        """Send an order with descriptors; while there is no room it waits its turn.

        The sockets are read at the time of sending: an order whose sockets were closed
        meanwhile is dropped. ``close`` closes them when they are sent.
        """
        self._waiting.append((words, tuple(attached), close))
        if len(self._waiting) == 1:
            self._send()

    def kill_worker(self, token: int) -> None:
        """SIGKILL to a worker, if it still lives."""
        self.order({"op": "kill", "token": token})

    def hang_up(self) -> None:
        """Send no more orders: the zygote ends."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """SIGKILL to the zygote itself."""
        if self.running:
            kin.kill(self._pidfd)

    def close(self) -> None:
        """Free the descriptors; the process must have ended."""
        self._forget()
        self._process.poll()

    def _forget(self) -> None:
        if self._sock.fileno() == -1:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._loop.remove_reader(self._pidfd)
        self._sock.close()
        os.close(self._pidfd)
        for _, attached, close in self._waiting:
            if close:
                _close(attached)
        self._waiting.clear()

    def _send(self, awaited: bool = False) -> None:
        """Send what waits, as far as it goes; awaited: there was no room, and now there is."""
        while self._waiting and self._sock.fileno() != -1:
            words, attached, close = self._waiting[0]
            fds = tuple(sock.fileno() for sock in attached)
            try:
                if -1 not in fds:
                    send_order(self._sock, words, fds)
            except BlockingIOError:
                if not awaited:
                    self._loop.add_writer(self._sock, self._send, True)
                return
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    self._loop.call_later(RETRY_S, self._send)
                    return
                # it is dying: its end will be told, and the workers ordered anew
            self._waiting.popleft()
            if close:
                _close(attached)
        if awaited and self._sock.fileno() != -1:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        while True:
            try:
                received = receive_order(self._sock)
            except BlockingIOError:
                return
            except ValueError as error:
                log.error("zygote's report cannot be read", error=str(error))
                continue
            except OSError:
                received = None
            if received is None:
                self._loop.remove_reader(self._sock)
                return
            words, fds = received
            for fd in fds:
                os.close(fd)
            self._tell(Report(words))

    def _ended(self) -> None:
        status = self._process.poll()
        if status is None:
            return
        self._readable()  # its last words
        self._forget()
        self._tell(ZygoteDied(self.pid, status))


class Orphans:
    """Workers whose zygote is dead, watched by pidfd.

    Their ends are told as reports: {"event": "exited", "token", "pid", "status"}.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._pidfds: dict[int, int] = {}  # by token
        self._pids: set[int] = set()  # theirs
        self._unknown: dict[int, int] = {}  # pidfds, by pid, of those that nobody counts on

    def __len__(self) -> int:
        return len(self._pidfds) + len(self._unknown)

    def __contains__(self, token: int) -> bool:
        return token in self._pidfds

    def adopt(self, workers: Mapping[int, int], session: int) -> None:
        """Watch all workers that a zygote left behind.

        Args:
            workers: pid by token, those that were reported.
            session: the zygote's; others in it were forked but never reported: they end, and
                so does who is made yet by the stem, one of them, before its end.
        """
        for token, pid in workers.items():
            pidfd = kin.open_child(pid)
            if pidfd is None:  # ended and reaped, and the zygote could not say so any more
                self._report(token, pid, -signal.SIGKILL)
                continue
            self._pidfds[token] = pidfd
            self._pids.add(pid)
            asyncio.get_running_loop().add_reader(pidfd, self._ended, token, pid)
        self._end_unknown(session)

    def _end_unknown(self, session: int) -> None:
        """Kill who is not counted on; when they are buried, look whether there are more."""
        for pid in [pid for pid in children_in(session) if pid not in self._pids]:
            pidfd = None if pid in self._unknown else kin.open_child(pid)
            if pidfd is not None:
                kin.kill(pidfd)
                self._unknown[pid] = pidfd
                asyncio.get_running_loop().add_reader(pidfd, self._bury, pid, session)

    def kill(self, token: int) -> bool:
        """SIGKILL to an orphan; False when this token is none."""
        pidfd = self._pidfds.get(token)
        if pidfd is None:
            return False
        kin.kill(pidfd)
        return True

    def _ended(self, token: int, pid: int) -> None:
        pidfd = self._pidfds[token]
        try:
            status = kin.reap(pidfd)
        except ChildProcessError:
            status = -signal.SIGKILL
        if status is None:
            return
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(self._pidfds.pop(token))
        self._pids.discard(pid)
        self._report(token, pid, status)

    def _bury(self, pid: int, session: int) -> None:
        pidfd = self._unknown[pid]
        with contextlib.suppress(ChildProcessError):
            if kin.reap(pidfd) is None:
                return
        asyncio.get_running_loop().remove_reader(pidfd)
        del self._unknown[pid]
        os.close(pidfd)
        if not self._unknown:
            self._end_unknown(session)

    def _report(self, token: int, pid: int, status: int) -> None:
        self._tell(Report({"event": "exited", "token": token, "pid": pid, "status": status}))


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
