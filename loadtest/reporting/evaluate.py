"""From what a run saw to its figures.

What the emulated network took is no fault, nor is what optional sections lack. A run is
*usable* when the generator itself kept time and lost nothing: otherwise what it saw may be
its own fault, and the reasons stand in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import LATENCY, LATENESS, NEVER, SPACING
from loadtest.conduct.outcome import Event, EventKind, HubCost, Outcome, unexplained_losses
from loadtest.reporting.loss import causes
from loadtest.reporting.provenance import provenance
from loadtest.reporting.reduce import (
    distribution_of,
    spread_of,
    spread_of_values,
    timeline_of,
)
from loadtest.reporting.result import Cost, Distribution, Result, SectionFigures, Spread
from loadtest.reporting.service import check_service
from loadtest.scenario.model import Format, Scenario

LATE_SHARE = 0.25
"""A generator whose p99 is later than this share of a period is no exact clock."""
STALL_SHARE = 1e-3
"""More packets than this share sent later than a period: the queues were tested, not the hub."""
EDGE_NS = 22_000_000
"""A little more than the longest tick a hub may have: 1024 frames."""
MAX_FINDINGS, MAX_EVENTS, MAX_JOINS, MAX_PROBLEMS = 500, 4000, 20_000, 500
"""That are kept in a file."""
MANY_SECTIONS = 24
"""With more, only the whole keeps its distributions."""
HISTOGRAMS = {"latency": LATENCY, "spacing": SPACING, "lateness": LATENESS}
RECEIVER_KINDS = ("receiver", "rx")
COLUMNS = (
    "section", "optional", "sent", "due", "returned", "lost", "dropped_down", "dropped_up",
    "repaired", "duplicates", "reordered", "restarts", "malformed", "foreign", "checked", "wrong",
    "silent", "concealed", "leaks", "shifts", "disturbed", "voice_due", "voice_heard",
    "voice_excused", "send_errors", "generation", "gap_ns", "latency_count", "latency_max_ns",
)  # fmt: skip

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PerClient:
    """What is worked out for each client, (N,) each."""

    lost: Ints
    """In the numbering, beyond what the emulated network took."""
    shortfall: Ints
    missing: Ints
    """Voice frames."""


def evaluate(outcome: Outcome) -> Result:
    """Make figures of what a run saw."""
    scenario, state = outcome.scenario, outcome.state
    clients, run = state.clients, state.run[0]
    each = _per_client(scenario, clients)
    required = clients["optional"] == 0
    here = clients[required]
    total = {name: int(here[name].sum()) for name in here.dtype.names or ()}
    joins = _joins(outcome)
    ours = required[joins["client"]]
    opened_ns = _opened_ns(outcome)
    closed_ns = int(run["closed_ns"]) if run["opened_ns"] < NEVER else opened_ns
    window_s = max(0.0, (closed_ns - opened_ns) / 1e9)
    came = np.unique(joins["client"][ours])
    heard = np.unique(joins["client"][ours & (joins["first_ns"] > 0)])
    sections = _sections(outcome, each, joins)
    histograms = _merged(scenario, state.histograms)
    events = _kept_events(outcome.events)
    findings = [f for f in outcome.findings if _concerns(f.listener, f.listeners, required)]
    result = Result(
        scenario=scenario.to_json(),
        usable=True,
        reasons=[],
        passed=False,
        service=[],
        clean=False,
        clients=int(required.sum()),
        joined=len(came),
        unheard=len(came) - len(heard),
        joins=int(ours.sum()),
        refused=_refused(outcome, required),
        problems=outcome.problems[:MAX_PROBLEMS],
        sent=total["sent"],
        expected=total["due"],
        returned=total["returned"],
        lost=int(each.lost[required].sum()),
        shortfall=int(each.shortfall[required].sum()),
        repaired=total["repaired"],
        emulated_up=total["dropped_up"],
        emulated_down=total["dropped_down"],
        delayed_up=total["delayed_up"],
        doubled_up=total["doubled_up"],
        duplicates=total["duplicates"],
        reordered=total["reordered"],
        restarts=total["restarts"],
        malformed=total["malformed"],
        foreign=total["foreign"],
        unknown=int(run["unknown"]),
        goodbyes=int((here["goodbyes"] > 0).sum()),
        checked=total["checked"],
        wrong=total["wrong"],
        silent=total["silent"],
        concealed=total["concealed"],
        leaks=total["leaks"],
        shifts=total["shifts"],
        disturbed=total["disturbed"],
        voices_expected=total["voice_due"],
        voices_heard=total["voice_heard"],
        voices_excused=total["voice_excused"],
        missing=int(each.missing[required].sum()),
        tuttis_checked=outcome.tuttis_checked,
        tuttis_right=outcome.tuttis_right,
        latency=spread_of(histograms["latency"], int(here["latency_max_ns"].max(initial=0)) / 1e3),
        spacing=spread_of(histograms["spacing"]),
        lateness=spread_of(histograms["lateness"], int(run["late_max_ns"]) / 1e3),
        gap_ms=round(int(here["gap_ns"].max(initial=0)) / 1e6, 3),
        answer_ms=spread_of_values((joins["answered_ns"] - joins["started_ns"])[ours] / 1e6),
        join_ms=_join_ms(joins, ours),
        stalls=int(run["stalls"]),
        skipped=int(run["skipped"]),
        own_drops=int(state.drops.sum()),
        send_errors=int(clients["send_errors"].sum()),
        steal_s=round(outcome.steal_s, 3),
        own_load=round(outcome.own_load, 3),
        realtime=outcome.realtime,
        interrupted=outcome.interrupted,
        window_s=round(window_s, 3),
        hub=_cost(outcome.cost, clients, scenario, window_s) if outcome.cost else None,
        counters=outcome.counters,
        loss=[],
        sections=sections,
        distributions={name: distribution_of(histogram) for name, histogram in histograms.items()},
        timeline=timeline_of(state.timeline, int(run["bin_ns"]), window_s, outcome.playing),
        events=events,
        findings=findings[:MAX_FINDINGS],
        findings_total=len(findings),
        notes=outcome.notes,
        columns=_columns(clients, each),
        joins_log=_joins_log(joins, opened_ns),
        provenance=provenance(seed=scenario.seed, realtime=outcome.realtime, hub=outcome.versions),
    )
    result.loss = causes(result)
    result.reasons = _reasons(scenario, result)
    result.usable = not result.reasons
    result.service = check_service(scenario, result)
    result.passed = all(check.passed for check in result.service)
    faults = (
        result.lost, result.shortfall, result.duplicates, result.wrong, result.silent,
        result.missing, result.malformed, result.foreign, result.unheard, result.refused,
        result.clients - result.joined, len(outcome.problems),
        result.tuttis_checked - result.tuttis_right, result.findings_total,
    )  # fmt: skip
    result.clean = not any(faults)
    return result


def _per_client(scenario: Scenario, clients: npt.NDArray[Any]) -> PerClient:
    """What each client lacks, beyond what may lie on the window's borders.

    Those fall anywhere in a tick of the hub, which may be many packets long: so much a client
    may lack each time it comes.
    """
    shortfall = np.maximum(clients["due"] - clients["returned"] - clients["lost"], 0)
    period_ns = np.maximum(clients["period_ps"] // 1000, 1)
    edge = (1 + EDGE_NS // period_ns) * np.maximum(clients["generation"], 1)
    missing = clients["voice_due"] - clients["voice_heard"] - clients["voice_excused"]
    return PerClient(
        unexplained_losses(scenario, clients),
        np.where(shortfall > edge, shortfall, 0),
        np.maximum(missing, 0),
    )


def _joins(outcome: Outcome) -> dict[str, Ints]:
    """The joins as columns, in order of time."""
    ordered = sorted(outcome.joins, key=lambda one: one.started_ns)
    names = {
        "client": "index",
        "generation": "generation",
        "started_ns": "started_ns",
        "answered_ns": "answered_ns",
        "first_ns": "first_ns",
    }
    return {
        name: np.array([getattr(one, attribute) for one in ordered], np.int64)
        for name, attribute in names.items()
    }


def _join_ms(joins: dict[str, Ints], chosen: npt.NDArray[np.bool_]) -> Spread:
    """TCP connect to first audio, of those that heard any."""
    heard = chosen & (joins["first_ns"] > 0)
    return spread_of_values((joins["first_ns"] - joins["started_ns"])[heard] / 1e6)


def _joins_log(joins: dict[str, Ints], opened_ns: int) -> dict[str, list[float]]:
    first = joins["first_ns"]
    waited = np.where(first > 0, first - joins["started_ns"], -1_000_000)
    columns = {
        "client": joins["client"],
        "at_s": (joins["started_ns"] - opened_ns) / 1e9,
        "answer_ms": (joins["answered_ns"] - joins["started_ns"]) / 1e6,
        "join_ms": waited / 1e6,
    }
    return {name: np.round(column[:MAX_JOINS], 3).tolist() for name, column in columns.items()}


def _refused(outcome: Outcome, required: npt.NDArray[np.bool_]) -> int:
    """Times that somebody was not let in who must be."""
    whom = [event.client for event in outcome.events if event.kind is EventKind.REFUSED]
    return sum(0 <= client < len(required) and bool(required[client]) for client in whom)


def _opened_ns(outcome: Outcome) -> int:
    """When the window opened; of a run that was stopped before, when the last one joined."""
    opened_ns = int(outcome.state.run["opened_ns"][0])
    return opened_ns if opened_ns < NEVER else max((j.started_ns for j in outcome.joins), default=0)


def _concerns(listener: int, listeners: list[int], required: npt.NDArray[np.bool_]) -> bool:
    """Whether a finding hit anybody whom the hub must serve."""
    whom = [one for one in (listener, *listeners) if 0 <= one < len(required)]
    return not whom or bool(required[whom].any())


def _kept_events(events: list[Event]) -> list[Event]:
    """All that is rare, and of comings and goings as many as there is room for."""
    often = {EventKind.JOIN, EventKind.LEAVE}
    rare = [event for event in events if event.kind not in often][:MAX_EVENTS]
    room = MAX_EVENTS - len(rare)
    return sorted(
        rare + [event for event in events if event.kind in often][:room],
        key=lambda event: event.at_s,
    )


def _merged(scenario: Scenario, histograms: Ints) -> dict[str, Ints]:
    """Of all sections that are not optional; the generator's own lateness of all."""
    required = [g for g, section in enumerate(scenario.sections) if not section.optional]
    return {
        "latency": histograms[required, LATENCY].sum(axis=0),
        "spacing": histograms[required, SPACING].sum(axis=0),
        "lateness": histograms[:, LATENESS].sum(axis=0),
    }


