"""Tuttis: every sample of a sum of all parts has one right value.

A listener's captured packets of a tutti are laid side by side; beneath them the sum of what
all who took part sent, each at the delay at which this listener hears it. The difference must
be zero. It is exact since no part of the way rounds: see ``loadtest.clients.voices``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import NEVER, UNKNOWN, State
from loadtest.hearing.delays import Table, delays_at
from loadtest.hearing.sequences import Samples, add_parts, fill_part
from loadtest.scenario.model import Scenario
from shared.layout import PatchMode

LONGEST = 40_000
"""Samples of a passage; a longer one is no passage: the stream was numbered anew in it."""


@dataclass(slots=True)
class Ensemble:
    """Who took part in a tutti.

    Attributes:
        tutti, turn: its numbers.
        talkers: (T,) client indices.
        first: (T,) sample numbers.
        unsure: (T,) whether the emulated network may have spoilt the part.
        drifts: (T,) whether its queue must slip now and then.
        parts: (T, channels, frames), each from its first sample on.
        sends: (T,) channels.
    """

    tutti: int
    turn: int
    talkers: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    unsure: npt.NDArray[np.bool_]
    drifts: npt.NDArray[np.bool_]
    parts: Samples
    sends: npt.NDArray[np.int64]


@dataclass(slots=True)
class Passage:
    """What one listener heard of one tutti, and should have.

    Attributes:
        low: position of sample 0.
        pcm, expected: (channels, span).
        have: (span,) which samples were captured.
        wrong: (span,) which of these differ in any channel.
        starts: (T,) where each of the ensemble's parts begins; UNKNOWN: inaudible by right.
        arrival_ns, stall_ns: of its first packet.
    """

    ensemble: Ensemble
    listener: int
    low: int
    frames: int
    pcm: Samples
    expected: Samples
    have: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    arrival_ns: int
    stall_ns: int


def ensemble(state: State, tutti: int, turn: int) -> Ensemble:
    """Who took part in a tutti, and with which samples."""
    noted = state.tutti_first[tutti]
    talkers = np.flatnonzero(noted != NEVER)
    first = noted[talkers]
    unsure = first < 0
    first = np.where(unsure, ~first, first)
    clients = state.clients[talkers]
    tutti_ns = int(state.run["tutti_ns"][0])
    lengths = np.maximum(-(-tutti_ns * 1000 // clients["period_ps"]), 1) * clients["frames"]
    widest = int(clients["sends"].max(initial=1))
    parts = np.zeros((len(talkers), widest, int(lengths.max(initial=0))), np.int32)
    for row, (talker, client) in enumerate(zip(talkers, clients, strict=True)):
        fill_part(
            int(talker), int(first[row]), int(lengths[row]), int(client["mask"]),
            int(client["tutti_level"]), parts[row, : int(client["sends"])],
        )  # fmt: skip
    return Ensemble(
        tutti, turn, talkers, first, unsure, clients["drifts"] != 0, parts,
        clients["sends"].astype(np.int64),
    )  # fmt: skip


def passages(state: State, scenario: Scenario) -> Iterator[Passage]:
    """Every captured passage whose listener's delays are known, in order of time."""
    log = state.tutti_log[: int(state.run["tutti_packets"][0])]
    changes = state.delay_log[: int(state.run["delay_changes"][0])]
    count = len(state.clients)
    order = np.lexsort((log["position"], log["listener"], log["tutti"]))
    bounds = np.flatnonzero(np.diff(log["tutti"][order])) + 1
    for rows in np.split(order, bounds) if log.size else ():
        whole = ensemble(state, int(log["tutti"][rows[0]]), int(log["turn"][rows[0]]))
        if not whole.talkers.size:
            continue
        delays = delays_at(changes, count, whole.turn)
        cuts = np.flatnonzero(np.diff(log["listener"][rows])) + 1
        for own in np.split(rows, cuts):
            passage = _passage(state, scenario, whole, log[own], state.tutti_pcm[own], delays)
            if passage is not None:
                yield passage


def _passage(
    state: State,
    scenario: Scenario,
    whole: Ensemble,
    records: npt.NDArray[Any],
    rows: npt.NDArray[np.int16],
    delays: Table,
) -> Passage | None:
    listener = int(records["listener"][0])
    client = state.clients[listener]
    frames, wants = int(client["frames"]), int(client["wants"])
    low = int(records["position"].min())
    span = int(records["position"].max()) + frames - low
    if span > LONGEST:
        return None
    match scenario.hub.mode:
        case PatchMode.NONE:
            audible = np.zeros(len(whole.talkers), bool)
        case PatchMode.FAN_OUT_NO_SELF:
            audible = whole.talkers != listener
        case _:
            audible = np.ones(len(whole.talkers), bool)
    delay = delays[listener, whole.talkers]
    if (delay[audible] == UNKNOWN).any():
        return None
    starts = np.where(audible, whole.first + delay - low, UNKNOWN)
    expected = np.zeros((wants, span), np.int32)
    add_parts(whole.parts, starts, whole.sends, int(scenario.hub.upmix), expected)
    pcm = np.zeros((wants, span), np.int32)
    have = np.zeros(span, bool)
    for record, row in zip(records, rows, strict=True):
        at = int(record["position"]) - low
        pcm[:, at : at + frames] = row[: wants * frames].reshape(wants, frames)
        have[at : at + frames] = True
    tolerance = int(client["tolerance"])
    wrong = have & (np.abs(pcm - expected) > tolerance).any(axis=0)
    return Passage(
        whole, listener, low, frames, pcm, expected, have, wrong, starts,
        int(records["arrival_ns"][0]), int(records["stall_ns"][0]),
    )  # fmt: skip
