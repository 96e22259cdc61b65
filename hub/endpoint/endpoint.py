"""One end of a connection, from its start to its end.

Beside the audio, which no line here touches, an endpoint's life is a coroutine for each role::

    CLIENT       find host ─► shake hands ─► session ──┐ again, unless told otherwise;
    CLIENT_PEER  find host ───────────────► session ──┤ after a pause that grows
    SERVER_PEER  first datagram ──────────► session ──┘
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import socket
import time
from typing import Any

import structlog

from hub.endpoint.approach import Approach, first_datagram
from hub.endpoint.clock import ClockChanged, Misfit, clock_of
from hub.endpoint.config import Audio, EndpointConfig, Reconnect, Role
from hub.endpoint.crew import WATCH_S, Crew
from hub.endpoint.exits import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOBODY,
    EXIT_REFUSED,
    EXIT_WRONG_OPTION,
)
from hub.endpoint.handshake import NotLetIn
from hub.endpoint.link import Link, make_arena, open_socket
from hub.endpoint.quality import Ticker
from hub.endpoint.report import Report
from hub.endpoint.soundfiles import Recorder, SoundFile, Source, Tone
from hub.endpoint.tape import TURN_S, Deck, Tape
from hub.endpoint.trouble import ClosedPort, why_unheard
from hub.jack.clock import JackClock
from hub.outlet import Outlet
from hub.snapshot import buffered_frames, play_position
from hub.staff import Command
from hub.zygote import zygote_command
from shared.layout import EndReason, RxState
from shared.protocol import DEFAULT_TCP_PORT

log = structlog.get_logger()

POLL_S = 0.01
GOODBYE_S = 0.3
FADE_PERIODS = 3
"""The mix that is sent ends within one; its packet has left by then."""
FADE_S, LONGEST_FADE_S = 0.01, 0.5
"""What is received fades out behind all that has come."""
WIDEN_S = 3.0
"""When nothing has come by then, the other side may be sending from another address."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PortInUse(OSError):
    """Our UDP port is another program's."""