def _sections(outcome: Outcome, each: PerClient, joins: dict[str, Ints]) -> list[SectionFigures]:
    scenario, clients = outcome.scenario, outcome.state.clients
    detailed = len(scenario.sections) <= MANY_SECTIONS
    made = []
    for g, section in enumerate(scenario.sections):
        members = np.array(scenario.members(section.name))
        here = clients[members]
        histograms = {name: outcome.state.histograms[g, h] for name, h in HISTOGRAMS.items()}
        total = {name: int(here[name].sum()) for name in here.dtype.names or ()}
        mine = np.isin(joins["client"], members)
        distributions: dict[str, Distribution] = {}
        if detailed:
            distributions = {name: distribution_of(h) for name, h in histograms.items()}
        made.append(
            SectionFigures(
                name=section.name,
                clients=section.clients,
                joined=len(np.unique(joins["client"][mine])),
                optional=section.optional,
                format=format_words(section.format),
                period_us=round(section.format.period_ns / 1000, 3),
                sent=total["sent"],
                expected=total["due"],
                returned=total["returned"],
                lost=int(each.lost[members].sum()),
                shortfall=int(each.shortfall[members].sum()),
                wrong=total["wrong"],
                silent=total["silent"],
                concealed=total["concealed"],
                missing=int(each.missing[members].sum()),
                repaired=total["repaired"],
                emulated_up=total["dropped_up"],
                emulated_down=total["dropped_down"],
                gap_ms=round(int(here["gap_ns"].max(initial=0)) / 1e6, 3),
                latency=spread_of(
                    histograms["latency"], int(here["latency_max_ns"].max(initial=0)) / 1e3
                ),
                spacing=spread_of(histograms["spacing"]),
                lateness=spread_of(histograms["lateness"]),
                join_ms=_join_ms(joins, mine),
                distributions=distributions,
            )
        )
    return made


