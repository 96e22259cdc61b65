"""The hub's processes: who is to run, who does run, and what becomes of those who die.

A *duty* is what must be done for as long as the hub (mixer, lanes) or a session lives; a
*worker* is one process doing it, known by a token. Workers are forked by the zygote; when
that dies a new one takes its place, its workers play on as orphans, and those it was yet
to fork are ordered again.

Who fails soon after its start, again and again, is not retried for ever: ``Patience``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from hub.directory import Directory, restart_reason
from hub.duties import (
    PAUSES_S,
    Duty,
    Kind,
    Patience,
    Ready,
    ReceiverEnded,
    Relieved,
    Retry,
    Worker,
    WorkersFailed,
)
from hub.mail import Mailroom
from hub.receivers import Receivers
from hub.sharing import Shared
from hub.zygote import Orphans, Report, Zygote, ZygoteDied, zygote_command
from shared.messages import WorkerExit

log = structlog.get_logger()

FORK_FAILED_S = 0.1
"""Rest after a fork that failed: what the machine lacks may come back."""
JACK_PAUSE_S = 0.25
"""Between two lives of the JACK bridge, of which each ends with its JACK server."""
JACK_HUNG_S = 5.0
"""The same, when two in a row were ended since their server let them wait."""
_NO_STATUS = 1


Fact = Report | ZygoteDied | Retry
Command = Callable[[int, int, int, Mapping[str, Any]], list[str]]


class Staff:
    """Starts, replaces and ends the processes of a hub; everything on the loop's thread.

    Args:
        arena, life: descriptors every worker inherits.
        settings: of the zygote.
        lanes: separate transmit lanes.
        directory: is told who runs.
        tell: takes facts, to be brought back to ``handle``.
        command: how a zygote is started.
        clients_per_worker: clients that share a receiver; None: as ``hub.sharing`` says.
        cores: that receivers have.
    """

    def __init__(
        self,
        arena: int,
        life: int,
        settings: Mapping[str, Any],
        lanes: int,
        directory: Directory,
        tell: Callable[[Fact], None],
        command: Command = zygote_command,
        clients_per_worker: int | None = 1,
        cores: int = 1,
    ) -> None:
        self._zygote_arguments = (arena, life, settings)
        self._lanes = lanes
        self._info = directory.hub
        self._clients = directory.clients
        self._tell = tell
        self._command = command
        self._mailroom: Mailroom | None = None
        self._socket_of: Callable[[int], socket.socket | None] = lambda session: None
        self._post_all: Callable[[int], None] = lambda lane: None
        self._workers: dict[int, Worker] = {}  # by token
        self._receivers = Receivers(
            clients_per_worker, cores, lambda session: self._socket_of(session)
        )
        self._last_token = 0
        self._patience: dict[Duty | None, Patience] = {}
        self._orphans = Orphans(tell)
        self._zygote: Zygote | None = None
        self._zygote_since_s = 0.0
        self._bridge_words: Mapping[str, Any] = {}
        self._bridge_stuck = False
        self._stopping = False
        self.at_start = True
        self._info.lane_pids = [None] * lanes

    def connect(
        self,
        mailroom: Mailroom,
        socket_of: Callable[[int], socket.socket | None],
        post_all: Callable[[int], None],
    ) -> None:
        """Where mailboxes and sockets come from, and who fills a new mailbox."""
        self._mailroom = mailroom
        self._socket_of = socket_of
        self._post_all = post_all

    @property
    def idle(self) -> bool:
        """Whether no worker is alive or about to be, as far as is known."""
        return not self._workers and not len(self._orphans)

    @property
    def zygote_running(self) -> bool:
        return self._zygote is not None

    def worker(self, kind: Kind, lane: int = 0) -> Worker | None:
        """The mixer, or a lane, if it is (about to be) there."""
        for worker in self._workers.values():
            if worker.duty.kind is kind and worker.duty.lane == lane:
                return worker
        return None

    def start_zygote(self) -> None:
        """Start a zygote, and give it all orders that none has carried out.

        Raises:
            OSError: no process can be started.
        """
        arena, life, settings = self._zygote_arguments
        self._zygote = Zygote(arena, life, settings, self._tell, self._command)
        self._zygote_since_s = self._now()
        self._info.zygote_pid = self._zygote.pid
        for worker in list(self._workers.values()):
            if not worker.ordered:
                self._order(worker)

    def hire_mixer(self) -> None:
        self._hire(Duty(Kind.MIXER))

    def hire_lanes(self) -> None:
        for lane in range(1, self._lanes + 1):
            self._hire(Duty(Kind.LANE, lane=lane))

    def hire_bridge(self, words: Mapping[str, Any]) -> None:
        """Have a JACK bridge, told this."""
        self._bridge_words = words
        self._hire(Duty(Kind.BRIDGE))

    def hire_receiver(self, slot: int, session: int, *, alone: bool = False) -> None:
        """Have a session served, by a process of its own or one that it shares.

        Args:
            alone: by one of its own, whatever is usual.
        """
        duty = Duty(Kind.RECEIVER, slot=slot, session=session)
        if alone:
            self._receivers.keep_apart(session)
        room = 1 if alone else self._receivers.places
        if room <= 1:
            self._hire(duty)
            return
        worker = self._receivers.put(slot, session)
        if worker is None:
            self._hire(duty, Shared(room, {session: slot}))
            return
        self._note_receiver(slot, session, worker.pid)

    @property
    def receivers(self) -> Receivers:
        """Who serves whom."""
        return self._receivers

    def relieve(self, worker: Worker) -> bool:
        """Have the client of a receiver of its own taken over by a shared one.

        Returns:
            False: that cannot be now.

        Raises:
            OSError: no descriptors are left.
        """
        if self._socket_of(worker.duty.session) is None:  # it is over
            return True
        if self._receivers.relieve(worker, self._now()):
            return True
        shared = Shared(self._receivers.places)
        self._hire(Duty(Kind.RECEIVER), shared)
        if self._receivers.relieve(worker, self._now()):
            return True
        shared.close()
        return False

    def dismiss_receiver(self, session: int) -> None:
        """SIGKILL to a session's receiver, which does not do what it should."""
        for worker in self._receivers.serving(session):
            worker.stuck = True
            self.kill(worker)

    def replace_stuck(self, session: int, patience_s: float) -> None:
        """End a session's receiver if it has had so much time, and does not go on."""
        for worker in self._receivers.serving(session):
            lived_s = self._now() - worker.since_s
            if worker.pid is not None and not worker.stuck and lived_s > patience_s:
                slots = sorted(worker.served.values())
                log.error("receiver is stuck and is replaced", pid=worker.pid, slots=slots)
                worker.stuck = True
                self.kill(worker)

    @property
    def sharing(self) -> Collection[int]:
        """Sessions that share a receiver."""
        return self._receivers.sharing

    def release(self, session: int) -> None:
        """A session is over: its shared receiver, if it had one, has room for another."""
        self._receivers.release(session)

    def kill(self, worker: Worker) -> None:
        """SIGKILL; its end will be reported as any other."""
        if not self._orphans.kill(worker.token) and self._zygote is not None:
            self._zygote.kill_worker(worker.token)

    def handle(self, fact: Fact) -> ReceiverEnded | Relieved | Ready | None:
        """Deal with a fact; what is for others to know is returned.

        Raises:
            WorkersFailed: patience is at its end.
        """
        match fact:
            case ZygoteDied():
                self._replace_zygote(fact)
            case Retry(duty=None):
                if not self._stopping and self._zygote is None:
                    self._try_zygote()
            case Retry(duty=duty):
                if not self._stopping and duty is not None:
                    self._hire(duty)
            case Report(words=words):
                return self._hear(words)
        return None

    def stop(self) -> None:
        """From now on nobody is replaced."""
        self._stopping = True
        for worker in [worker for worker in self._workers.values() if not worker.ordered]:
            self._forget(worker)
        for worker in self._workers.values():
            if worker.shared is not None:
                worker.shared.close()

    def kill_all(self) -> None:
        """SIGKILL to all workers."""
        for worker in self._workers.values():
            self.kill(worker)

    def hang_up(self) -> None:
        """Let the zygote end; its workers have."""
        if self._zygote is not None:
            self._zygote.hang_up()

    def kill_zygote(self) -> None:
        if self._zygote is not None:
            self._zygote.kill()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _hire(self, duty: Duty, shared: Shared | None = None) -> Worker:
        self._last_token += 1
        worker = Worker(self._last_token, duty, self._now(), shared=shared)
        self._workers[worker.token] = worker
        if duty.kind is Kind.RECEIVER:
            self._receivers.hired(worker)
        if self._zygote is not None:
            self._order(worker)
        return worker

    def _forget(self, worker: Worker) -> None:
        del self._workers[worker.token]
        self._receivers.forget(worker)

    def _order(self, worker: Worker) -> None:
        """Send a worker's order to the zygote."""
        assert self._zygote is not None
        assert self._mailroom is not None
        duty = worker.duty
        worker.ordered = True
        words: dict[str, Any] = {"op": duty.kind.value, "token": worker.token}
        if duty.kind is Kind.RECEIVER:
            mail = [] if worker.shared is None else [worker.shared.theirs]
            if worker.shared is not None and worker.shared.theirs.fileno() == -1:
                self._give_up(worker)  # nobody wants it any more
                return
            if duty.session == 0:  # it begins with nobody
                self._zygote.order(words | {"slots": [], "sessions": []}, mail)
                return
            sock = self._socket_of(duty.session)
            if sock is None:  # the session is over
                self._give_up(worker)
                return
            words |= {"slots": [duty.slot], "sessions": [duty.session]}
            self._zygote.order(words, [sock, *mail])
            return
        if duty.kind is Kind.BRIDGE:
            self._zygote.order({**words, **self._bridge_words})
            return
        if duty.kind is Kind.LANE:
            words |= {"lane": duty.lane, "lanes": self._lanes}
        self._zygote.order(words, [self._mailroom.connect(duty.lane)], close=True)
        self._post_all(duty.lane)

    def _hear(self, words: Mapping[str, Any]) -> ReceiverEnded | Relieved | Ready | None:
        """A report of the zygote, or of an orphan's end."""
        if words["event"] == "ready":
            ready = Ready(float(words["seconds"]), int(words["compiled"]), tuple(words["refused"]))
            self._info.refused = list(ready.refused)
            return ready
        worker = self._workers.get(words["token"])
        if worker is None:
            if words["event"] == "started" and self._zygote is not None:
                self._zygote.kill_worker(words["token"])  # another does its duty by now
            return None
        match words["event"]:
            case "started":
                worker.pid = words["pid"]
                worker.since_s = self._now()
                if worker.shared is not None:
                    worker.shared.theirs.close()
                self._note_pid(worker)
            case "failed":
                worker.failed = True
                log_failed = log.error if worker.duty.kind is not Kind.RECEIVER else log.warning
                log_failed("worker cannot be started", duty=str(worker.duty), why=words["error"])
                loop = asyncio.get_running_loop()
                loop.call_later(FORK_FAILED_S, self._give_up, worker)
            case "exited":
                return self._bury(worker, int(words["status"]))
        return None

    def _give_up(self, worker: Worker) -> None:
        """Have a worker that will not be started count as ended."""
        worker.failed = True
        self._tell(Report({"event": "exited", "token": worker.token, "status": _NO_STATUS}))

    def _bury(self, worker: Worker, status: int) -> ReceiverEnded | Relieved | None:
        """A worker has ended: replace it, if it is the hub's."""
        self._forget(worker)
        pid, worker.pid = worker.pid, None
        duty = worker.duty
        if duty.kind is Kind.RECEIVER:
            return self._bury_receiver(worker, pid, status)
        self._note_pid(worker)
        if duty.kind is Kind.BRIDGE:
            self._replace_bridge(worker, status)
            return None
        assert self._mailroom is not None
        self._mailroom.disconnect(duty.lane)
        if self._stopping:
            return None
        lived_s = self._now() - worker.since_s
        log.error("worker died", duty=str(duty), status=status, lived_s=round(lived_s, 1))
        pause_s = self._pause(duty, str(duty), lived_s)
        self._info.count_restart(
            duty.kind.value, "stuck" if worker.stuck else restart_reason(status)
        )
        if duty.kind is Kind.MIXER:
            self._info.mixer_restarts += 1
        else:
            self._info.lane_restarts += 1
        if pause_s > 0.0:
            asyncio.get_running_loop().call_later(pause_s, self._tell, Retry(duty))
        else:
            self._hire(duty)
        return None

    def _bury_receiver(
        self, worker: Worker, pid: int | None, status: int
    ) -> ReceiverEnded | Relieved:
        """A receiver has ended: its clients are left, unless they have another."""
        duty, heir = worker.duty, self._receivers.heir(worker)
        if heir is not None and pid is not None:
            self._note_receiver(duty.slot, duty.session, heir.pid)
            return Relieved(duty.slot, duty.session, pid)
        self._note_pid(worker)
        ended, with_it = self._receivers.ended(worker, status)
        for one in with_it:
            self.kill(one)
        return ended

    def _replace_bridge(self, worker: Worker, status: int) -> None:
        """The JACK bridge has ended, most likely with its server: it will look for the next."""
        if self._stopping:
            return
        pause_s = self._bridge_pause(worker, status)
        asyncio.get_running_loop().call_later(pause_s, self._tell, Retry(worker.duty))

    def _bridge_pause(self, worker: Worker, status: int) -> float:
        """Seconds until the next bridge.

        One may be stuck by libjack's fault, on a busy machine; two in a row are by the server's.
        """
        pause_s, again = JACK_PAUSE_S, self._bridge_stuck
        self._bridge_stuck = worker.stuck
        if worker.stuck:
            self._info.count_restart(worker.duty.kind.value, "stuck")
            pause_s = JACK_HUNG_S if again else JACK_PAUSE_S
        elif status != WorkerExit.JACK_GONE:
            lived_s = self._now() - worker.since_s
            log.error("worker died", duty="bridge", status=status, lived_s=round(lived_s, 1))
            self._info.count_restart(worker.duty.kind.value, restart_reason(status))
            patience = self._patience.setdefault(worker.duty, Patience())
            found_s = patience.pause(lived_s, at_start=False)
            pause_s = max(PAUSES_S[-1] if found_s is None else found_s, JACK_PAUSE_S)
        return pause_s

    def _replace_zygote(self, death: ZygoteDied) -> None:
        """Its workers are ours now; a new zygote gets the orders it did not carry out."""
        self._zygote = None
        self._info.zygote_pid = None
        living = {w.token: w.pid for w in self._workers.values() if w.pid is not None}
        living = {t: pid for t, pid in living.items() if t not in self._orphans}
        self._orphans.adopt(living, death.session)
        for worker in self._workers.values():
            if worker.shared is not None and worker.ordered and worker.pid is None:
                self._give_up(worker)  # who was made of its order may have read its mail
            worker.ordered = worker.pid is not None or worker.failed
        if self._stopping:
            self.stop()
            return
        lived_s = self._now() - self._zygote_since_s
        log.error("zygote died", status=death.status, workers=len(living))
        # as long as it has not even reported that it is ready, each try takes its time
        pause_s = self._pause(None, "zygote", lived_s)
        self._info.zygote_restarts += 1
        self._info.count_restart("zygote", restart_reason(death.status))
        asyncio.get_running_loop().call_later(pause_s, self._tell, Retry(None))

    def _try_zygote(self) -> None:
        try:
            self.start_zygote()
        except OSError as error:
            log.error("zygote cannot be started", error=str(error))
            pause_s = self._pause(None, "zygote", 0.0)
            asyncio.get_running_loop().call_later(max(pause_s, 0.1), self._tell, Retry(None))

    def _pause(self, duty: Duty | None, name: str, lived_s: float) -> float:
        patience = self._patience.setdefault(duty, Patience())
        pause_s = patience.pause(lived_s, at_start=self.at_start)
        if pause_s is None and (self.at_start or duty is not None):
            raise WorkersFailed(f"{name} does not stay alive")
        # without a zygote those who are here go on playing: never give up on a new one
        return PAUSES_S[-1] if pause_s is None else pause_s

    def _note_pid(self, worker: Worker) -> None:
        """Let the directory show who does a duty."""
        duty = worker.duty
        match duty.kind:
            case Kind.MIXER:
                self._info.mixer_pid = worker.pid
            case Kind.BRIDGE:
                self._info.bridge_pid = worker.pid
            case Kind.LANE:
                self._info.lane_pids[duty.lane - 1] = worker.pid
            case Kind.RECEIVER:
                for session, slot in worker.served.items():
                    if not self._receivers.is_relieved(session):
                        self._note_receiver(slot, session, worker.pid)

    def _note_receiver(self, slot: int, session: int, pid: int | None) -> None:
        client = self._clients.get(slot)
        if client is not None and client.session == session:
            client.receiver_pid = pid
