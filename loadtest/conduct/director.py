"""Makes happen what a scenario says happens in the window: joins, leaves, churn and faults.

The plan is a pure function of the scenario and its seed (``deeds``); a ``Director`` carries
it out on a ``Stage``, which is the session as it needs it::

    scenario -- deeds --> Deed(at_s, client or fault) ... -- Director.run --> Stage.join
                                                                              Stage.leave
                                                                              faults, guests
                                                                              Stage.note

One task a client, so that nobody leaves before their own join is over, and one a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Protocol

from loadtest.conduct.faults import KILLS, FaultRefused, Victim, find_victim, kill, successor
from loadtest.conduct.nonsense import FRAMES, RATE_HZ
from loadtest.conduct.outcome import Event, EventKind
from loadtest.scenario.model import SECOND_NS, Fault, FaultKind, Scenario, Section

_GUESTS_LEAD_S = 0.6
"""Guests begin and report later than they are called; they are gone when the window closes."""
LITTLE = 0.1
"""Guests that did less than this share of what they were to do have not been there."""
_PATIENCE_S = 2.0
"""How long guests that were told to end may take."""


class Stage(Protocol):
    """What the director needs of a session. Joins and leaves are noted by the stage itself
    (JOIN, LEAVE, REFUSED), whoever asked for them; faults and what follows by the director.
    """

    @property
    def host(self) -> str:
        """Numeric address of the hub; guests go there too."""

    @property
    def port(self) -> int:
        """Its TCP port."""

    @property
    def hub_pids(self) -> Sequence[int]:
        """Roots of the hub's process tree; empty: not on this machine, or not known."""

    @property
    def opened_ns(self) -> int:
        """When the window opens (CLOCK_MONOTONIC); known before the director runs, and
        possibly a little ahead."""

    async def join(self, index: int) -> bool:
        """Bring a client in, for the first time or again; it plays on return.

        Returns at the hub's answer, without waiting for audio. False: it was refused, or the
        hub did not answer in time. Never raises, but may be cancelled at the window's end.
        """

    def leave(self, index: int, *, vanish: bool) -> None:
        """Take a client out: with exit packets, or without a word. No-op when it is away."""

    def hub_port(self, index: int) -> int:
        """The UDP port that it was answered; 0 while it is away."""

    def note(self, event: Event) -> None:
        """Something for the timeline."""

    async def status(self) -> dict[str, Any] | None:
        """The hub's state as its control socket says it; None: nobody answers there."""