def format_words(form: Format) -> str:
    """As people say it: '128 frames at 48 kHz, 2 in, 2 out, 16 bit'."""
    copies = f", {form.redundancy} copies" if form.redundancy > 1 else ""
    bits = "32-bit float" if form.bits == 32 else f"{form.bits} bit"
    channels = (
        f"{form.sends} channel{'s' if form.sends > 1 else ''}"
        if form.sends == form.wants
        else f"{form.sends} to the hub and {form.wants} back"
    )
    return f"{form.frames} frames at {form.rate_hz / 1000:g} kHz, {channels}, {bits}{copies}"


def _columns(clients: npt.NDArray[Any], each: PerClient) -> dict[str, list[int]]:
    mean_ns = clients["latency_ns"] // np.maximum(clients["latency_count"], 1)
    return (
        {"client": list(range(len(clients)))}
        | {name: clients[name].tolist() for name in COLUMNS}
        | {
            "lost_by_hub": each.lost.tolist(),
            "shortfall": each.shortfall.tolist(),
            "missing": each.missing.tolist(),
            "latency_mean_ns": mean_ns.tolist(),
        }
    )


def _reasons(scenario: Scenario, result: Result) -> list[str]:
    """What speaks against believing the run."""
    shortest_us = min(section.format.period_ns for section in scenario.sections) / 1000
    sent = sum(section.sent for section in result.sections)
    reasons = []
    if result.lateness.p99 > LATE_SHARE * shortest_us:
        reasons.append(
            f"its packets left late: p99 {result.lateness.p99:.0f} µs, more than a quarter of the "
            f"shortest period ({shortest_us:.0f} µs)"
        )
    if result.stalls > STALL_SHARE * max(1, sent):
        reasons.append(f"{result.stalls} of {sent} packets left more than a period late")
    if result.skipped:
        reasons.append(f"{result.skipped} packets were never sent: it was hopelessly late")
    if result.own_drops:
        reasons.append(f"{result.own_drops} packets were dropped in its own socket")
    if result.send_errors:
        reasons.append(f"{result.send_errors} packets could not be sent")
    if result.interrupted:
        reasons.append("the run was interrupted")
    return reasons


