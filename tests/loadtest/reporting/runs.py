"""Outcomes made by hand: what a run would have left in memory, without a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from loadtest.clients import state as memory
from loadtest.clients.state import BUCKETS, LATENCY, LATENESS, SPACING, State
from loadtest.conduct.outcome import (
    Event,
    EventKind,
    Finding,
    FindingKind,
    HubCost,
    HubCounters,
    Joined,
    Outcome,
)
from loadtest.conduct.procfs import Usage
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result, ServiceCheck
from loadtest.scenario.model import Fault, FaultKind, Format, Network, Scenario, Section, Service

SECOND_NS = 1_000_000_000
OPENED_NS = 500 * SECOND_NS
BIN_NS = SECOND_NS // 10

STRINGS = Section("strings", 12, Format(128))
WINDS = Section("winds", 6, Format(256, sends=1), up=Network(loss=0.01))
GUESTS = Section("guests", 2, Format(64, 44100), optional=True)
GUEST = 18
"""The first client of the section that is optional."""
SCENARIO = Scenario(
    name="little-choir",
    title="Strings, winds on a poor network, and two guests",
    seconds=10.0,
    sections=(STRINGS, WINDS, GUESTS),
)


def empty_state(scenario: Scenario) -> State:
    """Memory in which nothing has happened yet."""
    n, sections = scenario.clients, len(scenario.sections)
    bins = int(np.ceil(scenario.seconds * SECOND_NS / BIN_NS)) + 1
    clients = np.zeros(n, memory.CLIENT)
    for index in range(n):
        g = scenario.section_of(index)
        form = scenario.sections[g].format
        clients["section"][index] = g
        clients["optional"][index] = scenario.sections[g].optional
        clients["frames"][index] = form.frames
        clients["period_ps"][index] = clients["nominal_ps"][index] = round(form.period_ns * 1000)
        clients["checkable"][index] = form.rate_hz == scenario.hub.rate_hz
        clients["generation"][index] = 1
    run = np.zeros(1, memory.RUN)
    run["opened_ns"] = OPENED_NS
    run["closed_ns"] = OPENED_NS + int(scenario.seconds * SECOND_NS)
    run["bin_ns"] = BIN_NS
    # what figures are not made of stays small
    arrays: dict[str, Any] = dict.fromkeys(State._fields, np.zeros((1, 1), np.int64))
    arrays |= {
        "clients": clients,
        "run": run,
        "histograms": np.zeros((sections, 3, BUCKETS), np.int64),
        "timeline": np.zeros((n, bins, len(memory.BIN_KINDS)), np.int32),
        "drops": np.zeros(1, np.int64),
        "tutti_log": np.zeros(0, memory.CAPTURE),
    }
    return State(**arrays)


def perfect(scenario: Scenario = SCENARIO, *, seed: int = 1) -> Outcome:
    """A run in which all went well; figures scatter as real ones do."""
    random = np.random.default_rng(seed)
    state = empty_state(scenario)
    clients = state.clients
    packets = (scenario.seconds * 1e12 / clients["period_ps"] + 1e-3).astype(np.int64)
    for name in ("sent", "due", "returned", "checked"):
        clients[name] = packets
    # they arrive in the middle of a period, and the last one after the window
    clients["arrival_ns"] = OPENED_NS + clients["nominal_ps"] * (2 * packets + 21) // 2000
    clients["voice_due"] = clients["voice_heard"] = 40 * 6 * clients["frames"]
    clients["gap_ns"] = 4_000_000 + random.integers(0, 2_000_000, len(clients))
    clients["latency_count"] = 500
    clients["latency_ns"] = 500 * random.integers(8_000_000, 9_000_000, len(clients))
    clients["latency_max_ns"] = 12_345_678
    clients["goodbyes"] = 1
    bins = state.timeline.shape[1] - 1
    state.timeline[:, :bins, memory.BIN_RETURNED] = (packets // bins)[:, None]
    for g, section in enumerate(scenario.sections):
        count = int(section.clients * scenario.seconds * SECOND_NS / section.format.period_ns)
        for which, times in (
            (LATENCY, 7900 + section.format.frames * 8 + random.gamma(4.0, 180.0, count // 10)),
            (SPACING, random.lognormal(3.2, 0.9, count)),
            (LATENESS, random.lognormal(1.5, 0.8, count)),
        ):
            buckets = np.clip(np.ceil(times).astype(int), 0, BUCKETS - 1)
            state.histograms[g, which] += np.bincount(buckets, minlength=BUCKETS)
    outcome = Outcome(scenario, state, realtime=True, own_load=0.31)
    for index in range(scenario.clients):
        started_ns = OPENED_NS - 3 * SECOND_NS + index * 10_000_000
        answered_ns = started_ns + int(random.uniform(2e6, 6e6))
        first_ns = answered_ns + int(random.uniform(5e6, 60e6))
        outcome.joins.append(Joined(index, 1, 61000 + index, started_ns, answered_ns, first_ns))
        at_s = (started_ns - OPENED_NS) / 1e9
        outcome.playing.append((at_s, index + 1))
        outcome.events.append(Event(at_s, EventKind.JOIN, index))
    outcome.cost = _cost(scenario)
    outcome.counters = HubCounters(
        counts={"ticks": 3750, "missed": 0, "overruns": 0, "starved": 0, "lost": 0, "late": 0,
                "underruns": 0, "overflows": 0, "restarts": 0, "kernel_drops": 0, "malformed": 0},
        lateness_us={"p50": 12.5, "p99": 61.0, "max": 240.0},
        load_ratio=0.08,
        by_client={},
    )  # fmt: skip
    outcome.tuttis_checked = outcome.tuttis_right = 40
    outcome.versions = {"tuttihub": "0.1.0"}
    return outcome


def troubled(scenario: Scenario | None = None, *, seed: int = 1) -> Outcome:
    """The same with much that went wrong, on purpose and otherwise."""
    faults = (Fault(FaultKind.KILL_RECEIVER, at_s=4.0, section="strings"),)
    scenario = scenario or Scenario(
        name="bad-day", title="A choir on a bad day", about="Everything at once.", seconds=10.0,
        sections=SCENARIO.sections, faults=faults, seed=7,
    )  # fmt: skip
    random = np.random.default_rng(seed)
    outcome = perfect(scenario, seed=seed)
    clients, timeline = outcome.state.clients, outcome.state.timeline
    hit = 3
    bins = slice(40, 52)
    gone = int(timeline[hit, bins, memory.BIN_RETURNED].sum())
    timeline[hit, bins, memory.BIN_RETURNED] = 0
    timeline[hit, bins, memory.BIN_LOST] = gone // 12
    _lose(clients, hit, "lost", gone)
    clients["gap_ns"][hit] = 1_210_000_000
    for index in range(len(clients)):
        if outcome.scenario.section_of(index) == 1:
            spoilt = random.poisson(0.4, 100)
            timeline[index, :100, memory.BIN_CONCEALED] += spoilt.astype(np.int32)
            clients["concealed"][index] += int(spoilt.sum())
            clients["dropped_up"][index] += int(clients["sent"][index]) // 100
        for b in random.integers(0, 100, 2):
            timeline[index, b, memory.BIN_WRONG] += 1
            clients["wrong"][index] += 1
    state_run = outcome.state.run
    state_run["late_max_ns"] = 900_000
    outcome.events += [
        Event(4.0, EventKind.FAULT, hit, "receiver of client 3 killed"),
        Event(5.2, EventKind.RECOVERED, hit, "receiver of client 3 has a successor"),
        Event(7.0, EventKind.LEAVE, 19, ""),
    ]
    outcome.playing.append((7.0, scenario.clients - 1))
    outcome.findings = [
        Finding(FindingKind.DROPOUT, hit, -1, 4.0, 5.2, gone, "Client 3 heard nothing for 1.2 s."),
        Finding(FindingKind.WRONG_GAIN, 5, 2, 1.0, 9.0, 17, "Client 5 hears client 2 too soft.",
                gain_db=-6.0),
    ]  # fmt: skip
    outcome.tuttis_right = 37
    assert outcome.counters
    outcome.counters.counts.update(missed=2, late=31, lost=600, underruns=640)
    outcome.problems = ["client 17: refused: the hub is full"]
    outcome.events.append(Event(-2.8, EventKind.REFUSED, 17, "the hub is full"))
    return outcome


def _lose(clients: Any, index: int, name: str, count: int) -> None:
    clients["returned"][index] -= count
    clients["checked"][index] -= count
    clients[name][index] += count


def _cost(scenario: Scenario) -> HubCost:
    n, us = scenario.clients, scenario.seconds * 1e6
    usage = {
        "tuttihub": Usage(1, 0.002 * us, 0.001 * us, 0.001 * us, 40, 3),
        "mixer": Usage(1, 0.05 * us + 0.001 * us * n, 0.05 * us, 0.001 * us * n, 9000, 40),
        "receiver": Usage(n, 0.012 * us * n, 0.004 * us * n, 0.008 * us * n, 12000 * n, 20 * n),
    }
    kinds = {100: "tuttihub", 101: "mixer"} | {200 + k: "receiver" for k in range(n)}
    private = {100: 38000, 101: 21000} | {200 + k: 900 + k for k in range(n)}
    return HubCost(
        window_ns=int(scenario.seconds * SECOND_NS),
        usage=usage,
        before_kib=59000,
        private_kib=private,
        shared_kib=dict.fromkeys(private, 700),
        kinds=kinds,
        clients=float(n),
    )


def check(result: Result, name: str) -> ServiceCheck:
    return next(one for one in result.service if one.name == name)


def cause(result: Result, where: str, name: str) -> Any:
    return next(one for one in result.loss if (one.where, one.name) == (where, name))


def of(outcome: Outcome, service: Service) -> Result:
    """The result, had the scenario asked for another service."""
    outcome.scenario = replace(outcome.scenario, service=service)
    return evaluate(outcome)


def hurt(name: str, client: int = 0, count: int = 100) -> Callable[[Outcome], None]:
    def act(outcome: Outcome) -> None:
        outcome.state.clients[name][client] += count

    return act


def take(outcome: Outcome, client: int, *, lost: int) -> None:
    """Packets that the numbering shows to be missing."""
    outcome.state.clients["returned"][client] -= lost
    outcome.state.clients["lost"][client] += lost