class Act(StrEnum):
    """What the director does."""

    JOIN = "join"
    LEAVE = "leave"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that is due.

    Attributes:
        at_s: seconds since the opening of the window.
        act: what.
        index: of the client, or of the fault in the scenario.
        serial: which time a fault comes, from 0; of a client's deeds, from 0.
    """

    at_s: float
    act: Act
    index: int
    serial: int


def early(scenario: Scenario) -> list[int]:
    """The clients that the session brings in before the window."""
    return [
        client
        for section in scenario.sections
        for client in scenario.members(section.name)
        if section.join_at_s < 0
    ]


def deeds(scenario: Scenario) -> list[Deed]:
    """All that happens in the window, in order of time; the same for the same scenario."""
    plan = [
        deed
        for section in scenario.sections
        for client, times in _comings(scenario, section)
        for deed in _of_client(client, times, scenario.seconds, section.join_at_s < 0)
    ]
    for index, fault in enumerate(scenario.faults):
        at_s, serial = fault.at_s, 0
        while at_s < scenario.seconds:
            plan.append(Deed(at_s, Act.FAULT, index, serial))
            if fault.every_s <= 0:
                break
            serial += 1
            at_s = fault.at_s + serial * fault.every_s
    # who is away for no time at all leaves first and then joins
    return sorted(plan, key=lambda deed: (deed.at_s, deed.index, deed.serial))


def _comings(
    scenario: Scenario, section: Section
) -> Iterator[tuple[int, Iterator[tuple[float, float]]]]:
    """For every member: from when to when it is in, again and again."""
    members = scenario.members(section.name)
    random = Random(f"{scenario.seed} {section.name}")
    last = max(1, section.clients - 1)
    # Who goes first is not who came first, and each churning member is at another phase: one
    # stratum of the time at home for each, so that they come and go at a steady rate.
    going = random.sample(range(section.clients), section.clients)
    strata = random.sample(range(section.clients), section.clients)
    for rank, client in enumerate(members):
        from_s = max(0.0, section.join_at_s + section.join_over_s * rank / last)
        until_s = section.leave_at_s + section.leave_over_s * going[rank] / last
        first_s = section.home_s * (strata[rank] + random.random()) / section.clients
        yield client, _stays(section, from_s, until_s, first_s)


def _stays(
    section: Section, from_s: float, until_s: float, first_s: float
) -> Iterator[tuple[float, float]]:
    if section.home_s <= 0:
        if from_s < until_s:
            yield from_s, until_s
        return
    home_s = first_s
    while from_s < until_s:
        yield from_s, min(from_s + home_s, until_s)
        from_s += home_s + section.away_s
        home_s = section.home_s


def _of_client(
    client: int, stays: Iterator[tuple[float, float]], seconds: float, present: bool
) -> Iterator[Deed]:
    serial = 0
    for from_s, until_s in stays:
        if from_s >= seconds:
            return
        if serial or not present:
            yield Deed(from_s, Act.JOIN, client, serial)
            serial += 1
        if until_s >= seconds:
            return
        yield Deed(until_s, Act.LEAVE, client, serial)
        serial += 1


def awaited(scenario: Scenario) -> set[int]:
    """The clients that are to come in at all, before the window ends."""
    return {
        client
        for section in scenario.sections
        for client, stays in _comings(scenario, section)
        if next(stays, (scenario.seconds, 0.0))[0] < scenario.seconds
    }


def too_late(scenario: Scenario) -> list[str]:
    """What a window that was shortened leaves out, a line each."""
    came = awaited(scenario)
    end = f"the window ends after {scenario.seconds:g} s"
    lines = [
        f"section {section.name}: {absent} of {section.clients} clients never came in: {end}"
        for section in scenario.sections
        if (absent := sum(client not in came for client in scenario.members(section.name)))
    ]
    lines += [
        f"fault {fault.kind} at {fault.at_s:g} s did not happen: {end}"
        for fault in scenario.faults
        if fault.at_s >= scenario.seconds
    ]
    return lines


class Director:
    """Carries a scenario's deeds out.

    Attributes:
        problems: what could not be done, a line each; a run with any did not show what its
            scenario promises.
    """

    def __init__(self, scenario: Scenario, stage: Stage, *, guest_cpus: Sequence[int] = ()) -> None:
        """guest_cpus: where hostile guests may run; empty: where this process may."""
        self.scenario = scenario
        self.stage = stage
        self.guest_cpus = guest_cpus
        self.problems: list[str] = []

    async def run(self) -> None:
        """Do everything in its time; ends with its last deed, or with the window.

        Cancelled, it ends its guests and leaves everybody where they are.
        """
        by_client: dict[int, list[Deed]] = defaultdict(list)
        faults: list[Deed] = []
        for deed in deeds(self.scenario):
            if deed.act is Act.FAULT:
                faults.append(deed)
            else:
                by_client[deed.index].append(deed)
        # the event loop's clock is CLOCK_MONOTONIC too
        closes_s = self.stage.opened_ns / SECOND_NS + self.scenario.seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(closes_s), asyncio.TaskGroup() as group:
                for client, own in by_client.items():
                    group.create_task(self._live(client, own))
                for deed in faults:
                    group.create_task(self._break(deed))

    async def _live(self, client: int, own: list[Deed]) -> None:
        vanish = self.scenario.sections[self.scenario.section_of(client)].vanish
        for deed in own:
            await self._wait_for(deed.at_s)
            if deed.act is Act.JOIN:
                await self.stage.join(client)
            else:
                self.stage.leave(client, vanish=vanish)

    async def _break(self, deed: Deed) -> None:
        fault = self.scenario.faults[deed.index]
        random = Random(f"{self.scenario.seed} fault {deed.index} {deed.serial}")
        await self._wait_for(deed.at_s)
        try:
            if fault.kind in KILLS:
                await self._kill(fault, random)
            else:
                await self._invite(fault, random)
        except FaultRefused as refused:
            self.problems.append(f"fault {fault.kind}: {refused}")
            self._note(EventKind.REFUSED, f"{fault.kind} was not done: {refused}")

    async def _kill(self, fault: Fault, random: Random) -> None:
        client = -1
        if fault.kind is FaultKind.KILL_RECEIVER:
            client = self._somebody(fault, random)
        port = self.stage.hub_port(client) if client >= 0 else 0
        victim = find_victim(fault.kind, await self.stage.status(), port, random)
        killed_ns = kill(victim, self.stage.hub_pids)
        self._note(EventKind.FAULT, f"{victim.what} (pid {victim.pid}) killed", client)
        await self._await_successor(victim, killed_ns, client)

    async def _await_successor(self, victim: Victim, killed_ns: int, client: int) -> None:
        try:
            pid = await successor(victim, self.stage.status)
        except asyncio.CancelledError:
            self._note(EventKind.NOTE, f"{victim.what}: no successor by the window's end", client)
            raise
        took_ms = (time.monotonic_ns() - killed_ns) / 1e6
        if pid is None:
            self.problems.append(f"{victim.what} was killed and has no successor")
            self._note(EventKind.NOTE, f"{victim.what}: no successor", client)
        else:
            text = f"{victim.what}: its successor (pid {pid}) was there after {took_ms:.0f} ms"
            self._note(EventKind.RECOVERED, text, client)

    async def _invite(self, fault: Fault, random: Random) -> None:
        """Let hostile guests loose in a process of their own, as long as the fault lasts."""
        left_s = self.scenario.seconds - self._now_s() - _GUESTS_LEAD_S
        if left_s <= 0:
            self._note(EventKind.NOTE, f"{fault.kind}: no time for it before the window's end")
            return
        client = self._somebody(fault, random) if fault.kind is FaultKind.FLOOD else -1
        seconds = min(fault.seconds, left_s)
        plan = {
            "host": self.stage.host,
            "port": self.stage.port,
            "udp_ports": [self.stage.hub_port(client)] if client >= 0 else [],
            "kind": str(fault.kind),
            "seconds": seconds,
            "count": fault.count,
            "rate": fault.rate,
            "seed": random.getrandbits(62),
            "cpus": list(self.guest_cpus),
            "parent": os.getpid(),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "loadtest.conduct.guests", "--json", json.dumps(plan),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        except OSError as error:
            raise FaultRefused(f"no process for the guests: {error.strerror}") from error
        self._note(EventKind.FAULT, _announcement(fault), client)
        try:
            report, complaint = await process.communicate()
        except asyncio.CancelledError:  # the window's end; what they did they say nevertheless
            await _end(process)
            assert process.stdout is not None
            self._judge(fault, seconds, await process.stdout.read(), client)
            raise
        finally:
            await _end(process)
        if process.returncode:
            said = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            raise FaultRefused(said or f"the guests ended with {process.returncode}")
        self._judge(fault, seconds, report, client)

    def _judge(self, fault: Fault, seconds: float, report: bytes, client: int) -> None:
        """Whether guests did what they were to do, by their report."""
        counts: dict[str, int] = json.loads(report)["counts"] if report else {}
        told = ", ".join(f"{value} {name}" for name, value in counts.items() if value)
        self._note(EventKind.NOTE, f"{fault.kind} is over: {told or 'nothing happened'}", client)
        name, planned = deed_of_guests(fault, seconds)
        if (done := counts.get(name, 0)) < LITTLE * planned:
            problem = f"fault {fault.kind}: {done} {name}, of {planned:g} that were to be"
            self.problems.append(problem)

    def _somebody(self, fault: Fault, random: Random) -> int:
        """A client that is in, of the fault's section if it has one."""
        scenario = self.scenario
        among = scenario.members(fault.section) if fault.section else range(scenario.clients)
        present = [client for client in among if self.stage.hub_port(client)]
        if not present:
            raise FaultRefused(f"nobody of {fault.section or 'all'} is there")
        return random.choice(present)

    def _note(self, kind: EventKind, text: str, client: int = -1) -> None:
        self.stage.note(Event(self._now_s(), kind, client, text))

    def _now_s(self) -> float:
        return (time.monotonic_ns() - self.stage.opened_ns) / SECOND_NS

    async def _wait_for(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._now_s()))


