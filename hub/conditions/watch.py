"""Raises and clears conditions, once a second, and says so in the log.

A line when one comes, with what it means and what helps; a line when it goes, with how long it
stood and what of a client's counters has grown meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import structlog

from hub.conditions.condition import Condition, Raised, Severity, advice
from hub.conditions.looks import Flags, View, take_look
from hub.conditions.suffering import SUFFERING, hurt
from hub.conditions.unheard import UNHEARD
from hub.conditions.whole import WHOLE
from hub.directory import Directory
from hub.log import log_limited
from hub.sessions import Session
from shared.arena import Arena

log = structlog.get_logger()

LOGGED_PER_S = 5.0
"""Lines of each condition."""
MAX_STEP_S = 2.0
"""A look stands for no more than this: the supervisor may have slept."""
CLIENT_CONDITIONS = tuple(sorted((*UNHEARD, *SUFFERING), key=lambda condition: -condition.severity))
"""The worst first."""
COUNTED = (
    "rx.lost", "rx.late", "rx.concealed_frames", "rx.overflows", "rx.restarts", "rx.kernel_drops",
    "rx.malformed", "rx.foreign", "tx.errors",
)  # fmt: skip
"""What is told of a client when one of its conditions is over."""
SLUGS = tuple(condition.slug for condition in (*CLIENT_CONDITIONS, *WHOLE))


class Hysteresis:
    """What is raised, of so many conditions at so many slots.

    Attributes:
        raised: (conditions, slots) bool.
        since_s: (conditions, slots), CLOCK_MONOTONIC, where raised.
    """

    def __init__(self, conditions: Sequence[Condition], slots: int) -> None:
        shape = (len(conditions), slots)
        self._raise_s = np.array([[condition.raise_s] for condition in conditions])
        self._clear_s = np.array([[condition.clear_s] for condition in conditions])
        self._held_s, self._quiet_s = np.zeros(shape), np.zeros(shape)
        self.raised = np.zeros(shape, np.bool_)
        self.since_s = np.zeros(shape)

    def forget(self, slots: Flags) -> None:
        """Begin anew with these slots."""
        self._held_s[:, slots] = 0.0
        self._quiet_s[:, slots] = 0.0
        self.raised[:, slots] = False

    def step(self, holds: Flags, elapsed_s: float, now_s: float) -> tuple[Flags, Flags]:
        """One look: what is raised, and what is cleared by it.

        Args:
            holds: (conditions, slots).
        """
        self._held_s += elapsed_s * holds
        self._quiet_s = np.where(holds, 0.0, self._quiet_s + elapsed_s)
        over = ~holds & (self._quiet_s >= self._clear_s)
        self._held_s[over] = 0.0
        raised = holds & ~self.raised & (self._held_s >= self._raise_s)
        cleared = over & self.raised
        self.raised = (self.raised | raised) & ~cleared
        self.since_s[raised] = now_s
        return raised, cleared


class Watch:
    """Looks at a hub and keeps the directory's conditions.

    Args:
        arena: only read.
        directory: conditions of clients and of the hub are written there.
    """

    def __init__(self, arena: Arena, directory: Directory) -> None:
        slots = len(arena.slots)
        self._arena = arena
        self._directory = directory
        self._view = View(arena)
        self._clients = Hysteresis(CLIENT_CONDITIONS, slots)
        self._whole = Hysteresis(WHOLE, 1)
        self._sessions: npt.NDArray[np.int64] = np.zeros(slots, np.int64)
        self._counted: dict[tuple[int, int], dict[str, int]] = {}  # when it was raised

    def look(self, present: Sequence[Session], now_s: float) -> None:
        """Look at all who are here, and raise and clear.

        Args:
            now_s: CLOCK_MONOTONIC.
        """
        view, hub = self._view, self._directory.hub
        replaced = hub.mixer_restarts + hub.lane_restarts + hub.zygote_restarts
        view.add(take_look(self._arena, present, replaced, now_s, hub.overload))
        elapsed_s = min(view.elapsed_s, MAX_STEP_S)
        self._clients.forget(view.sessions != self._sessions)
        self._sessions = view.sessions
        holds = np.array([condition.holds(view) for condition in CLIENT_CONDITIONS])
        raised, cleared = self._clients.step(holds, elapsed_s, now_s)
        view.upset = int(np.count_nonzero(hurt(view)))
        self._tell_clients(raised, cleared, now_s)
        self._show_clients()

        holds = np.array([condition.holds(view) for condition in WHOLE])
        raised, cleared = self._whole.step(holds, elapsed_s, now_s)
        for k in np.flatnonzero(raised[:, 0]).tolist():
            self._count(WHOLE[k])
            self._tell("hub condition raised", WHOLE[k], WHOLE[k].detail(view, 0))
        for k in np.flatnonzero(cleared[:, 0]).tolist():
            self._tell_cleared("hub condition cleared", WHOLE[k], now_s - self._whole.since_s[k, 0])
        hub.conditions = tuple(
            Raised(WHOLE[k], float(self._whole.since_s[k, 0]), view, 0)
            for k in np.flatnonzero(self._whole.raised[:, 0]).tolist()
        )

    def _tell_clients(self, raised: Flags, cleared: Flags, now_s: float) -> None:
        clients = self._directory.clients
        for k, slot in np.argwhere(raised).tolist():
            condition = CLIENT_CONDITIONS[k]
            self._count(condition)
            detail = condition.detail(self._view, slot)
            self._counted[k, slot] = self._counts(slot)
            self._tell("condition raised", condition, detail, slot=slot, name=clients[slot].name)
        for k, slot in np.argwhere(cleared).tolist():
            seconds = now_s - self._clients.since_s[k, slot]
            before = self._counted.pop((k, slot))
            grown = {name: n - before[name] for name, n in self._counts(slot).items()}
            self._tell_cleared(
                "condition cleared",
                CLIENT_CONDITIONS[k],
                seconds,
                slot=slot,
                name=clients[slot].name,
                **{name: n for name, n in grown.items() if n > 0},
            )

    def _counts(self, slot: int) -> dict[str, int]:
        """A client's counters of trouble."""
        return {name.partition(".")[2]: int(self._view.now(name)[slot]) for name in COUNTED}

    def _show_clients(self) -> None:
        found: dict[int, list[Raised]] = {}
        for k, slot in np.argwhere(self._clients.raised).tolist():
            since_s = float(self._clients.since_s[k, slot])
            found.setdefault(slot, []).append(
                Raised(CLIENT_CONDITIONS[k], since_s, self._view, slot)
            )
        for client in self._directory.listed():
            client.conditions = tuple(found.get(client.slot, ()))

    def _count(self, condition: Condition) -> None:
        counts = self._directory.hub.conditions_raised
        counts[condition.slug] = counts.get(condition.slug, 0) + 1

    def _tell(self, event: str, condition: Condition, detail: str, **who: object) -> None:
        log_limited(
            log.info if condition.severity is Severity.INFO else log.warning,
            event,
            per_s=LOGGED_PER_S,
            kind=condition.slug,
            **who,
            condition=condition.slug,
            says=condition.says,
            **({"detail": detail} if detail else {}),
            advice=advice(condition.ops, who.get("slot")),
        )

    def _tell_cleared(
        self, event: str, condition: Condition, seconds: float, **who: object
    ) -> None:
        log_limited(
            log.info,
            event,
            per_s=LOGGED_PER_S,
            kind=condition.slug,
            **who,
            condition=condition.slug,
            seconds=round(float(seconds), 1),
        )
