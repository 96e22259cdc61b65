"""What each client lacks: packets, voices, time without sound, joins without an answer.

Packets that never came and that no number betrays (*shortfall*) are found by the clock. A
window's borders fall anywhere in a tick of the hub, so that one packet more or less may lie
in it; how this is told from a packet that the hub never sent depends on the client::

    in all the time   its last packet's arrival stamp says where in the period its packets
                      arrive, and so how many must have come between the borders. Those nearer
                      to a border than arrivals scatter are asked of nobody: one missing packet
                      shows, unless it is one of these.
    came or went      sent packets are compared with returned ones, and so many may be missing
                      as the hub sends in a tick, and one, each time that it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import NEVER, SPACING
from loadtest.conduct.outcome import EventKind, Outcome, unexplained_losses
from loadtest.reporting.reduce import quantile_us
from loadtest.scenario.model import SECOND_NS, Scenario

HEARD_S = 1.0
"""Who has been in for so long must have heard the hub."""
SCATTER = 0.999
"""Of the return packets' distances: what is off by more is rare enough for a border."""
CLOCK_PPM = 200
"""Most that the clock of a hub on another machine may differ from ours."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Joins:
    """Every time that somebody came in, in order of time, (J,) each; times are
    CLOCK_MONOTONIC in ns.

    Attributes:
        until: when it left; of those who stayed, the window's end at the earliest.
        unheard: it had been in for a second, and nothing had come back.
    """

    client: Ints
    started: Ints
    answered: Ints
    first: Ints
    until: Ints
    unheard: Flags


@dataclass(frozen=True, slots=True)
class PerClient:
    """What is worked out for each client, (N,) each.

    Attributes:
        lost: in the numbering, beyond what the emulated network took.
        shortfall: neither returned nor missing in the numbering.
        missing: voice frames.
        gap_ns: longest interruption of its return stream; also one that never ended.
    """

    lost: Ints
    shortfall: Ints
    missing: Ints
    gap_ns: Ints


def window_ns(outcome: Outcome) -> tuple[int, int]:
    """When the window opened and closed; of a run that was stopped before, an empty one when
    the last client joined."""
    opened_ns = int(outcome.state.run["opened_ns"][0])
    if opened_ns < NEVER:
        return opened_ns, int(outcome.state.run["closed_ns"][0])
    opened_ns = max((join.started_ns for join in outcome.joins), default=0)
    return opened_ns, opened_ns


def joins_of(outcome: Outcome) -> Joins:
    """The joins as columns."""
    opened_ns, closed_ns = window_ns(outcome)
    ordered = sorted(outcome.joins, key=lambda one: one.started_ns)
    leaves: dict[int, list[int]] = {}
    for event in outcome.events:
        if event.kind is EventKind.LEAVE:
            at_ns = opened_ns + round(event.at_s * SECOND_NS)
            leaves.setdefault(event.client, []).append(at_ns)
    until = [
        min((at for at in leaves.get(one.index, ()) if at >= one.answered_ns), default=closed_ns)
        for one in ordered
    ]
    table = np.array(
        [(one.index, one.started_ns, one.answered_ns, one.first_ns) for one in ordered], np.int64
    ).reshape(-1, 4)
    ends = np.array(until, np.int64)
    unheard = (table[:, 3] == 0) & (ends - table[:, 2] >= HEARD_S * SECOND_NS)
    return Joins(table[:, 0], table[:, 1], table[:, 2], table[:, 3], ends, unheard)


def per_client(outcome: Outcome, joins: Joins) -> PerClient:
    """What each client lacks."""
    clients = outcome.state.clients
    opened_ns, closed_ns = window_ns(outcome)
    missing = clients["voice_due"] - clients["voice_heard"] - clients["voice_excused"]
    staying = np.zeros(len(clients), np.bool_)
    staying[joins.client[joins.until >= closed_ns]] = True
    silent_ns = closed_ns - np.maximum(clients["arrival_ns"], opened_ns)
    halted = staying & (clients["arrival_ns"] > 0)
    return PerClient(
        unexplained_losses(outcome.scenario, clients),
        _shortfall(outcome, joins, staying),
        np.maximum(missing, 0),
        np.maximum(clients["gap_ns"], np.where(halted, silent_ns, 0)),
    )


def _shortfall(outcome: Outcome, joins: Joins, staying: Flags) -> Ints:
    """Packets that the hub should have sent by the clock, and that no number betrays.

    staying: (N,), those who were in when the window closed.
    """
    scenario, clients = outcome.scenario, outcome.state.clients
    opened_ns, closed_ns = window_ns(outcome)
    tick_ns = scenario.hub.period * SECOND_NS / scenario.hub.rate_hz
    period_ns = np.maximum(clients["nominal_ps"], 1000) / 1000
    scatter_ns = _scatter_ns(scenario, outcome.state.histograms)[clients["section"]]
    if outcome.cost is None:  # it may be on another machine
        scatter_ns = scatter_ns + CLOCK_PPM * 1e-6 * (closed_ns - opened_ns)
    came = clients["returned"] + clients["lost"]
    packets = 1 + np.ceil((tick_ns + scatter_ns) / period_ns).astype(np.int64)
    lacking = np.maximum(clients["due"] - came, 0)
    by_clock = np.where(lacking > packets * np.maximum(clients["generation"], 1), lacking, 0)

    ticks = period_ns / tick_ns
    uneven = np.abs(ticks - np.round(ticks)) > 1e-6  # its packets leave at the tick that follows
    margin_ns = scatter_ns + np.where(uneven, tick_ns, 0)
    behind = (clients["arrival_ns"] - opened_ns - margin_ns) / period_ns
    ahead = (clients["arrival_ns"] - closed_ns + margin_ns) / period_ns
    sure = (np.floor(behind) - np.floor(ahead)).astype(np.int64)
    first_ns = np.full(len(clients), NEVER)
    heard = joins.first > 0
    first_ns[joins.client[heard]] = joins.first[heard]  # of its last join
    throughout = staying & (clients["generation"] == 1) & (first_ns <= opened_ns)
    stamped = throughout & (clients["restarts"] == 0) & (clients["arrival_ns"] > 0)
    return np.where(stamped, np.maximum(sure - came, 0), by_clock)


def _scatter_ns(scenario: Scenario, histograms: Ints) -> npt.NDArray[Any]:
    """How far arrivals are off, but for rare ones, by section."""
    return np.array(
        [1000 * quantile_us(histograms[g, SPACING], SCATTER) for g in range(len(scenario.sections))]
    )