def _announcement(fault: Fault) -> str:
    match fault.kind:
        case FaultKind.FLOOD:
            return f"flood: {fault.rate:g} datagrams a second from strangers"
        case FaultKind.HELLO_STORM:
            return f"hello-storm: {fault.rate:g} handshakes a second that lead to nothing"
        case _:
            return f"{fault.kind}: {fault.count} guests for {fault.seconds:g} s"


def deed_of_guests(fault: Fault, seconds: float) -> tuple[str, float]:
    """What makes a fault of guests one, as their report names it, and how often it is to be."""
    match fault.kind:
        case FaultKind.SILENT_TCP:
            return "connections", fault.count
        case FaultKind.NO_UDP:
            return "handshakes", fault.count
        case FaultKind.CLOSED:
            return "ports closed", fault.count
        case FaultKind.HELLO_STORM:
            return "connections", fault.rate * seconds
        case FaultKind.GARBAGE:
            return "datagrams", fault.count * fault.rate * seconds
        case FaultKind.FLOOD:
            return "datagrams", fault.rate * seconds
        case FaultKind.DEAF:
            return "datagrams", fault.count * seconds * RATE_HZ / FRAMES
        case _:
            raise ValueError(f"{fault.kind} is none of guests")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Guests that are still there end: told first, killed when they do not listen."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
