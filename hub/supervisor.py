"""The supervisor: a plain loop over queued facts, and never on the audio path.

Signals, reports of the zygote and ends of processes only enqueue; the loop takes one fact
after the other, and between them polls the arena for clients that knock. Hellos and
commands, which wait for an answer, are carried out at once, on the same thread; only files are
written by another::

    start:  ports → arena → zygote → mixer, lanes → they tick → TCP → control → metrics → ready
    stop:   control.stop = 1 → receivers say good-bye, all workers end (or are killed)
            → zygote ends → sockets, arena
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hub.addresses import IPAddress, Peer
from hub.banfile import read_bans
from hub.berths import Berths
from hub.conditions.watch import Watch
from hub.config import ServeConfig
from hub.console import Console
from hub.control import ControlSocket, ControlTcpError, make_way
from hub.desk import Desk
from hub.directory import Directory
from hub.door import Door
from hub.duties import Ready, ReceiverEnded, Relieved, WorkersFailed
from hub.events import Stopping
from hub.gathering import Gathering
from hub.handshake import Doorkeeper
from hub.iostat import Iostat
from hub.jack.seats import JackSeats
from hub.jack.watch import JackWatch
from hub.kin import become_subreaper, hurry
from hub.listener import pending_limit, raise_descriptor_limit
from hub.load import Load
from hub.log import log_limited, tell_left_out
from hub.machine import Machine
from hub.machine_values import HostPort
from hub.membership import Membership
from hub.metrics import Exporter
from hub.news import INTERVAL_S as NEWS_S
from hub.news import News
from hub.notify import ServiceManager
from hub.osc import OscDesk, OscSocket
from hub.overload.admission import Admission
from hub.overload.cores import Cores
from hub.overload.gauges import Gauges
from hub.overload.overload import Overload
from hub.overload.shedding import Shedding
from hub.porter import Porter
from hub.ports import PortPool
from hub.publisher import Publisher
from hub.pulse import Pulse
from hub.readiness import why_not_ready
from hub.rendezvous import events_endpoint, tcp_endpoint
from hub.scrape import MetricsServer
from hub.singleport import SinglePort
from hub.staff import Command, Fact, Staff
from hub.stall import Stall
from hub.start import (
    bridge_order,
    directories_of,
    hub_info,
    log_buffers,
    log_descriptors,
    log_jack,
    log_ready,
    log_realtime,
    make_arena,
)
from hub.zygote import zygote_command
from shared.protocol import Hello

if TYPE_CHECKING:  # it loads what only -A needs
    from hub.auth.authority import Authority

log = structlog.get_logger()

POLL_S = 1 / 20
BUSY_POLL_S = 1 / 200
"""While somebody waits to be let in, or is expected to end."""
COMPILING_S = 3.0
"""A zygote that takes longer has found no compiled kernels."""
TICKING_S = 10.0
"""By then a new mixer has ticked, or it never will."""
HELD_UP_S = 1.0
"""Nobody is let in meanwhile: so long without a poll is worth a line."""
SUMS_S = 10.0
"""How often the log tells of lines that were left out."""
GOODBYE_S = 0.7
"""Workers have this long to end by themselves, with good-byes to the clients."""
BURIAL_S = 0.4
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal came."""

    number: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody who may wants the hub to end."""


class _Stopped(Exception):
    """The hub was told to stop before it was ready."""


class Supervisor:
    """One hub, from its ports to its end.

    Args:
        config: its settings.
        command: how its zygote is started.
        authority: who judges credentials, where they are asked for.
    """

    def __init__(
        self,
        config: ServeConfig,
        command: Command = zygote_command,
        authority: Authority | None = None,
    ) -> None:
        self.config = config
        self.directory = Directory(hub_info(config))
        self._facts: deque[Fact | Signal | StopAsked] = deque()
        self._wake = asyncio.Event()
        self._stop_asked = False
        self._stopping = False
        self._next_poll_s = 0.0
        self._next_sums_s = 0.0
        self._next_round_s = 0.0
        self._next_news_s = 0.0
        self._next_iostat_s = 0.0
        self._ready: Ready | None = None

        self._descriptors = raise_descriptor_limit()
        self.doorkeeper = Doorkeeper(
            self._welcome,
            pending_limit(self._descriptors, config.max_clients),
            self._gate,
            authority=authority,
            turned_away=lambda login, source: self.directory.hub.turned_away.note(
                login.value, str(source), time.monotonic()
            ),
        )
        self._authority = authority
        self._arena_fd, self.arena = make_arena(config)
        self._life_read, self._life_write = os.pipe2(os.O_CLOEXEC)
        self.staff = Staff(
            self._arena_fd,
            self._life_read,
            {
                "realtime": config.realtime,
                "cpus": config.cpus,
                "mixer_cpus": config.mixer_cpus,
            },
            config.transmit_lanes,
            self.directory,
            self.tell,
            command,
            config.clients_per_worker,
            int(self.arena.header[0]["cores"]),
        )
        admission, usable = Admission(config.admit_load), os.sched_getaffinity(0)
        cores = len({*(config.cpus or usable), *(config.mixer_cpus or config.cpus or usable)})
        self._stall = Stall(self.arena, self.staff, POLL_S)
        self._publisher = Publisher()
        single, hub = config.single_port, self.directory.hub
        self._single = None if single is None else SinglePort(single, self.arena, hub)
        pool = PortPool(config.udp_base, config.max_clients, without=single)
        self.membership = Membership(
            self.arena,
            self.directory,
            Berths(pool, hub, self._single),
            self.staff,
            config.transmit_lanes,
            config.queue,
            Door(config.door_rules, read_bans(config.banfile) if config.banfile else ()),
            config.sections,
            self._publisher.tell,
            JackSeats(self.arena, config.jack_ports, config.sections) if config.jack else None,
            admission,
        )
        self._cores = Cores(cores, realtime=config.realtime)
        self._overload = Overload(
            self.arena,
            Gauges(
                self.arena,
                self.directory,
                self._cores,
                config.line_mbit,
            ),
            admission,
            Shedding(config.shed_load),
            self.membership,
            self.directory,
            self._publisher.tell,
        )
        self.porter = Porter(
            self.membership, self.directory, config.banfile, tell=self._publisher.tell
        )
        self.console = Console(
            self.membership, self.directory, config.scenefile, self._publisher.tell
        )
        self._desk = Desk(
            self.arena,
            self.directory,
            self.membership,
            self.porter,
            lambda: self.tell(StopAsked()),
            self.console,
        )
        self.staff.connect(
            self.membership.mailroom, self.membership.socket_of, self.membership.post_all
        )
        self._news = News(self.arena)
        self._iostat = Iostat(self.arena, config.iostat_log) if config.iostat_s else None
        self._load = Load(self.arena)
        self._pulse = Pulse(self.arena, self.staff)
        self._gathering = Gathering(self.arena, self.membership.table, self.staff)
        self._watch = Watch(self.arena, self.directory)
        self._jack = JackWatch(self.arena, self._publisher.tell) if config.jack else None
        self._manager = ServiceManager(lambda: int(self.arena.clock[0]["ticks"]))
        self._controls: list[ControlSocket] = []
        self._metrics: MetricsServer | None = None
        self._osc: OscSocket | None = None

    def tell(self, fact: Fact | Signal | StopAsked) -> None:
        """Enqueue a fact; all that a callback does."""
        self._facts.append(fact)
        self._wake.set()

    async def run(self) -> None:
        """Be a hub until told to stop.

        Raises:
            OSError, MetricsError, OscError, ControlTcpError: a port or an endpoint cannot be had.
            WrongKey: keys are missing, or are none.
            WorkersFailed: a process does not stay alive.
        """
        loop = asyncio.get_running_loop()
        heeded = list(_STOP_SIGNALS)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup's doing
            heeded.remove(signal.SIGHUP)
        for number in heeded:
            loop.add_signal_handler(number, self.tell, Signal(number))
        try:
            await self._start()
            while not self._stop_asked:
                await self._turn()
        except _Stopped:
            pass
        finally:
            await self._stop()
            for number in heeded:
                loop.remove_signal_handler(number)

    async def _start(self) -> None:
        began, config = time.monotonic(), self.config
        # what may be taken is taken first: who starts a second hub learns it at once
        self.doorkeeper.bind(config.bind_port)
        if self._single is not None:
            self._single.lobby.bind()
        if config.control is not None:
            make_way(Path(config.control.removeprefix("ipc://")))
        if config.control_tcp is not None:
            self._bind_tcp(config.control_tcp, config.control_keys or Path())
        if config.metrics is not None:
            machine = Machine(self._arena_fd, directories_of(config))
            exporter = Exporter(self.arena, self.directory, machine=machine)
            self._metrics = MetricsServer(
                config.metrics,
                exporter,
                lambda: why_not_ready(self.arena, self.directory.hub, time.monotonic_ns()),
            )
            self._metrics.start()
        if config.osc is not None:
            queues = OscDesk(self.arena, self.directory, self.membership, self._publisher.tell)
            self._osc = OscSocket(config.osc, queues)
        become_subreaper()
        if config.realtime:
            hurry()
            log_realtime(self._cores.limit, config.period_frames / config.rate_hz)
        log_buffers()
        log_descriptors(self._descriptors, config.max_clients)

        try:
            self.staff.start_zygote()
        except OSError as error:
            raise WorkersFailed(f"zygote cannot be started: {error}") from error
        if not await self._until(lambda: self._ready is not None, COMPILING_S):
            log.info("kernels are being compiled: minutes, once after an installation or update")
            await self._until(lambda: self._ready is not None)
        self.staff.hire_mixer()
        self.staff.hire_lanes()
        if config.jack:
            log_jack(config)
            self.staff.hire_bridge(bridge_order(config))
        if not await self._until(self._ticking, TICKING_S):
            raise WorkersFailed(f"the mixer has not ticked within {TICKING_S:g} s")

        if self._authority is not None:
            self._authority.start()
        if self._single is not None:
            self._single.lobby.open()
        self.doorkeeper.open()
        if config.control is not None:
            self._controls.append(ControlSocket(config.control, self._desk))
            self._publisher.bind_file(events_endpoint(config.control))
        for control in self._controls:
            control.start()
        if self._osc is not None:
            self._osc.start()
        self.staff.at_start = False
        self._manager.ready(f"serves clients on TCP {self.doorkeeper.port}")
        self.directory.hub.ready = True
        self._next_sums_s = time.monotonic() + SUMS_S
        log_ready(config, self.doorkeeper.port, time.monotonic() - began)

    def _bind_tcp(self, where: HostPort, keys: Path) -> None:
        """Take the control plane's TCP ports; nobody is answered yet."""
        try:
            endpoint = tcp_endpoint(where)
            self._controls.append(ControlSocket(endpoint, self._desk, keys))
            self._publisher.bind_tcp(events_endpoint(endpoint), keys)
        except OSError as error:
            raise ControlTcpError(where, error) from None

    async def _turn(self) -> None:
        """Wait for facts or the next poll, and deal with both."""
        loop = asyncio.get_running_loop()
        if not self._facts:
            timer = loop.call_at(self._next_poll_s, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        self._wake.clear()
        while self._facts:
            self._handle(self._facts.popleft())
        now = loop.time()
        if now >= self._next_poll_s:
            table = self.membership.table
            self._poll(now)
            busy = bool(table.waiting() or table.going())
            self._next_poll_s = now + (BUSY_POLL_S if busy else POLL_S)

    async def _until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Go on with facts until a condition holds; False when it takes too long.

        Raises:
            _Stopped: told to stop, before the hub was ready.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not condition():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            await self._turn()
            if self._stop_asked and not self._stopping:
                raise _Stopped
        return True

    def _handle(self, fact: Fact | Signal | StopAsked) -> None:
        """Deal with one fact."""
        match fact:
            case Signal(number):
                self._heed(number)
            case StopAsked():
                self._stop_asked = True
            case _:
                with _going_on("fact"):
                    self._note(self.staff.handle(fact))

    def _heed(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stop_asked:
            log.info("hub is told to stop", signal=name)
            self._stop_asked = True
        elif self._stopping:
            log.warning("hub ends at once", signal=name)
            self.staff.kill_all()
            self.staff.kill_zygote()

    def _note(self, outcome: Ready | ReceiverEnded | Relieved | None) -> None:
        """What became of a fact about processes."""
        match outcome:
            case ReceiverEnded(sessions, status, stuck, alone) if not self._stopping:
                self.membership.receiver_ended(
                    sessions, status, time.monotonic(), stuck=stuck, alone=alone
                )
            case Relieved(slot, session, pid):
                self._gathering.let_go(slot, session, pid)
            case Ready(seconds, compiled, refusals):
                for refused in refusals if self._ready is None else ():
                    log.warning("refused by this machine", **refused)
                log.info("zygote ready", seconds=round(seconds, 2), compiled=compiled)
                self._ready = outcome

    def _ticking(self) -> bool:
        """Whether mixer and lanes have come into step."""
        lanes = self.arena.lanes["ticks"][1 : 1 + self.config.transmit_lanes]
        return bool(self.arena.clock[0]["ticks"] > 0 and (lanes > 0).all())

    def _gate(self, address: IPAddress) -> bool:
        """Whether a source may connect."""
        with _going_on("gate"):
            return self.porter.gate(address, time.monotonic())
        return False

    def _welcome(self, hello: Hello, peer: Peer) -> int | None:
        """A client's hello: its UDP port, or None."""
        now = time.monotonic()
        with _going_on("hello"):
            port = self.membership.welcome(hello, peer, now)
            self._next_poll_s = min(self._next_poll_s, now + BUSY_POLL_S)
            self._wake.set()
            return port
        return None

    def _poll(self, now: float) -> None:
        if self._stopping:
            return
        self._note_turn(now)
        with _going_on("poll"):
            table, all_due = self.membership.table, now >= self._next_round_s
            if all_due or table.going():
                self.membership.poll(now)
            else:
                self.membership.greet(now)
            self._count_hellos()
            if not all_due:
                return  # somebody waits for an answer, and nothing else is in a hurry
            self._next_round_s = now + POLL_S
            self._stall.look(now)
            self._pulse.look(now)
            with _going_on("gathering"):
                self._gathering.look(now)
            self._manager.feed(now)
            if not self.staff.at_start:
                self._overload.hurry(now)
            if now >= self._next_news_s:
                self._next_news_s = now + NEWS_S
                sessions = self.membership.table.sessions()
                self._news.tell(sessions)
                self.directory.hub.load_ratio = self._load.look()
                if self._jack is not None:
                    self._jack.look()
                if not self.staff.at_start:  # before that nothing ticks
                    with _going_on("load"):
                        self._overload.look(sessions, now)
                    with _going_on("conditions"):
                        self._watch.look(sessions, now)
                    with _going_on("events"):
                        self._publisher.look(self.directory)
            if self._iostat is not None and now >= self._next_iostat_s:
                self._next_iostat_s = now + self.config.iostat_s
                self._iostat.tell(self.membership.table.sessions(), time.time())
            if now >= self._next_sums_s and not self.staff.at_start:
                self._next_sums_s = now + SUMS_S
                tell_left_out()

    def _note_turn(self, now: float) -> None:
        """Let others see that the loop goes on, and tell when it did not."""
        hub = self.directory.hub
        held_s = 0.0 if hub.turned_s is None else now - hub.turned_s
        hub.turned_s = now
        if held_s > HELD_UP_S and not self.staff.at_start:
            log_limited(log.warning, "supervisor was held up", seconds=round(held_s, 1))

    def _count_hellos(self) -> None:
        """Let the directory show what doorkeeper and authority did by themselves."""
        hub, authority = self.directory.hub, self._authority
        self.doorkeeper.show(hub)
        if authority is not None:
            hub.accounts = len(authority.users.by_name)
            hub.certificate_expiry_s = authority.identity.expires_s

    async def _stop(self) -> None:
        """End all, in order; what does not end is killed."""
        self._stopping = True
        self._manager.stopping()
        began, clients = time.monotonic(), len(self.membership.table)
        self._publisher.tell(Stopping(clients=clients))
        self.arena.control[0]["stop"] = 1
        self.doorkeeper.close()
        if self._authority is not None:
            await self._authority.close()
        self.staff.stop()
        if not await self._until(lambda: self.staff.idle, GOODBYE_S):
            log.warning("workers do not end and are killed")
            self.staff.kill_all()
            await self._until(lambda: self.staff.idle, BURIAL_S)
        self.staff.hang_up()
        os.close(self._life_write)
        if not await self._until(lambda: not self.staff.zygote_running, BURIAL_S):
            self.staff.kill_zygote()
            await self._until(lambda: not self.staff.zygote_running, BURIAL_S)
        if not self.staff.idle:  # they were the zygote's, and it could not kill them
            self.staff.kill_all()
            await self._until(lambda: self.staff.idle, BURIAL_S)
        for control in self._controls:
            await control.close()
        self._publisher.close()
        if self._metrics is not None:
            self._metrics.close()
        if self._osc is not None:
            self._osc.close()
        if self._iostat is not None:
            self._iostat.close()
        self._manager.close()
        self.membership.close()
        os.close(self._life_read)
        os.close(self._arena_fd)
        tell_left_out()
        log.info("hub stopped", clients=clients, seconds=round(time.monotonic() - began, 2))


@contextlib.contextmanager
def _going_on(what: str) -> Iterator[None]:
    """One thing that went wrong must not end the hub: it is logged, and the hub goes on."""
    try:
        yield
    except WorkersFailed:
        raise
    except Exception:
        log.exception("supervisor failed", at=what)
