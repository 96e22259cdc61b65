"""Faults that were counted while the run went: lost, twice, out of order, late, never heard."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import BIN_LOST, BIN_SILENT, NOBODY, UNKNOWN, State
from loadtest.conduct.outcome import Finding, FindingKind, Outcome, unexplained_losses
from loadtest.scenario.model import SECOND_NS, Scenario
from shared.layout import PatchMode

Kind = FindingKind
LATE_PERIODS, LATE_MS = 3.0, 2.0
"""A client is late if it is so much later than the median of its section: by whichever is more."""
FEWEST = 3
"""Clients of a section among which one can be called late."""
DISTURBED_SHARE = 0.5
"""Silent packets of which so many came after a stall of the generator are the generator's."""


def counted(outcome: Outcome) -> list[Finding]:
    """All of them."""
    return [
        *numbering(outcome),
        *silences(outcome),
        *unheard(outcome),
        *missing_pairs(outcome),
        *late_listeners(outcome),
        *late_talkers(outcome),
    ]


def _when(state: State, index: int, kind: int | None, seconds: float) -> tuple[float, float]:
    """First and last time of a kind of packet in a client's timeline; the window if unknown."""
    if kind is not None:
        bins = np.flatnonzero(state.timeline[index, :, kind] > 0)
        if bins.size:
            bin_s = int(state.run["bin_ns"][0]) / SECOND_NS
            return float(bins[0]) * bin_s, float(bins[-1] + 1) * bin_s
    return 0.0, seconds


def numbering(outcome: Outcome) -> list[Finding]:
    """What the numbers of the return streams tell, and datagrams that should not have come."""
    state, seconds = outcome.state, outcome.scenario.seconds
    clients = state.clients
    lost = unexplained_losses(outcome.scenario, clients)
    kinds: list[tuple[FindingKind, npt.NDArray[np.int64], int | None, str]] = [
        (Kind.LOST, lost, BIN_LOST, "return packets lost"),
        (Kind.DUPLICATE, clients["duplicates"], None, "return packets came twice"),
        (Kind.REORDERED, clients["reordered"], None, "return packets came out of order"),
        (Kind.MALFORMED, clients["malformed"], None, "datagrams not of the agreed form"),
        (Kind.FOREIGN, clients["foreign"], None, "datagrams from another port than agreed"),
    ]
    found = []
    for kind, counts, place, text in kinds:
        for index in np.flatnonzero((counts > 0) & (clients["optional"] == 0)):
            low, high = _when(state, int(index), place, seconds)
            count = int(counts[index])
            found.append(Finding(kind, int(index), NOBODY, low, high, count, text))
    return found


def silences(outcome: Outcome) -> list[Finding]:
    """Digital silence in place of a voice."""
    state = outcome.state
    clients = state.clients
    found = []
    for index in np.flatnonzero(clients["silent"] > 0):
        client = clients[index]
        spoilt = int(client["wrong"]) + int(client["silent"])
        if client["disturbed"] >= DISTURBED_SHARE * spoilt:
            continue
        low, high = _when(state, int(index), BIN_SILENT, outcome.scenario.seconds)
        text = "silence in place of a voice"
        count = int(client["silent"])
        found.append(Finding(Kind.DROPOUT, int(index), NOBODY, low, high, count, text))
    return found


def unheard(outcome: Outcome) -> list[Finding]:
    """Clients that were let in and never got any audio."""
    clients, opened_ns = outcome.state.clients, int(outcome.state.run["opened_ns"][0])
    found = []
    for one in outcome.joins:
        if one.first_ns == 0 and not clients["optional"][one.index]:
            at = (one.answered_ns - opened_ns) / SECOND_NS
            end = max(at, outcome.scenario.seconds)
            text = "let in, but no audio came back"
            found.append(Finding(Kind.UNHEARD, one.index, NOBODY, at, end, 1, text))
    return found


def should_hear(scenario: Scenario, count: int) -> npt.NDArray[np.bool_]:
    """(count, count): whether a listener is to hear a talker."""
    match scenario.hub.mode:
        case PatchMode.FULL_MIX:
            return np.ones((count, count), bool)
        case PatchMode.FAN_OUT_NO_SELF:
            return ~np.eye(count, dtype=bool)
        case PatchMode.LOOPBACK:
            return np.eye(count, dtype=bool)
        case _:
            return np.zeros((count, count), bool)


