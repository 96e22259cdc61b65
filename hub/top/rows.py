"""What `tuttihub top` shows of each client, made from one status after the other.

Losses are of the last seconds, not since the client came: a line that was bad an hour ago is no
trouble now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hub.messages.state import ClientState, Status

WINDOW_S = 10.0
"""Losses are those of so long."""


@dataclass(frozen=True, slots=True)
class Row:
    """One client.

    Attributes:
        session: number of its stay; another client in the slot has another.
        level_db: peak of what it sends, or None: silence, or nothing known.
        loss: share of its packets that did not come in time, 0..1, lately.
        jitter_ms: how late its packets are, but for the rarest.
        depth_ms, wanted_ms: its queue, and what is wanted of it.
        drift_ppm: of its clock; positive: it is the faster one.
        conditions: slugs, the worst first.
        severity: of the worst, or nothing.
    """

    slot: int
    session: int
    name: str
    state: str
    muted: bool
    gain_db: float | None
    level_db: float | None
    loss: float | None
    jitter_ms: float | None
    depth_ms: float | None
    wanted_ms: float | None
    drift_ppm: float | None
    conditions: tuple[str, ...]
    severity: str


class History:
    """Counters of the last seconds, by session."""

    def __init__(self) -> None:
        self._hub_pid = 0
        self._seen: dict[int, deque[tuple[float, int, int]]] = {}  # when, packets due, packets gone

    def rows(self, status: Status, now: float) -> list[Row]:
        """Rows of a status, by slot.

        Args:
            now: seconds of a clock that never goes back.
        """
        if status.hub.pid != self._hub_pid:  # its sessions are numbered anew
            self._hub_pid = status.hub.pid
            self._seen.clear()
        seen: dict[int, deque[tuple[float, int, int]]] = {}
        rows = []
        for client in status.clients:
            received, session = client.received, client.session
            past = seen[session] = self._seen.get(session) or deque()
            gone = received["lost"] + received["late"]
            past.append((now, received["packets"] + received["lost"], gone))
            while len(past) > 2 and now - past[1][0] >= WINDOW_S:
                past.popleft()
            rows.append(_row(client, _loss(past)))
        self._seen = seen
        return sorted(rows, key=lambda row: row.slot)


def _loss(past: Sequence[tuple[float, int, int]]) -> float | None:
    (_, due, gone), (_, due_now, gone_now) = past[0], past[-1]
    return min(1.0, max(0.0, (gone_now - gone) / (due_now - due))) if due_now > due else None


def _row(client: ClientState, loss: float | None) -> Row:
    queue, clock, conditions = client.queue, client.clock, client.conditions
    return Row(
        slot=client.slot,
        session=client.session,
        name=client.name,
        state="held" if client.held else client.state,
        muted=client.muted,
        gain_db=client.gain_db,
        level_db=client.input.peak_db,
        loss=loss,
        jitter_ms=1000.0 * queue.lateness_s if queue else None,
        depth_ms=1000.0 * queue.actual_s if queue else None,
        wanted_ms=1000.0 * queue.target_s if queue else None,
        drift_ppm=clock.drift_ppm if clock else None,
        conditions=tuple(entry.condition for entry in conditions),
        severity=conditions[0].severity if conditions else "",
    )


_SEVERITIES = ("", "info", "warning", "error")

ORDERS: dict[str, Callable[[Row], Any]] = {
    "slot": lambda row: row.slot,
    "name": lambda row: row.name.casefold(),
    "condition": lambda row: (-_SEVERITIES.index(row.severity), -len(row.conditions)),
    "level": lambda row: -_or(row.level_db, -1000.0),
    "loss": lambda row: -_or(row.loss, -1.0),
    "jitter": lambda row: -_or(row.jitter_ms, -1.0),
    "depth": lambda row: -_or(row.depth_ms, -1.0),
    "drift": lambda row: -abs(_or(row.drift_ppm, 0.0)),
}
"""What rows can be sorted by: the most, or the worst, first."""


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def arranged(rows: Iterable[Row], order: str, backwards: bool, words: str) -> list[Row]:
    """Rows to show, in order.

    Args:
        order: one of ``ORDERS``; those alike are by slot.
        words: all of them must be in the name, the state or a condition, or be the slot.
    """
    wanted = words.casefold().split()
    found = [row for row in rows if all(_fits(row, word) for word in wanted)]
    found.sort(key=lambda row: row.slot)
    found.sort(key=ORDERS[order], reverse=backwards)
    return found


def _fits(row: Row, word: str) -> bool:
    texts = (row.name.casefold(), row.state, *row.conditions, "muted" if row.muted else "")
    return word == str(row.slot) or any(word in text for text in texts)
