"""A load run from the first handshake to the last exit packet.

::

    sockets, records, kernels -> the generator's thread -> early joins, each sends at once
      -> all have heard the hub -> settle
      -> window: voices, counting, CPU; the director's joins, leaves and faults
      -> drain -> exit packets -> what was heard is examined

The generator's thread runs one kernel without the interpreter's lock; this module only
steers it, through the run's record. A Ctrl-C in the window closes it; before, it ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from loadtest.clients.generator import generate
from loadtest.clients.network import make_networks
from loadtest.clients.roster import expectation, limits, make_state
from loadtest.clients.state import NEVER, State
from loadtest.clients.turns import settle_rest
from loadtest.clients.wires import BASE, Wires, make_wires, open_sockets, watch
from loadtest.commandline import ENDINGS
from loadtest.conduct import procfs
from loadtest.conduct.addresses import is_loopback
from loadtest.conduct.control import PATIENCE_MS, TIMEOUT_MS, Status, compare, status_of
from loadtest.conduct.director import Director, Stage, early, too_late
from loadtest.conduct.entrances import Entrances
from loadtest.conduct.handshake import resolve
from loadtest.conduct.outcome import Event, EventKind, HubCost, Outcome, Progress
from loadtest.conduct.realtime import ask_for_realtime, resident
from loadtest.scenario.model import SECOND_NS, Scenario, Sources

FIRST_AUDIO_S = 10.0
DRAIN_S = 0.5
GOODBYE_S = 0.4
DELAYED_S = 3.0
"""Longest that delayed datagrams are waited for before the sockets close."""
LEAD_NS = SECOND_NS // 20
_POLL_S = 0.02


LACKING_MEMORY = (
    "not enough memory that may be kept from being swapped: raise memlock (ulimit -l, or "
    "limits.conf), or --no-realtime"
)


class SessionError(RuntimeError):
    """The run could not be done at all."""


class NobodyLetIn(SessionError):
    """The hub let nobody in. (Whatever else hinders a run is our own failure.)"""


class Conductor(Protocol):
    """What happens in the window, other than playing."""

    problems: list[str]

    async def run(self) -> None:
        """All of it; ends with the window at the latest."""


class Silent:
    """Nobody is told how a run is getting on."""

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """Nothing."""

    def watch(self, state: State) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Session:
    """One run, and the stage of its director. ``run`` leaves no thread and no socket.

    Attributes:
        host: numeric address of the hub, once it runs; port: its TCP port.
        hub_pids: roots of the hub's process tree; empty: its costs are not measured.
        opened_ns: when the window opens; NEVER: not yet known.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        host: str = "127.0.0.1",
        port: int = 4464,
        hub_pids: Sequence[int] = (),
        control: str | None = None,
        realtime: bool = True,
        progress: Progress | None = None,
        director: Callable[[Scenario, Stage], Conductor] = Director,
        base: tuple[int, int] = BASE,
        zero_ns: int = 0,
    ) -> None:
        """
        Args:
            control: endpoint of the hub's control socket.
            director: makes the one who conducts the window.
            base: first two bytes of the clients' addresses.
            zero_ns: CLOCK_MONOTONIC from which phases are counted, so that two generators may
                share a period; 0: from now.
        """
        self.scenario = scenario
        self.host, self.port = host, port
        self.hub_pids = hub_pids
        self.opened_ns = NEVER
        self._control, self._realtime = control, realtime
        self._progress: Progress = progress or Silent()
        self._director = director
        self._base, self._zero_ns = base, zero_ns
        self._family = 0
        self._noted: list[Event] = []
        self._entrances: Entrances | None = None
        self._interrupted: asyncio.Event | None = None
        self._died: BaseException | None = None

    def run(self) -> Outcome:
        """Do the run.

        Raises:
            NobodyLetIn: no client came in.
            SessionError: no such host, no sockets, or a part of this program failed.
            KeyboardInterrupt: before the window opened, or a second one.
        """
        scenario = self.scenario
        try:
            self._family, self.host = resolve(self.host)
        except OSError as error:
            raise SessionError(f"{self.host}: {error}") from error
        try:
            sockets = open_sockets(
                scenario.sources, scenario.clients, self._family, loopback=is_loopback(self.host)
            )
        except OSError as error:
            raise SessionError(_lacking_sockets(scenario, error)) from error
        with contextlib.ExitStack() as stack:
            for udp in sockets:
                stack.enter_context(udp)
            epoll = stack.enter_context(watch(sockets)).fileno() if len(sockets) > 1 else -1
            try:
                if self._realtime:  # before what is to be resident is made
                    stack.enter_context(resident())
                wires = make_wires(scenario, sockets, epoll, self._base)
                outcome = Outcome(scenario, make_state(scenario, len(sockets)))
            except MemoryError as error:
                raise SessionError(LACKING_MEMORY) from error
            outcome.notes += limits(scenario) + too_late(scenario)
            with self._generator(wires, outcome):
                asyncio.run(self._steer(wires, outcome, sockets))
        self._examine(outcome)
        return outcome

    # What a director sees, besides host, port, hub_pids and opened_ns.

    async def join(self, index: int) -> bool:
        """Bring a client in; it plays on return. False: it was refused."""
        return await self._entry.join(index)

    def leave(self, index: int, *, vanish: bool) -> None:
        """Take a client out. No-op when it is away."""
        self._entry.leave(index, vanish=vanish)

    def hub_port(self, index: int) -> int:
        """The UDP port that a client was answered; 0 while it is away."""
        return self._entry.hub_port(index)

    def note(self, event: Event) -> None:
        """Something for the timeline."""
        self._noted.append(event)
        self._progress.note(event.text)

    async def status(self) -> Status | None:
        """The hub's state as its control socket says it."""
        return await status_of(self._control, TIMEOUT_MS)

    @property
    def _entry(self) -> Entrances:
        assert self._entrances is not None, "only while it runs"
        return self._entrances

    @contextlib.contextmanager
    def _generator(self, wires: Wires, outcome: Outcome) -> Iterator[None]:
        """The kernel's thread, compiled before its schedule begins and ended afterwards."""
        state = outcome.state
        networks = make_networks(self.scenario)
        load = expectation(self.scenario), state, wires.post, wires.inbox, networks
        self._progress.phase("compiling or loading kernels")
        state.run["stop"] = 1
        generate(*load)
        settle_rest(load[0], state)
        state.run["stop"] = 0
        state.run["zero_ns"] = self._zero_ns or time.monotonic_ns()
        self._progress.watch(state)

        def work() -> None:
            try:
                outcome.realtime = ask_for_realtime() if self._realtime else False
                generate(*load)
            except BaseException as error:  # it would be printed, and nobody would know
                self._died = error

        thread = threading.Thread(target=work, name="generator", daemon=True)
        thread.start()
        try:
            yield
        finally:
            state.run["stop"] = 1
            thread.join()

    async def _steer(self, wires: Wires, outcome: Outcome, sockets: list[socket.socket]) -> None:
        self._entrances = Entrances(
            self.scenario, outcome.state, wires, family=self._family, host=self.host,
            port=self.port, udp_ports=[udp.getsockname()[1] for udp in sockets], base=self._base,
        )  # fmt: skip
        self._interrupted = asyncio.Event()
        watching = asyncio.create_task(self._watch_generator())
        with self._interruptible():
            try:
                before_kib = sum(procfs.private_kib(procfs.tree(*self.hub_pids)).values())
                if await self._come_in(outcome):
                    await self._window(outcome, before_kib)
            finally:
                outcome.interrupted = self._interrupted.is_set()
                if self._died is None:
                    await self._go(wires, outcome.state)
                self._report(outcome)
                watching.cancel()
        if self._died is not None:
            raise SessionError(f"the generator ended: {self._died!r}") from self._died
        if outcome.interrupted and self.opened_ns == NEVER:
            raise KeyboardInterrupt

    async def _watch_generator(self) -> None:
        """A generator that has ended ends the run, as a Ctrl-C would."""
        assert self._interrupted is not None
        while self._died is None:
            await asyncio.sleep(_POLL_S)
        self._interrupted.set()

    async def _come_in(self, outcome: Outcome) -> bool:
        """Those who join before the window, until they have heard the hub. False: interrupted.

        Raises:
            SessionError: none of them was let in.
        """
        members = early(self.scenario)
        rate = self.scenario.join_rate
        self._progress.phase(f"{len(members)} clients join", len(members) / rate if rate else 0.0)
        begin = time.monotonic()

        async def one(rank: int, index: int) -> None:
            if rate and await self._pause(begin + rank / rate - time.monotonic()):
                return
            await self._entry.join(index)

        await asyncio.gather(*(one(rank, index) for rank, index in enumerate(members)))
        present = self._entry.present
        if members and not present and not self._stopped:
            problems = self._entry.problems
            raise NobodyLetIn(problems[0] if problems else "nobody came in")
        clients = outcome.state.clients
        needed = [index for index in present if not clients["optional"][index]]
        deadline = time.monotonic() + FIRST_AUDIO_S
        # Who has heard nothing by then is reported as unheard.
        while not clients["first_ns"][needed].all() and time.monotonic() < deadline:
            if await self._pause(_POLL_S):
                return False
        self._progress.phase("settling", self.scenario.settle_s)
        return not await self._pause(self.scenario.settle_s)

    async def _window(self, outcome: Outcome, before_kib: int) -> None:
        """What is measured."""
        run = outcome.state.run
        outcome.control_expected = self._control is not None
        status = await self.status() or await status_of(self._control, PATIENCE_MS)
        outcome.at_opening = {
            "skipped": int(run["skipped"][0]),
            "send_errors": int(outcome.state.clients["send_errors"].sum()),
            "own_drops": int(outcome.state.drops.sum()),
            "overrun": int(run["overrun"][0]),
        }
        self.opened_ns = time.monotonic_ns() + LEAD_NS
        closed_ns = self.opened_ns + int(self.scenario.seconds * SECOND_NS)
        run["closed_ns"] = closed_ns
        run["opened_ns"] = self.opened_ns  # last, since it is what the kernels look at
        self._progress.phase("playing", self.scenario.seconds)
        director = self._director(self.scenario, self)
        conducting = asyncio.create_task(director.run())
        try:
            await self._pause_until(self.opened_ns)
            stolen_s = procfs.steal_s()
            own = procfs.snapshot([os.getpid()])
            before = procfs.snapshot(procfs.tree(*self.hub_pids))
            if await self._pause_until(closed_ns):
                closed_ns = time.monotonic_ns()
                run["closed_ns"] = closed_ns
            pids = procfs.tree(*self.hub_pids)
            after = procfs.snapshot(pids)
            outcome.own_load = _load(own, procfs.snapshot([os.getpid()]))
            outcome.steal_s = procfs.steal_s() - stolen_s
            later = await self.status()
        finally:
            conducting.cancel()
            (failure,) = await asyncio.gather(conducting, return_exceptions=True)
        if isinstance(failure, Exception):
            raise SessionError(f"the director failed: {_cause(failure)!r}") from failure
        outcome.problems += director.problems
        if before.processes:
            outcome.cost = self._cost(before, after, before_kib, pids)
        self._progress.phase("draining", DRAIN_S)
        await asyncio.sleep(DRAIN_S)
        if status is not None and later is None and not self._stopped:
            later = await status_of(self._control, PATIENCE_MS)
        outcome.counters = compare(status, later)
        outcome.versions |= _versions(later or status)
        # No turn begins or is settled by the generator after the window, and all still play.
        settle_rest(expectation(self.scenario), outcome.state)

    def _cost(
        self, before: procfs.Snapshot, after: procfs.Snapshot, before_kib: int, pids: list[int]
    ) -> HubCost:
        memory = procfs.memory_kib(pids)
        return HubCost(
            window_ns=after.at_ns - before.at_ns,
            usage=procfs.usage(before, after, newcomers=True),
            before_kib=before_kib,
            private_kib={pid: private for pid, (private, _) in memory.items()},
            shared_kib={pid: shared for pid, (_, shared) in memory.items()},
            kinds={pid: sample.kind for pid, sample in after.processes.items()},
            clients=_average(self._entry.playing, before.at_ns, after.at_ns),
        )

    async def _go(self, wires: Wires, state: State) -> None:
        """Everybody leaves; until the hub's answers, and what was still delayed, are through."""
        self._progress.phase("leaving", GOODBYE_S)
        self._entry.leave_all()
        await self._entry.all_out()
        deadline = time.monotonic() + DELAYED_S
        while wires.post.desk["waiting"][0] and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(GOODBYE_S)

    def _report(self, outcome: Outcome) -> None:
        """Gather what is known now, with times counted from the opening."""
        entrances = self._entry
        zero_ns = self.opened_ns if self.opened_ns != NEVER else time.monotonic_ns()
        outcome.joins = entrances.joins
        outcome.problems += entrances.problems
        outcome.own_faults += entrances.own_faults
        outcome.playing = [((at - zero_ns) / SECOND_NS, count) for at, count in entrances.playing]
        outcome.events = sorted(
            [
                Event((each.at_ns - zero_ns) / SECOND_NS, each.kind, each.client, each.text)
                for each in entrances.happened
            ]
            + self._noted,
            key=lambda event: event.at_s,
        )
        if outcome.interrupted:
            outcome.events.append(
                Event((time.monotonic_ns() - zero_ns) / SECOND_NS, EventKind.NOTE, -1, "stopped")
            )

    def _examine(self, outcome: Outcome) -> None:
        """Have the captured sound taken apart, and the faults named."""
        self._progress.phase("examining what was heard")
        examine: Any = getattr(importlib.import_module("loadtest.hearing"), "examine", None)
        if examine is not None:
            examine(outcome)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C, or SIGTERM, shortens the run, a second one breaks it off."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        former = {
            each: before
            for each in (signal.SIGINT, *ENDINGS)
            if (before := signal.getsignal(each)) is not signal.SIG_IGN
        }

        def restore() -> None:
            for each, before in former.items():
                if loop.remove_signal_handler(each):
                    signal.signal(each, before)

        def shorten() -> None:
            assert self._interrupted is not None
            self._interrupted.set()
            restore()

        for each in former:
            loop.add_signal_handler(each, shorten)
        try:
            yield
        finally:
            restore()

    @property
    def _stopped(self) -> bool:
        return self._interrupted is not None and self._interrupted.is_set()

    async def _pause(self, seconds: float) -> bool:
        """Sleep; whether it was interrupted."""
        assert self._interrupted is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._interrupted.wait(), max(0.0, seconds))
        return self._stopped

    async def _pause_until(self, at_ns: int) -> bool:
        return await self._pause((at_ns - time.monotonic_ns()) / SECOND_NS)


