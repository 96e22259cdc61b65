"""Workers that live but do not go on, as one that waits for what never comes."""

from __future__ import annotations

import structlog

from hub.duties import Kind, Worker
from hub.staff import Staff
from shared.arena import Arena
from shared.jacklayout import JackState

log = structlog.get_logger()

STALL_S = 5.0
JACK_STALL_S = 10.0
"""A JACK server may take its time to let many clients in; one that hangs never answers."""

_SEEN = (JackState.RUNNING, JackState.MISFIT, JackState.FREEWHEEL)
"""States of a server that a bridge is connected with."""


class Stall:
    """Has a stuck mixer, or JACK bridge, replaced as if it had died.

    Args:
        poll_s: how often ``look`` is called.
    """

    def __init__(self, arena: Arena, staff: Staff, poll_s: float) -> None:
        self._arena, self._staff = arena, staff
        self._mixer = _Stand(STALL_S, poll_s)
        self._bridge = _Stand(JACK_STALL_S, poll_s)

    def look(self, now: float) -> None:
        """To be called in turn; now is the loop's time in seconds."""
        clock, jack = self._arena.clock[0], self._arena.jack[0]
        mixer, bridge = (self._staff.worker(kind) for kind in (Kind.MIXER, Kind.BRIDGE))
        if mixer is not None and self._mixer.look(int(clock["tick"]), mixer.pid, now):
            log.error("mixer is stuck and is replaced", pid=mixer.pid)
            self._replace(mixer)
        if bridge is not None and self._bridge.look(int(jack["turns"]), bridge.pid, now):
            log.error("jack bridge waits for its server and is replaced", pid=bridge.pid)
            self._replace(bridge)
            jack["state"] = JackState.HUNG  # it cannot say so itself
        elif bridge is None and jack["state"] in _SEEN:
            jack["state"] = JackState.WAITING  # it died without a word

    def _replace(self, worker: Worker) -> None:
        worker.stuck = True
        self._staff.kill(worker)


class _Stand:
    """Whether a worker's counter stands still."""

    def __init__(self, stall_s: float, poll_s: float) -> None:
        self._stall_s = stall_s
        self._enough = stall_s / poll_s / 2
        self._last: tuple[int, int | None] = (-1, None)
        self._since_s, self._polls = 0.0, 0

    def look(self, count: int, pid: int | None, now: float) -> bool:
        """Whether it has done so for too long.

        Args:
            pid: of the worker; None: it has yet to be started.
        """
        stands = pid is not None and (count, pid) == self._last
        if stands:
            self._polls += 1
            # so many polls in between: it was not we who slept
            if now - self._since_s <= self._stall_s or self._polls <= self._enough:
                return False
        self._last, self._since_s, self._polls = (count, pid), now, 0
        return stands
