"""Kills a process of the hub under test, and waits for the one that replaces it.

Which process does what is what the hub's control socket says; that it is the hub's is what
/proc says. A pid that is not in the hub's process tree is never signalled, nor is the root of
the tree: a supervisor has nobody who would replace it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from loadtest.conduct import procfs
from loadtest.scenario.model import FaultKind

KILLS = frozenset({FaultKind.KILL_RECEIVER, FaultKind.KILL_MIXER, FaultKind.KILL_LANE})
SUCCESSOR_S = 10.0
"""A hub that has not replaced a process by then does not replace it."""
POLL_S = 0.04
"""Between two questions to the hub: the resolution of what is said about its recovery."""

Status = dict[str, Any]


class FaultRefused(RuntimeError):
    """This fault is not possible here; the text says why."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A process of the hub.

    Attributes:
        kind: the fault that is to hit it.
        pid: of the process.
        what: for people: 'receiver of the client on UDP 61005'.
        key: what its successor is found by: the client's UDP port, or the lane's number.
    """

    kind: FaultKind
    pid: int
    what: str
    key: int = 0


def find_victim(kind: FaultKind, status: Status | None, hub_port: int, random: Random) -> Victim:
    """The process that a fault hits.

    Args:
        status: the hub's state, as its control socket says it.
        hub_port: UDP port of the client whose receiver is meant.
        random: chooses among lanes.

    Raises:
        FaultRefused: the hub does not say, or has no such process.
    """
    if status is None:
        raise FaultRefused("the hub's control socket does not answer, so its pids are unknown")
    key = hub_port
    try:
        if kind is FaultKind.KILL_LANE:
            lanes = [int(lane["lane"]) for lane in status["hub"]["lanes"] if lane["lane"] > 0]
            if not lanes:
                raise FaultRefused("the hub has no lanes of its own (its option --transmit-lanes)")
            key = random.choice(lanes)
        pid = _pid_of(kind, status, key)
    except KeyError as error:
        raise FaultRefused(f"the hub's status has no {error}: it is of another release") from None
    what = {
        FaultKind.KILL_RECEIVER: f"receiver of the client on UDP {key}",
        FaultKind.KILL_MIXER: "mixer",
        FaultKind.KILL_LANE: f"lane {key}",
    }[kind]
    if pid is None:
        raise FaultRefused(f"the hub names no process that is the {what}")
    return Victim(kind, pid, what, key)


def _pid_of(kind: FaultKind, status: Status, key: int) -> int | None:
    match kind:
        case FaultKind.KILL_MIXER:
            return _whole(status["hub"]["mixer"]["pid"])
        case FaultKind.KILL_LANE:
            pids = [lane["pid"] for lane in status["hub"]["lanes"] if lane["lane"] == key]
        case FaultKind.KILL_RECEIVER:
            pids = [each["receiver_pid"] for each in status["clients"] if each["port"] == key]
        case _:
            raise ValueError(f"{kind} kills nobody")
    return _whole(pids[0]) if pids else None


def _whole(pid: object) -> int | None:
    return pid if isinstance(pid, int) and pid > 1 else None


def kill(victim: Victim, hub_pids: Sequence[int]) -> int:
    """SIGKILL to a process of the hub.

    Returns:
        When, CLOCK_MONOTONIC ns.

    Raises:
        FaultRefused: it is no descendant of the hub's, or ours not to kill.
    """
    if not hub_pids:
        raise FaultRefused(f"no hub's processes are known here: pid {victim.pid} is left alone")
    try:
        # by descriptor: between the look into /proc and the signal a pid may change hands
        descriptor = os.pidfd_open(victim.pid)
    except OSError as error:
        raise FaultRefused(f"{victim.what} (pid {victim.pid}): {error.strerror}") from error
    try:
        if victim.pid in hub_pids or victim.pid not in procfs.tree(*hub_pids):
            roots = ", ".join(map(str, hub_pids))
            raise FaultRefused(f"pid {victim.pid} is no child of the hub's (pid {roots})")
        killed_ns = time.monotonic_ns()
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError as error:
        raise FaultRefused(f"{victim.what} (pid {victim.pid}): {error.strerror}") from error
    finally:
        os.close(descriptor)
    return killed_ns


async def successor(
    victim: Victim,
    ask: Callable[[], Awaitable[Status | None]],
    *,
    patience_s: float = SUCCESSOR_S,
) -> int | None:
    """Pid of the process that has the victim's place, as soon as there is one; None: nobody."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        status = await ask()
        pid = _pid_of(victim.kind, status, victim.key) if status is not None else None
        if pid is not None and pid != victim.pid:
            return pid
        await asyncio.sleep(POLL_S)
    return None
