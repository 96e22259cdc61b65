"""What befell single clients and is worth a line: resampling began, a port was followed.

Receivers only count; once a second the counts are read and what is new is logged, so much
a second at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog

from hub.log import log_limited
from hub.sessions import Session
from hub.snapshot import drift_known
from shared.arena import Arena, Records

log = structlog.get_logger()

INTERVAL_S = 1.0
LOGGED_PER_S = 5.0
"""Of each kind of event."""


class News:
    """Last values of the counters; ``tell`` logs what is new."""

    def __init__(self, arena: Arena) -> None:
        slots = len(arena.slots)
        self._arena = arena
        self._sessions = np.zeros(slots, np.int64)
        self._moves = np.zeros(slots, np.int64)
        self._engaged = np.zeros(slots, np.int64)
        self._ports = np.zeros(slots, np.int64)

    def tell(self, present: Sequence[Session]) -> None:
        """Compare with the last time, for those who are here."""
        if not present:
            return
        slots = [session.slot for session in present]
        numbers = np.array([session.number for session in present], np.int64)
        rx = self._arena.rx
        moves, engagements = rx["moves"][slots], rx["engaged"][slots]
        begun = rx["session"][slots] == numbers
        known = self._sessions[slots] == numbers
        moved = begun & (moves > self._moves[slots] * known)
        engaged = begun & (engagements > self._engaged[slots] * known)
        self._sessions[slots] = numbers
        self._moves[slots] = moves * begun
        self._engaged[slots] = engagements * begun
        for k in np.flatnonzero(moved).tolist():
            before = int(self._ports[slots[k]]) if known[k] else present[k].peer_port
            _tell_move(present[k], before, int(rx["peer_port"][slots[k]]))
        self._ports[slots] = rx["peer_port"][slots]
        for k in np.flatnonzero(engaged).tolist():
            _tell_engagement(present[k], rx[slots[k]])


def _tell_move(session: Session, before: int | None, peer_port: int) -> None:
    log_limited(
        log.info,
        "client's port changed",
        per_s=LOGGED_PER_S,
        slot=session.slot,
        name=session.name,
        address=str(session.address),
        before=before,
        peer_port=peer_port,
    )


def _tell_engagement(session: Session, rx: Records) -> None:
    known = bool(drift_known(rx))
    log_limited(
        log.info,
        "client is resampled",
        per_s=LOGGED_PER_S,
        slot=session.slot,
        name=session.name,
        drift_ppm=round(1e6 * float(rx["clock_ratio"]), 2) if known else None,
        error_ppm=round(1e6 * float(rx["clock_sigma"]), 2) if known else None,
    )
