"""The findings of a run: everything that was captured or counted, named and merged."""

from __future__ import annotations

import numpy as np

from loadtest.clients.state import NEVER, NOBODY, UNKNOWN, Expectation, State
from loadtest.clients.turns import settle_rest
from loadtest.conduct.outcome import Finding, FindingKind, Outcome
from loadtest.hearing.counted import counted
from loadtest.hearing.diagnosis import Cause, Solo, passage_causes, solo_causes
from loadtest.hearing.merge import merge
from loadtest.hearing.sequences import Samples, as_heard, solo
from loadtest.hearing.tutti import Passage, passages
from loadtest.scenario.model import SECOND_NS
from shared.layout import PatchMode

Kind = FindingKind
MOST_PASSAGES = 120
"""Wrong passages that are taken apart; of one tutti, OF_ONE at most."""
OF_ONE = 12
DISTURBED_NS = 250_000_000
LONG_VOICE = 1 << 16
"""A solo longer than this (loopback) is looked at around where it should be."""
AROUND = 4096


def examine(outcome: Outcome) -> None:
    """Fill in findings, tuttis_checked and tuttis_right."""
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
        0,
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
        arrival_ns = int(record["arrival_ns"])
        if arrival_ns - int(record["stall_ns"]) < DISTURBED_NS:
            continue  # the generator was too late itself
        listener, talker = int(record["listener"]), int(record["talker"])
        at_s = (arrival_ns - opened_ns) / SECOND_NS
        frames, wants = int(record["frames"]), int(record["channels"])
        pcm = row[: frames * wants].reshape(wants, frames).astype(np.int32)
        tolerance = int(state.clients[listener]["tolerance"])
        causes: list[Cause] = []
        if record["own_first"] != NEVER:
            own = _voice(state, listener, int(record["own_first"]), int(record["own_until"]))
            heard = as_heard(own, wants, upmix)
            causes = solo_causes(Solo(listener, pcm, heard, UNKNOWN, True, tolerance))
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
        for cause in causes or [Cause(Kind.UNEXPLAINED, talker)]:
            found.append(_finding(cause, listener, at_s))
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
    examined, left, of_this, tutti = 0, 0, 0, -1
    outcome.tuttis_checked = outcome.tuttis_right = 0
    for passage in passages(state, scenario):
        if not passage.expected.any() and not passage.wrong.any():
            continue  # mode 5, or nobody else took part
        outcome.tuttis_checked += 1
        if not passage.wrong.any():
            outcome.tuttis_right += 1
            continue
        if _disturbed(state, passage):
            outcome.tuttis_checked -= 1
            continue
        if passage.ensemble.tutti != tutti:
            tutti, of_this = passage.ensemble.tutti, 0
        if examined >= MOST_PASSAGES or of_this >= OF_ONE:
            left += 1
            continue
        examined += 1
        of_this += 1
        at_s = (passage.arrival_ns - opened_ns) / SECOND_NS
        causes = passage_causes(passage, scenario.hub.upmix)
        blamed = [each for each in causes if not _excused(passage, each)]
        if causes and not blamed:
            outcome.tuttis_checked -= 1  # the network's work, not the hub's
            continue
        if not causes and passage.ensemble.unsure.any():
            outcome.tuttis_checked -= 1
            continue
        for cause in blamed or [Cause(Kind.UNEXPLAINED)]:
            found.append(_finding(cause, passage.listener, at_s, "in a tutti"))
    if left:
        text = "more wrong passages of tuttis, which were not taken apart"
        found.append(Finding(Kind.UNEXPLAINED, -1, -1, 0.0, scenario.seconds, left, text))
    return found


def _disturbed(state: State, passage: Passage) -> bool:
    """Whether the generator stalled just now, or in the round of solos that taught the delays."""
    run = state.run[0]
    round_ns = int(run["turn_ns"]) * (len(state.clients) + len(state.clients) // 8 + 2)
    return 0 <= passage.arrival_ns - passage.stall_ns < round_ns + DISTURBED_NS


def _excused(passage: Passage, cause: Cause) -> bool:
    """Whether a cause is about a part that the emulated network may have spoilt."""
    whole = passage.ensemble
    rows = np.flatnonzero(whole.talkers == cause.source)
    if cause.source < 0:
        return bool(whole.unsure.any())
    return bool(rows.size and whole.unsure[rows[0]])
