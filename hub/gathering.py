"""Clients with a receiver of their own are put to shared ones, where there are many.

A process each is best for few clients: nothing that happens to one of them is another's loss. Its
wake-ups are what a full core lacks first. So from ``hub.sharing.ALONE_A_CORE`` clients a core on
newcomers share receivers, and those who are there are gathered, some at a time::

    receiver of its own ──serves──► client        client ◄──serves── shared receiver
             ▲                                                              │
             └────────── RX.heir: "let go of it", between two packets ──────┘

The shared one goes on with what the other has left in shared memory and in the socket, before the
next tick is due: not a sample is lost. Who has been gathered stays so.
"""

from __future__ import annotations

import math

import structlog

from hub.duties import Worker
from hub.sessions import SessionTable
from hub.staff import Staff
from shared.arena import Arena
from shared.layout import RxState, StopOrder
from shared.limits import SHARED_CHANNELS, SHARED_FRAMES
from shared.protocol import RATE_UNDEFINED

log = structlog.get_logger()

AT_ONCE = 4
"""Receivers that are being relieved at a time: their ends cost time of the same core."""
PATIENCE_S = 1.0
"""Who has not let go for so long, its client being in one gap after another, keeps none waiting."""
PAUSE_S = 1.0
"""After a failure."""


class Gathering:
    """Gathers clients of a hub, as long as there are too many for a process each."""

    def __init__(self, arena: Arena, table: SessionTable, staff: Staff) -> None:
        self._arena, self._table, self._staff = arena, table, staff
        self._told = False
        self._next_s = -math.inf

    def look(self, now: float) -> None:
        """To be called in turn; now is the loop's time in seconds.

        Raises:
            OSError: no descriptors are left; it goes on after a pause.
        """
        receivers = self._staff.receivers
        if not receivers.crowded:
            self._told = False
            return
        if now < self._next_s:
            return
        for worker in receivers.alone():
            if receivers.relieving(now - PATIENCE_S) >= AT_ONCE:
                return
            if self._may_share(worker):
                self._tell()
                self._next_s = now + PAUSE_S
                if not self._staff.relieve(worker):
                    return
                self._next_s = now

    def _tell(self) -> None:
        if not self._told:
            log.info("clients share receivers from now on", clients=len(self._table))
        self._told = True

    def let_go(self, slot: int, session: int, pid: int) -> None:
        """A relieved receiver has ended; if it was killed before it let go, its heir need not wait.

        Args:
            pid: of that receiver.
        """
        rx = self._arena.rx[slot]
        if rx["session"] == session and rx["pid"] == pid:
            rx["pid"] = 0

    def _may_share(self, worker: Worker) -> bool:
        """Whether a client plays, in a format that shared receivers serve, and stays."""
        slot, number = worker.duty.slot, worker.duty.session
        session = self._table.by_number(number)
        if session is None or not session.active:
            return False
        rx, order, header = self._arena.rx[slot], self._arena.slots[slot], self._arena.header[0]
        return bool(
            order["stop"] == StopOrder.NONE
            and rx["session"] == number
            and rx["pid"] == worker.pid
            and rx["state"] == RxState.ACTIVE
            and rx["rate_code"] == header["rate_code"] != RATE_UNDEFINED
            and rx["channels"] <= SHARED_CHANNELS
            and rx["frames"] <= SHARED_FRAMES
        )