def _lacking_sockets(scenario: Scenario, error: OSError) -> str:
    wanted = scenario.clients if scenario.sources == Sources.PORTS else 1
    hint = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        hint = f": {wanted} are wanted, and {limit} descriptors allowed (ulimit -Hn)"
    return f"no sockets for the clients: {error.strerror}{hint}"


def _versions(status: Status | None) -> dict[str, Any]:
    version = status["hub"].get("version") if status else None
    return {"tuttihub": version} if version else {}


def _cause(failure: Exception) -> Exception:
    """What failed first in a group of tasks."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _average(playing: list[tuple[int, int]], begin_ns: int, end_ns: int) -> float:
    """Mean of a step function of time, between two times."""
    area, at_ns, count = 0, begin_ns, 0
    for change_ns, after in playing:
        moved_ns = min(max(change_ns, begin_ns), end_ns)
        area += (moved_ns - at_ns) * count
        at_ns, count = moved_ns, after
    area += (end_ns - at_ns) * count
    return area / max(1, end_ns - begin_ns)


def _load(before: procfs.Snapshot, after: procfs.Snapshot) -> float:
    """Share of one core that all sampled processes used between two snapshots."""
    cpu_us = sum(use.cpu_us for use in procfs.usage(before, after).values())
    return cpu_us * 1000 / max(1, after.at_ns - before.at_ns)