class Endpoint:
    """One endpoint.

    Args:
        config: its settings.
        login: user name and password, with ``auth``.
        ticker: where its quality is shown.
        iostat: where JackTrip's statistics go, or None.
        command: how its zygote is started.
        clock: its rate and period; None: that of JACK, of the file, or what was asked for.

    Raises:
        ConfigError: a file cannot be read or written.
        NoSound: JACK is not there.
        OSError: there is not enough memory.
    """

    def __init__(
        self,
        config: EndpointConfig,
        login: tuple[str, str] | None,
        ticker: Ticker,
        iostat: Outlet | None = None,
        command: Command = zygote_command,
        clock: JackClock | None = None,
    ) -> None:
        self._config = config
        self._approach = Approach(config, login)
        source = SoundFile(config.play) if config.play is not None else None
        clock = clock or clock_of(config, source)
        rate_hz = clock.rate_hz
        self._arena_fd, self.arena = make_arena(config, rate_hz, clock.period_frames)
        said: Source | None = source
        if config.tone_hz is not None:
            said = Tone(config.tone_hz, rate_hz)
        recorder = None
        if config.record is not None:
            recorder = Recorder(
                config.record, rate_hz, config.receive_channels, overwrite=config.overwrite
            )
        self.tape = Tape(self.arena, said, recorder)
        self._deck = Deck(self.tape)
        self._bound: Link | None = None
        self._crew = Crew(config, self._arena_fd, self.arena, lambda _: self._socket, command)
        self._socket: socket.socket | None = None
        self._report = Report(config, self.arena, ticker, iostat)
        self._misfit = Misfit(config, self.arena)
        self._stop = asyncio.Event()
        self._began_s = 0.0

    async def run(self) -> int:
        """Be one end until it is over; an exit code.

        Raises:
            PortInUse, OSError: our UDP port cannot be had.
            WorkersFailed: a process does not stay alive.
            ClockChanged: it is over for this endpoint, and another could go on.
        """
        loop = asyncio.get_running_loop()
        heeded = list(_SIGNALS)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup's doing
            heeded.remove(signal.SIGHUP)
        for number in heeded:
            loop.add_signal_handler(number, self._stop.set)
        tasks: list[asyncio.Task[int | None]] = []
        try:
            if self._config.bind_port is not None:  # who cannot have it learns so at once
                self._open_socket(self._config.bind_port).close()
            stopped = asyncio.create_task(self._stopped())
            tasks.append(stopped)
            started = asyncio.create_task(self._crew.start())
            either: set[asyncio.Future[Any]] = {stopped, started}
            if self._config.host is not None:  # a wrong one is told before anything is compiled
                found = asyncio.create_task(self._find_at_once())
                tasks.append(found)
                await asyncio.wait({*either, found}, return_when=asyncio.FIRST_COMPLETED)
                if found.done() and (code := found.result()) is not None:
                    started.cancel()
                    return code
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                return EXIT_DONE
            started.result()
            self._began_s = time.monotonic()
            live = {
                Role.CLIENT: self._as_client,
                Role.CLIENT_PEER: self._as_client_peer,
                Role.SERVER_PEER: self._as_server_peer,
            }[self._config.role]
            living = [
                asyncio.create_task(live()),
                asyncio.create_task(self._turns()),
                asyncio.create_task(self._watch()),
            ]
            tasks += living
            any_of_them: set[asyncio.Future[Any]] = {stopped, *living, self._crew.failed}
            done, _ = await asyncio.wait(any_of_them, return_when=asyncio.FIRST_COMPLETED)
            codes = [task.result() for task in done]
            return next((code for code in codes if code is not None), EXIT_FAILED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
            for number in heeded:
                loop.remove_signal_handler(number)

    async def _find_at_once(self) -> int | None:
        """An exit code if the other side's name cannot be one."""
        try:
            await self._approach.find()
        except NotLetIn as error:
            return self._give_up(error) if error.final else None
        return None

    # --- roles ---

    async def _as_client(self) -> int:
        sock, approach = self._bind(), self._approach
        approach.begin()
        while True:
            try:
                address, port = await approach.enter(sock.getsockname()[1])
            except NotLetIn as error:
                if error.final or approach.in_vain:
                    return self._give_up(error)
                await approach.rest(error)
                continue
            log.info("the hub answers", hub=str(address), udp_port=port)
            began_s = time.monotonic()
            self._link.open(address, port, sole=True, fresh=True)
            code = self._judge(await self._session())
            if code is not None:
                return code
            await approach.rest_after(time.monotonic() - began_s)

    async def _as_client_peer(self) -> int:
        config, approach, calls = self._config, self._approach, itertools.count()
        self._bind()
        approach.begin()
        while True:
            try:
                addresses = await approach.find()
            except NotLetIn as error:
                if error.final or approach.in_vain:
                    return self._give_up(error)
                await approach.rest(error)
                continue
            address = addresses[next(calls) % len(addresses)]
            log.info("calling the peer", peer=str(address), port=config.peer_port)
            began_s = time.monotonic()
            self._link.open(address, config.peer_port, sole=False, fresh=True)
            reason = await self._session()
            if (code := self._judge(reason)) is not None:
                return code
            if reason is not EndReason.NO_UDP:  # who is not there yet was called for 10 s
                await approach.rest_after(time.monotonic() - began_s)

    async def _as_server_peer(self) -> int:
        sock = self._bind()
        while True:
            log.info("waiting for a peer", port=sock.getsockname()[1])
            address, port = await first_datagram(sock)
            self._link.open(address, port, sole=False, fresh=False)
            code = self._judge(await self._session())
            if code is not None:
                return code

    def _give_up(self, error: NotLetIn) -> int:
        log.error("not connected", host=self._config.host, why=str(error))
        if error.answered:
            return EXIT_REFUSED
        return EXIT_WRONG_OPTION if error.final else EXIT_NOBODY

    def _bind(self) -> socket.socket:
        """Our UDP socket, bound when it is first needed.

        Raises:
            PortInUse, OSError: it cannot be.
        """
        if self._socket is not None:
            return self._socket
        wanted = self._config.bind_port
        try:
            sock = self._open_socket(DEFAULT_TCP_PORT if wanted is None else wanted)
        except PortInUse:
            if wanted is not None:
                raise
            sock = self._open_socket(0)
        self._socket = sock
        self._bound = Link(self._config, self.arena, sock, self._crew.hire, self._crew.post)
        return sock

    @staticmethod
    def _open_socket(port: int) -> socket.socket:
        try:
            return open_socket(port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(error.errno, error.strerror) from None
            raise

    # --- a session ---

    @property
    def _link(self) -> Link:
        """That of our socket, once there is one."""
        assert self._bound is not None
        return self._bound

    async def _session(self) -> EndReason:
        """Until the running session ends; why."""
        link, heard, began_s = self._link, False, time.monotonic()
        closed, dropped = ClosedPort(), False
        while link.state is not RxState.ENDED:
            overdue = link.state is RxState.WAITING and time.monotonic() - began_s > WIDEN_S
            if overdue and (other := link.widen()) is not None:
                log.warning("the hub sends from another of its addresses", address=str(other))
            if link.state is RxState.ACTIVE:
                if not heard:
                    heard = True
                    self._report.greet(link)
                    self._deck.begin()
                link.follow()
                if not dropped and closed.look(link.rx, time.monotonic()):
                    dropped = True
                    link.drop()
            await asyncio.sleep(POLL_S)
        link.mute()
        if not heard and link.rx["packets"]:  # it was here for less than a look
            self._report.greet(link)
        self._report.sum_up(link)
        return link.reason

    def _judge(self, reason: EndReason) -> int | None:
        """What becomes of a session that has ended: an exit code, or None to begin anew."""
        again = self._config.reconnect
        match reason:
            case EndReason.CLIENT_EXIT:
                log.info("the other side has said good-bye")
                if again is Reconnect.ALWAYS:
                    return None
                return EXIT_NOBODY if self._unfinished else EXIT_DONE
            case EndReason.SILENCE | EndReason.REPLACED:
                log.warning(
                    "the other side has been silent for 10 seconds"
                    if reason is EndReason.SILENCE
                    else "nobody listens at the other side's port any more"
                )
                return EXIT_NOBODY if again is Reconnect.NEVER else None
            case EndReason.NO_UDP:
                other_side = "hub" if self._config.role is Role.CLIENT else "peer"
                why, figures = why_unheard(self._link.rx, self._link.tx, other_side)
                log.warning(why, **figures)
                return EXIT_NOBODY if again is Reconnect.NEVER else None
            case EndReason.WRONG_RATE:
                log.error("the other side has a sample rate that cannot be converted")
                return EXIT_REFUSED
            case EndReason.TOO_LARGE:
                log.error("the other side wants more channels than a datagram has room for")
                return EXIT_REFUSED
        log.error("the session failed", reason=reason.name.lower())
        return EXIT_FAILED

    @property
    def _unfinished(self) -> bool:
        """Whether there is sound left to be played, or time."""
        config, tape = self._config, self.tape
        if config.duration_s is not None:
            return tape.played_s < config.duration_s
        return config.play is not None and config.audio is Audio.FILES and not tape.over

    # --- beside it ---

    async def _stopped(self) -> int:
        await self._stop.wait()
        log.info("told to stop")
        return EXIT_DONE

    async def _turns(self) -> int:
        """The end that files or a duration bring."""
        duration = self._config.duration_s
        while True:
            if duration is None:
                if self.tape.over and self._config.audio is Audio.FILES:
                    return EXIT_DONE
            else:
                if not self.tape.running and time.monotonic() - self._began_s >= duration:
                    log.error("nobody was there", seconds=duration)
                    return EXIT_NOBODY
                if self.tape.played_s >= duration:
                    return EXIT_DONE
            await asyncio.sleep(TURN_S)

    async def _watch(self) -> int:
        """Replace what is stuck, and tell how it goes."""
        while True:
            self._report.look(self._bound, time.monotonic())
            await asyncio.sleep(WATCH_S)
            self._crew.watch()
            if (clock := self._misfit.look(time.monotonic())) is not None:
                raise ClockChanged(clock)

    async def _end(self) -> None:
        """Say good-bye, end the processes, close the files."""
        if self._bound is not None and self._bound.number:
            await self._leave(self._bound)
        await self._crew.end()
        self._deck.close()
        if self._socket is not None:
            self._socket.close()
        os.close(self._arena_fd)

    async def _leave(self, link: Link) -> None:
        """Fade out, say good-bye, and let what has come be heard to its end."""
        over = link.state is RxState.ENDED
        queued = float(buffered_frames(link.rx, play_position(self.arena)))
        link.hush()
        await asyncio.sleep(FADE_PERIODS * self._period_s)
        link.mute()
        await asyncio.sleep(2 * self._period_s)
        link.leave()
        deadline = time.monotonic() + GOODBYE_S
        while link.state is not RxState.ENDED and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        if over:
            return
        if link.state is not RxState.ENDED:  # its receiver is not there to do it
            link.say_goodbye()
        elif link.rx["packets"]:
            rest_s = max(queued, 0.0) / float(self.arena.header[0]["rate_hz"])
            await asyncio.sleep(min(rest_s + FADE_S, LONGEST_FADE_S))
        self._report.sum_up(link)

    @property
    def _period_s(self) -> float:
        header = self.arena.header[0]
        return float(header["period_frames"]) / float(header["rate_hz"])
