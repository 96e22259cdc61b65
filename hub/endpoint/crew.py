"""The processes of an endpoint: those of a hub, ``hub.staff``'s, for its three slots.

One mixer is its clock, and one receiver at a time listens to the peer. Who dies is replaced as
on a hub: the session goes on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

import structlog

from hub.directory import Directory, HubInfo
from hub.duties import Patience, Ready, ReceiverEnded, WorkersFailed
from hub.endpoint.config import LIVE, Audio, EndpointConfig
from hub.endpoint.link import PEER, STREAM
from hub.kin import become_subreaper, hurry
from hub.mail import Mailroom
from hub.staff import Command, Fact, Staff
from hub.stall import Stall
from hub.version import version
from shared.arena import Arena
from shared.jacklayout import JackState
from shared.layout import RxState
from shared.messages import MailOp

log = structlog.get_logger()

POLL_S = 0.01
COMPILING_S = 3.0
"""A zygote that takes longer has found no compiled kernels."""
TICKING_S = 10.0
JACK_S = 3.0
END_S = 0.7
BURIAL_S = 0.4
WATCH_S = 0.2
"""How often ``watch`` is to be called."""


class Crew:
    """Mixer and receiver, from their start to their end.

    Args:
        arena_fd, arena: the endpoint's memory.
        socket_of: the UDP socket of a session.
        command: how the zygote is started.
    """

    def __init__(
        self,
        config: EndpointConfig,
        arena_fd: int,
        arena: Arena,
        socket_of: Callable[[int], socket.socket | None],
        command: Command,
    ) -> None:
        self._config, self._arena = config, arena
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._life_read, self._life_write = os.pipe2(os.O_CLOEXEC)
        directory = Directory(HubInfo(version(), os.getpid(), 0, 0, 1, time.time()))
        settings = {"realtime": config.realtime, "cpus": config.cpus, "mixer_cpus": None}
        self._staff = Staff(arena_fd, self._life_read, settings, 0, directory, self._tell, command)
        self._stall = Stall(arena, self._staff, WATCH_S)
        self._mailroom = Mailroom(arena, 0, socket_of)
        self._staff.connect(self._mailroom, socket_of, self._post_again)
        self._session, self._hired_s = 0, 0.0
        self._patience = Patience()
        self._ready: Ready | None = None

    async def start(self) -> None:
        """Until the clock ticks.

        Raises:
            WorkersFailed: it does not.
        """
        become_subreaper()
        if self._config.realtime:
            hurry()
        try:
            self._staff.start_zygote()
        except OSError as error:
            raise WorkersFailed(f"zygote cannot be started: {error}") from error
        if not await self._until(lambda: self._ready is not None, COMPILING_S):
            log.info("kernels are being compiled: minutes, once after an installation or update")
            await self._until(lambda: self._ready is not None, None)
        self._staff.hire_mixer()
        if self._config.audio in LIVE:
            connect, card = not self._config.no_connect, self._config.audio is Audio.CARD
            server = (self._config.card if card else self._config.jack_server) or None
            self._staff.hire_bridge(
                {"server": server, "include": connect, "connect": connect, "card": card}
            )
        if not await self._until(lambda: bool(self._arena.clock[0]["ticks"] > 0), TICKING_S):
            raise WorkersFailed(f"the clock has not ticked within {TICKING_S:g} s")
        if self._config.audio in LIVE:  # its ports are there before anybody is called
            jack = self._arena.jack[0]
            await self._until(lambda: bool(jack["state"] == JackState.RUNNING), JACK_S)
        self._staff.at_start = False

    def hire(self, session: int) -> None:
        """Have a receiver listen to the peer."""
        self._session, self._hired_s = session, self._loop.time()
        self._staff.hire_receiver(PEER, session)

    def post(self, session: int) -> None:
        """Give the mixer the socket that STREAM is sent from."""
        self._session = session
        self._mailroom.post(MailOp.SOCKET, STREAM, session)

    def watch(self) -> None:
        """Replace a mixer that is stuck; to be called every WATCH_S."""
        self._stall.look(self._loop.time())

    async def end(self) -> None:
        """End all; what does not end is killed."""
        staff = self._staff
        self._arena.control[0]["stop"] = 1
        staff.stop()
        if not await self._until(lambda: staff.idle, END_S):
            log.warning("workers do not end and are killed")
            staff.kill_all()
            await self._until(lambda: staff.idle, BURIAL_S)
        staff.hang_up()
        os.close(self._life_write)
        if not await self._until(lambda: not staff.zygote_running, BURIAL_S):
            staff.kill_zygote()
            await self._until(lambda: not staff.zygote_running, BURIAL_S)
        if not staff.idle:  # they were the zygote's, and it could not kill them
            staff.kill_all()
            await self._until(lambda: staff.idle, BURIAL_S)
        self._mailroom.close()
        os.close(self._life_read)
        if self.failed.done() and not self.failed.cancelled():
            self.failed.exception()  # it is known by now

    def _tell(self, fact: Fact) -> None:
        self._loop.call_soon(self._handle, fact)

    def _handle(self, fact: Fact) -> None:
        try:
            outcome = self._staff.handle(fact)
        except WorkersFailed as error:
            self._fail(error)
            return
        match outcome:
            case Ready(refused=refusals):
                for refused in refusals if self._ready is None else ():
                    log.warning("refused by this machine", **refused)
                self._ready = outcome
            case ReceiverEnded((session,), status) if session == self._session:
                self._replace_receiver(session, status)

    def _replace_receiver(self, session: int, status: int) -> None:
        """One that ended before its session did has died: the next goes on with it."""
        rx = self._arena.rx[PEER]
        stopping = self._arena.control[0]["stop"] != 0
        if stopping or (rx["session"] == session and rx["state"] == RxState.ENDED):
            return
        log.warning("receiver died and is replaced", status=status)
        pause_s = self._patience.pause(self._loop.time() - self._hired_s, at_start=False)
        if pause_s is None:
            self._fail(WorkersFailed("receiver does not stay alive"))
            return
        self._loop.call_later(pause_s, self._hire_again, session)

    def _hire_again(self, session: int) -> None:
        if session == self._session and not self._arena.control[0]["stop"]:
            self.hire(session)

    def _post_again(self, lane: int) -> None:
        """All that still holds, to a new mixer."""
        if self._session:
            self._mailroom.post(MailOp.SOCKET, STREAM, self._session)

    def _fail(self, error: WorkersFailed) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _until(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait for a condition; False when it takes too long.

        Raises:
            WorkersFailed: it will never be.
        """
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        while not condition():
            if self.failed.done() and not self._arena.control[0]["stop"]:
                self.failed.result()
            if deadline is not None and self._loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True
