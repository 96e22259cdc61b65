"""From what a run saw to its figures.

What the emulated network took is no fault, nor is what optional sections lack. A run is
*usable* when the generator itself kept time and lost nothing: otherwise what it saw may be
its own fault, and the reasons stand in the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import LATENCY, LATENESS, SPACING
from loadtest.conduct.director import awaited
from loadtest.conduct.outcome import Event, EventKind, HubCost, Outcome
from loadtest.conduct.procfs import TICK_NS, Usage
from loadtest.reporting.belief import excused_share, reasons
from loadtest.reporting.lacks import (
    Flags,
    Ints,
    Joins,
    PerClient,
    joins_of,
    per_client,
    window_ns,
)
from loadtest.reporting.loss import causes
from loadtest.reporting.provenance import provenance
from loadtest.reporting.reduce import (
    distribution_of,
    spread_of,
    spread_of_values,
    timeline_of,
)
from loadtest.reporting.result import (
    Cost,
    Distribution,
    KindCost,
    Result,
    SectionFigures,
    Spread,
)
from loadtest.reporting.service import check_service
from loadtest.scenario.model import Format, Scenario

MAX_FINDINGS, MAX_EVENTS, MAX_JOINS, MAX_PROBLEMS = 500, 4000, 20_000, 500
"""That are kept in a file."""
MANY_SECTIONS = 24
"""With more, only the whole keeps its distributions."""
HISTOGRAMS = {"latency": LATENCY, "spacing": SPACING, "lateness": LATENESS}
RECEIVER_KINDS = ("receiver", "rx")
COLUMNS = (
    "section", "optional", "sent", "due", "returned", "lost", "dropped_down", "dropped_up",
    "repaired", "duplicates", "reordered", "restarts", "malformed", "foreign", "checkable",
    "checked", "wrong", "silent", "concealed", "leaks", "shifts", "disturbed", "voice_due",
    "voice_heard", "voice_excused", "send_errors", "generation", "latency_count",
    "latency_max_ns",
)  # fmt: skip


def evaluate(outcome: Outcome) -> Result:
    """Make figures of what a run saw."""
    scenario, state = outcome.scenario, outcome.state
    clients, run = state.clients, state.run[0]
    joins = joins_of(outcome)
    each = per_client(outcome, joins)
    required = clients["optional"] == 0
    here = clients[required]
    total = {name: int(here[name].sum()) for name in here.dtype.names or ()}
    ours = required[joins.client]
    opened_ns, closed_ns = window_ns(outcome)
    window_s = max(0.0, (closed_ns - opened_ns) / 1e9)
    came = np.unique(joins.client[ours])
    unheard = int(joins.unheard[ours].sum())
    refused = _refused(outcome, required)
    due = [client for client in awaited(scenario) if required[client]]
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
        clients=len(due),
        joined=len(came),
        unheard=unheard,
        joins=int(ours.sum()),
        refused=len(refused),
        left_out=unheard + len(refused) + len({*due} - {*came.tolist(), *refused}),
        unplanned=_unplanned(outcome, len(refused)),
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
        tuttis_excused=outcome.tuttis_excused,
        latency=spread_of(histograms["latency"], int(here["latency_max_ns"].max(initial=0)) / 1e3),
        spacing=spread_of(histograms["spacing"]),
        lateness=spread_of(histograms["lateness"], int(run["late_max_ns"]) / 1e3),
        gap_ms=round(int(each.gap_ns[required].max(initial=0)) / 1e6, 3),
        answer_ms=spread_of_values((joins.answered - joins.started)[ours] / 1e6),
        join_ms=_join_ms(joins, ours),
        stalls=int(run["stalls"]),
        skipped=int(run["skipped"]) - outcome.at_opening.get("skipped", 0),
        own_drops=int(state.drops.sum()) - outcome.at_opening.get("own_drops", 0),
        send_errors=int(clients["send_errors"].sum()) - outcome.at_opening.get("send_errors", 0),
        overrun=int(run["overrun"]) - outcome.at_opening.get("overrun", 0),
        line=outcome.line,
        halted=outcome.halted,
        excused=round(excused_share(outcome, window_s), 4),
        steal_s=round(outcome.steal_s, 3),
        own_load=round(outcome.own_load, 3),
        realtime=outcome.realtime,
        interrupted=outcome.interrupted,
        window_s=round(window_s, 3),
        hub=_cost(outcome.cost, outcome, window_s) if outcome.cost else None,
        counters=outcome.counters,
        control_expected=outcome.control_expected,
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
    result.reasons = reasons(scenario, result) + outcome.own_faults
    result.usable = not result.reasons
    result.service = check_service(scenario, result)
    result.passed = all(check.passed for check in result.service)
    faults = (
        result.lost, result.shortfall, result.duplicates, result.reordered, result.restarts,
        result.wrong, result.silent,
        result.missing, result.malformed, result.foreign, result.left_out, result.unplanned,
        len(outcome.problems),
        result.tuttis_checked - result.tuttis_right, result.findings_total,
    )  # fmt: skip
    result.clean = not any(faults)
    return result


def _join_ms(joins: Joins, chosen: Flags) -> Spread:
    """TCP connect to first audio, of those that heard any."""
    heard = chosen & (joins.first > 0)
    return spread_of_values((joins.first - joins.started)[heard] / 1e6)


def _joins_log(joins: Joins, opened_ns: int) -> dict[str, list[float]]:
    waited = np.where(joins.first > 0, joins.first - joins.started, -1_000_000)
    columns = {
        "client": joins.client,
        "at_s": (joins.started - opened_ns) / 1e9,
        "answer_ms": (joins.answered - joins.started) / 1e6,
        "join_ms": waited / 1e6,
    }
    return {name: np.round(column[:MAX_JOINS], 3).tolist() for name, column in columns.items()}


def _refused(outcome: Outcome, required: Flags) -> list[int]:
    """Who was not let in although they must be, once for each time."""
    whom = [event.client for event in outcome.events if event.kind is EventKind.REFUSED]
    return [client for client in whom if 0 <= client < len(required) and required[client]]


def _unplanned(outcome: Outcome, refused: int) -> int:
    """What the director could not do, or what did not recover: those problems that are no
    refusals of clients (of which each is a problem, too)."""
    undone = sum(
        event.kind is EventKind.REFUSED and event.client < 0 for event in outcome.events
    )  # fmt: skip
    return max(undone, len(outcome.problems) - refused)


def _concerns(listener: int, listeners: list[int], required: Flags) -> bool:
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


def _sections(outcome: Outcome, each: PerClient, joins: Joins) -> list[SectionFigures]:
    scenario, clients = outcome.scenario, outcome.state.clients
    detailed = len(scenario.sections) <= MANY_SECTIONS
    made = []
    for g, section in enumerate(scenario.sections):
        members = np.array(scenario.members(section.name))
        here = clients[members]
        histograms = {name: outcome.state.histograms[g, h] for name, h in HISTOGRAMS.items()}
        total = {name: int(here[name].sum()) for name in here.dtype.names or ()}
        mine = np.isin(joins.client, members)
        distributions: dict[str, Distribution] = {}
        if detailed:
            distributions = {name: distribution_of(h) for name, h in histograms.items()}
        made.append(
            SectionFigures(
                name=section.name,
                clients=section.clients,
                joined=len(np.unique(joins.client[mine])),
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
                gap_ms=round(int(each.gap_ns[members].max(initial=0)) / 1e6, 3),
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
            "gap_ns": each.gap_ns.tolist(),
            "latency_mean_ns": mean_ns.tolist(),
        }
    )


def _cost(cost: HubCost, outcome: Outcome, window_s: float) -> Cost:
    """The hub's cost a client-period: what it should have sent back, by the clock. Memory was
    looked at when the window closed, so it is divided by those who were in then."""
    scenario = outcome.scenario
    units = float(outcome.state.clients["due"].sum())
    if window_s > 0:
        units *= cost.window_ns / 1e9 / window_s
    if units <= 0:  # nobody was in
        rate = sum(s.clients / s.format.period_ns for s in scenario.sections) / scenario.clients
        units = max(1.0, max(1.0, cost.clients) * cost.window_ns * rate)
    receivers = [
        kib
        for pid, kib in cost.private_kib.items()
        if any(name in cost.kinds.get(pid, "") for name in RECEIVER_KINDS)
    ]
    counts = [count for at_s, count in outcome.playing if at_s <= window_s]
    clients = max(1.0, counts[-1] if counts else cost.clients)
    whole, shared = sum(cost.private_kib.values()), sum(cost.shared_kib.values())
    grown = (whole - cost.before_kib) / clients
    uses = cost.usage.values()
    total_us = sum(use.cpu_us for use in uses)
    return Cost(
        cpu_us=round(total_us / units, 3),
        user_us=round(sum(use.user_us for use in uses) / units, 3),
        system_us=round(sum(use.system_us for use in uses) / units, 3),
        cores=round(total_us * 1000 / max(1, cost.window_ns), 3),
        voluntary=round(sum(use.voluntary for use in uses) / units, 3),
        involuntary=round(sum(use.involuntary for use in uses) / units, 3),
        private_kib_a_client=round(grown, 1) if grown > 0 else None,
        private_kib=whole,
        shared_kib=shared,
        before_kib=cost.before_kib,
        private_kib_a_receiver=round(sum(receivers) / len(receivers), 1) if receivers else None,
        shared_kib_a_client=round(shared / clients, 1),
        split_samples=int(sum(use.user_us + use.system_us for use in uses) * 1000 / TICK_NS),
        kinds=_kinds(cost, units),
    )


def _kinds(cost: HubCost, units: float) -> dict[str, KindCost]:
    """The cost by kind of process, sorted by name."""
    private: dict[str, int] = {}
    shared: dict[str, int] = {}
    for pid, kib in cost.private_kib.items():
        kind = cost.kinds.get(pid, "other")
        private[kind] = private.get(kind, 0) + kib
        shared[kind] = shared.get(kind, 0) + cost.shared_kib.get(pid, 0)
    made = {}
    for kind in sorted({*cost.usage, *private}):
        use = cost.usage.get(kind, Usage())
        made[kind] = KindCost(
            processes=use.processes,
            cpu_us=round(use.cpu_us / units, 3),
            user_us=round(use.user_us / units, 3),
            system_us=round(use.system_us / units, 3),
            voluntary=round(use.voluntary / units, 4),
            involuntary=round(use.involuntary / units, 4),
            private_kib=private.get(kind, 0),
            shared_kib=shared.get(kind, 0),
        )
    return made
