"""The findings of a run: everything that was captured or counted, named and merged."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from loadtest.clients.excuses import DISTURBED_NS, SPARE_SLIPS
from loadtest.clients.state import NEVER, NOBODY, UNKNOWN, Expectation, State
from loadtest.clients.turns import settle_rest
from loadtest.conduct.outcome import Finding, FindingKind, Outcome
from loadtest.hearing.counted import counted
from loadtest.hearing.diagnosis import Cause, Solo, certain, passage_causes, solo_causes
from loadtest.hearing.merge import merge
from loadtest.hearing.sequences import Samples, as_heard, solo
from loadtest.hearing.tutti import Ensemble, Passage, passages
from loadtest.scenario.model import SECOND_NS
from shared.layout import PatchMode

Kind = FindingKind
MOST_PASSAGES = 120
OF_ONE, OF_STALLED = 12, 3
"""Wrong passages that are taken apart; of one tutti, OF_ONE at most; of one after a stall of the
generator, OF_STALLED."""
SLIPPERY = {
    Kind.MOVED, Kind.REPEATED, Kind.DROPOUT, Kind.CLICK, Kind.MISSING_SOURCE, Kind.WRONG_SOURCE,
    Kind.UNEXPLAINED,
}  # fmt: skip
"""What a queue can do to a part by slipping or running dry; no gain, and no exchanged channels."""
LONG_VOICE = 1 << 16
"""A solo longer than this (loopback) is looked at around where it should be."""
AROUND = 4096


def examine(outcome: Outcome) -> None:
    """Fill in findings, and the account of tuttis."""
    state, scenario = outcome.state, outcome.scenario
    if scenario.hub.mode != PatchMode.LOOPBACK:
        settle_rest(_plan(outcome), state)
    findings = counted(outcome)
    findings += evidence(outcome)
    if state.delays.size:
        findings += tuttis(outcome)
    outcome.findings = merge(findings)


def _plan(outcome: Outcome) -> Expectation:
    scenario = outcome.scenario
    return Expectation(
        int(scenario.hub.mode), int(scenario.hub.upmix), scenario.clients, scenario.tutti_every, 0,
        0, 0,
    )  # fmt: skip


def _finding(cause: Cause, listener: int, at_s: float, text: str = "") -> Finding:
    if not text and cause.channel >= 0:
        text = f"channel {cause.channel + 1} only"
    if not text and cause.other >= 0:
        text = f"client {cause.other} sounds in its place"
    return Finding(
        cause.kind, listener, cause.source, at_s, at_s, 1, text, cause.gain_db, cause.frames
    )


def evidence(outcome: Outcome) -> list[Finding]:
    """What is wrong with the packets of solos that were kept."""
    state, upmix = outcome.state, outcome.scenario.hub.upmix
    opened_ns = int(state.run["opened_ns"][0])
    followed = _followed(state)
    found = []
    kept = int(state.run["evidence"][0])
    for record, row in zip(state.evidence[:kept], state.evidence_pcm[:kept], strict=True):
        if record["listener"] == NOBODY:
            continue  # it was excused meanwhile
        arrival_ns = int(record["arrival_ns"])
        disturbed = arrival_ns - int(record["stall_ns"]) < DISTURBED_NS
        listener, talker = int(record["listener"]), int(record["talker"])
        at_s = (arrival_ns - opened_ns) / SECOND_NS
        frames, wants = int(record["frames"]), int(record["channels"])
        pcm = row[: frames * wants].reshape(wants, frames).astype(np.int32)
        tolerance = int(state.clients[listener]["tolerance"])
        causes: list[Cause] = []
        if record["own_first"] != NEVER:
            own = _voice(state, listener, int(record["own_first"]), int(record["own_until"]))
            heard = as_heard(own, wants, upmix)
            packet = Solo(listener, pcm, heard, UNKNOWN, True, tolerance)
            causes = solo_causes(packet)
            talker = listener if talker == NOBODY else talker
        if talker != NOBODY and record["talker"] != NOBODY and not causes:
            first, until = int(record["first"]), int(record["until"])
            delay, position = int(record["delay"]), int(record["position"])
            if until - first > LONG_VOICE:
                if delay == UNKNOWN:
                    continue
                first = max(first, position - delay - AROUND)
                until = min(until, position - delay + frames + AROUND)
            voice = as_heard(_voice(state, talker, first, until), wants, upmix)
            origin = UNKNOWN if delay == UNKNOWN else position - delay - first
            packet = Solo(talker, pcm, voice, origin, False, tolerance)
            causes = solo_causes(packet)
            causes = [_repeated(each, listener, delay, followed) for each in causes]
        if disturbed:  # the generator was too late itself, which makes queues slip, and no more
            causes = [each for each in causes if certain(packet, each)]
        elif not causes:
            causes = [Cause(Kind.UNEXPLAINED, talker)]
        found += [_finding(each, listener, at_s) for each in causes]
    return found


def _voice(state: State, talker: int, first: int, until: int) -> Samples:
    """(sends, until − first): a client's solo."""
    client = state.clients[talker]
    return solo(talker, first, until, int(client["sends"]), int(client["mask"]))


