"""Clients that receivers have followed to other ports, and who is gone from there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hub.sessions import Phase, Session, SessionTable
from shared.arena import Arena

ABSENT_S = 2.0
"""So long silent at a port that another client has come to: it is not there any more."""


def learn_ports(arena: Arena, table: SessionTable) -> None:
    """Take over ports to which receivers have followed their clients."""
    rx = arena.rx[: int(arena.control[0]["slots_high"])]
    moved = np.flatnonzero(rx["moves"])
    numbers, ports = rx["session"][moved].tolist(), rx["peer_port"][moved].tolist()
    for slot, number, port in zip(moved.tolist(), numbers, ports, strict=True):
        session = table.by_slot(slot)
        if session is None or session.number != number or not session.peer_port:
            continue
        if session.peer_port != port:
            table.follow(session, port)


def absent_rivals(arena: Arena, table: SessionTable, now: float) -> Iterator[Session]:
    """Who is gone from a port that a client has moved to; ports are learnt first.

    They must be ended without a word, which would reach the other. Who was heard of late
    stays: a router may have given many clients new ports, and some are yet to be followed.
    """
    high = int(arena.control[0]["slots_high"])
    moved = np.flatnonzero(arena.rx["moves"][:high]).tolist()
    if not moved:
        return
    learn_ports(arena, table)
    for slot in moved:
        session = table.by_slot(slot)
        if session is None or session.phase is not Phase.ACTIVE or not session.peer_port:
            continue
        if table.alone_at(session.peer_port):
            continue
        rival = table.rival(session, session.peer_port)
        if rival is None or rival.phase is not Phase.ACTIVE:
            continue
        if now - float(arena.rx[rival.slot]["valid_ns"]) * 1e-9 > ABSENT_S:
            yield rival