def missing_pairs(outcome: Outcome) -> list[Finding]:
    """Talkers whose solos a listener, who was there, has never heard at all."""
    state, scenario = outcome.state, outcome.scenario
    clients, run = state.clients, state.run[0]
    if not state.delays.size or scenario.hub.mode == PatchMode.LOOPBACK:
        return []
    count = len(clients)
    ever = np.zeros((count, count), bool)
    log = state.delay_log[: int(run["delay_changes"])]
    if log.size == state.delay_log.size:
        return []  # it ran full
    learnt = log[(log["listener"] >= 0) & (log["talker"] >= 0) & (log["delay"] != UNKNOWN)]
    ever[learnt["listener"], learnt["talker"]] = True
    evidence = state.evidence[: int(run["evidence"])]
    known = evidence[evidence["talker"] >= 0]
    ever[known["listener"], known["talker"]] = True  # wrong, but not missing
    sang = (clients["voice_began_ns"] > 0) & (clients["spoilt_ns"] == 0)
    there = (clients["checkable"] > 0) & (clients["first_ns"] > 0) & (clients["restarts"] == 0)
    ready_ns = clients["first_ns"] + int(run["settle_ns"])
    in_time = ready_ns[:, np.newaxis] <= clients["voice_began_ns"][np.newaxis, :]
    lacking = should_hear(scenario, count) & ~ever & sang[np.newaxis, :] & there[:, np.newaxis]
    found = []
    for listener, talker in np.argwhere(lacking & in_time):
        at = (int(clients["voice_began_ns"][talker]) - int(run["opened_ns"])) / SECOND_NS
        text = "its solo was never heard"
        found.append(Finding(Kind.MISSING_SOURCE, int(listener), int(talker), at, at, 1, text))
    return found


def _steady(outcome: Outcome, section: int) -> bool:
    """Whether nothing in a section's own network or clock lets its clients differ."""
    each = outcome.scenario.sections[section]
    return each.up.perfect and each.skew_ppm == 0


def late_listeners(outcome: Outcome) -> list[Finding]:
    """Clients whose return is later than that of their section: by the mean of all latencies."""
    clients = outcome.state.clients
    heard = clients["latency_count"] > 0
    mean_ns = clients["latency_ns"] / np.maximum(clients["latency_count"], 1)
    return _late(outcome, heard, mean_ns, "what returns to it is later than to its like")


def late_talkers(outcome: Outcome) -> list[Finding]:
    """Clients whose voice everybody hears later than that of their section.

    By delays alone: sample n leaves at start + n periods of the sample clock, and a talker's
    delay at a listener is known to the sample. Which listener it is does not matter.
    """
    state, scenario = outcome.state, outcome.scenario
    clients = state.clients
    if not state.delays.size or scenario.hub.mode == PatchMode.LOOPBACK:
        return []
    sample_ns = SECOND_NS / scenario.hub.rate_hz
    late: dict[int, list[float]] = defaultdict(list)
    for delays in state.delays:
        known = np.flatnonzero(delays != UNKNOWN)
        if known.size < FEWEST:
            continue
        lateness = delays[known] * sample_ns - clients["start_ns"][known]
        lateness = lateness - np.median(lateness)
        for talker, value in zip(known, lateness, strict=True):
            late[int(talker)].append(float(value))
    ns = np.zeros(len(clients))
    heard = np.zeros(len(clients), bool)
    for index, values in late.items():
        ns[index] = float(np.median(values))
        heard[index] = True
    return _late(outcome, heard, ns, "everybody hears it later than its like", talkers=True)


def _late(
    outcome: Outcome,
    known: npt.NDArray[np.bool_],
    ns: npt.NDArray[np.float64],
    text: str,
    talkers: bool = False,
) -> list[Finding]:
    scenario, clients = outcome.scenario, outcome.state.clients
    found = []
    for number, section in enumerate(scenario.sections):
        members = np.flatnonzero((clients["section"] == number) & known)
        if members.size < FEWEST or not _steady(outcome, number):
            continue
        period_ns = max(
            section.format.period_ns, scenario.hub.period * SECOND_NS / scenario.hub.rate_hz
        )
        allowed_ns = max(LATE_PERIODS * period_ns, LATE_MS * 1e6)
        middle = float(np.median(ns[members]))
        for index in map(int, members):
            more_ns = float(ns[index]) - middle
            if more_ns > allowed_ns:
                frames = round(more_ns * scenario.hub.rate_hz / SECOND_NS)
                found.append(
                    Finding(
                        Kind.DELAYED, NOBODY if talkers else int(index),
                        int(index) if talkers else NOBODY, 0.0, scenario.seconds, 1, text,
                        frames=frames,
                    )
                )  # fmt: skip
    return found