def _followed(state: State) -> set[tuple[int, int, int]]:
    """(listener, talker, delay) that a voice went on at."""
    log = state.delay_log[: int(state.run["delay_changes"][0])]
    names = ("listener", "talker", "delay")
    return set(zip(*(log[name].tolist() for name in names), strict=True))


def _repeated(
    cause: Cause, listener: int, delay: int, followed: set[tuple[int, int, int]]
) -> Cause:
    """Older samples for one packet, after which all went on as before, are a repetition."""
    if cause.kind == Kind.MOVED and cause.frames > 0:
        if (listener, cause.source, delay + cause.frames) not in followed:
            return Cause(Kind.REPEATED, cause.source, frames=cause.frames)
    return cause


def tuttis(outcome: Outcome) -> list[Finding]:
    """Check all captured passages of tuttis, and name what is wrong with them."""
    state, scenario = outcome.state, outcome.scenario
    opened_ns = int(state.run["opened_ns"][0])
    found: list[Finding] = []
    slipped: dict[tuple[int, int], list[Finding]] = defaultdict(list)
    examined, left, of_this, tutti, right_hub = 0, 0, 0, -1, True
    outcome.tuttis_checked = outcome.tuttis_right = 0
    stalled: list[int] = []  # the tutti of each passage that was excused by a stall
    for passage in passages(state, scenario):
        if not passage.expected.any() and not passage.wrong.any():
            continue  # mode 5, or nobody else took part
        outcome.tuttis_checked += 1
        if not passage.wrong.any():
            outcome.tuttis_right += 1
            continue
        disturbed = _disturbed(state, passage)
        if passage.ensemble.tutti != tutti:
            tutti, of_this, right_hub = passage.ensemble.tutti, 0, True
        if examined >= MOST_PASSAGES or of_this >= OF_ONE or (disturbed and of_this >= OF_STALLED):
            # What explained all those taken apart of this tutti explains the others, too.
            excused = disturbed or (
                bool((passage.ensemble.unsure | passage.ensemble.drifts).any()) and right_hub
            )
            left += not excused
            outcome.tuttis_checked -= excused
            stalled += [tutti] * disturbed
            continue
        examined += 1
        of_this += 1
        at_s = (passage.arrival_ns - opened_ns) / SECOND_NS
        causes = passage_causes(passage, scenario.hub.upmix)
        blamed = 0
        for cause in causes or [Cause(Kind.UNEXPLAINED)]:
            slips = _slips(cause)
            if _about(cause, passage.ensemble, passage.ensemble.unsure) or (disturbed and slips):
                continue  # the network's work, or the generator's, not the hub's
            named = _finding(cause, passage.listener, at_s, "in a tutti")
            if slips and _about(cause, passage.ensemble, passage.ensemble.drifts):
                slipped[passage.listener, cause.source].append(named)
                continue
            blamed += 1
            found.append(named)
        outcome.tuttis_checked -= not blamed
        stalled += [tutti] * (disturbed and not blamed)
        right_hub &= not blamed
    for (_, source), several in slipped.items():
        if len(several) > _likely_slips(outcome, source):
            found += several
            outcome.tuttis_checked += len(several)
    outcome.tuttis_excused, outcome.excused_in = len(stalled), len(set(stalled))
    if left:
        text = "more wrong passages of tuttis, which were not taken apart"
        found.append(Finding(Kind.UNEXPLAINED, -1, -1, 0.0, scenario.seconds, left, text))
    return found


def _disturbed(state: State, passage: Passage) -> bool:
    """Whether the generator stalled just now, or in the round of solos that taught the delays."""
    run = state.run[0]
    round_ns = int(run["turn_ns"]) * (len(state.clients) + len(state.clients) // 8 + 2)
    return 0 <= passage.arrival_ns - passage.stall_ns < round_ns + DISTURBED_NS


def _about(cause: Cause, whole: Ensemble, which: npt.NDArray[np.bool_]) -> bool:
    """Whether a cause is, or may be, about one of some parts. which: (T,) of the ensemble."""
    rows = np.flatnonzero(whole.talkers == cause.source)
    if cause.source < 0:
        return bool(which.any())
    return bool(rows.size and which[rows[0]])


def _slips(cause: Cause) -> bool:
    """Whether a queue that slips, or runs dry, can be the cause of it."""
    return cause.kind in SLIPPERY or (cause.kind == Kind.EXTRA_SOURCE and cause.frames != 0)


def _likely_slips(outcome: Outcome, source: int) -> float:
    """Passages that slips of a drifting talker (or all of them, −1) may spoil at one listener.

    Each may spoil all tuttis until the talker's next solo tells its new delay.
    """
    scenario, clients = outcome.scenario, outcome.state.clients
    some = clients if source < 0 else clients[source : source + 1]
    some = some[some["drifts"] != 0]
    gained = np.abs(some["nominal_ps"] - some["period_ps"]) / some["nominal_ps"]
    slips = gained * scenario.seconds * scenario.hub.rate_hz / scenario.hub.period
    a_round = 1 + len(clients) / max(scenario.tutti_every - 1, 1)
    return float((SPARE_SLIPS + 2 * slips).sum() * a_round)