def _cost(cost: HubCost, clients: npt.NDArray[Any], scenario: Scenario, window_s: float) -> Cost:
    """The hub's cost a client-period: what it should have sent back, by the clock."""
    units = float(clients["due"].sum())
    if window_s > 0:
        units *= cost.window_ns / 1e9 / window_s
    if units <= 0:  # nobody was in
        rate = sum(s.clients / s.format.period_ns for s in scenario.sections) / scenario.clients
        units = max(1.0, max(1.0, cost.clients) * cost.window_ns * rate)
    by_kind: dict[str, int] = {}
    for pid, kib in cost.private_kib.items():
        kind = cost.kinds.get(pid, "other")
        by_kind[kind] = by_kind.get(kind, 0) + kib
    receivers = [
        kib
        for pid, kib in cost.private_kib.items()
        if any(name in cost.kinds.get(pid, "") for name in RECEIVER_KINDS)
    ]
    whole = sum(cost.private_kib.values())
    grown = (whole - cost.before_kib) / max(1.0, cost.clients)
    uses = cost.usage.values()
    total_us = sum(use.cpu_us for use in uses)
    return Cost(
        cpu_us=round(total_us / units, 3),
        user_us=round(sum(use.user_us for use in uses) / units, 3),
        system_us=round(sum(use.system_us for use in uses) / units, 3),
        cpu_us_by_kind={k: round(use.cpu_us / units, 3) for k, use in sorted(cost.usage.items())},
        cores=round(total_us * 1000 / max(1, cost.window_ns), 3),
        voluntary=round(sum(use.voluntary for use in uses) / units, 3),
        involuntary=round(sum(use.involuntary for use in uses) / units, 3),
        processes={kind: use.processes for kind, use in sorted(cost.usage.items())},
        private_kib_a_client=round(sum(receivers) / len(receivers) if receivers else grown, 1),
        private_kib=whole,
        private_kib_by_kind=by_kind,
        shared_kib=sum(cost.shared_kib.values()),
        before_kib=cost.before_kib,
    )
