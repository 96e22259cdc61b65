"""Whether a run may be believed: whether its own generator kept time and lost nothing.

A stall of the generator makes packets late, and the hub may do wrong because of that; so what
sounds wrong within a quarter of a second of one is not held against it. That is no licence:
when too much of a run lies within what stalls excuse, it shows nothing.
"""

from __future__ import annotations

import numpy as np

from loadtest.conduct.outcome import Outcome
from loadtest.reporting.result import Result
from loadtest.scenario.model import Scenario

LATE_SHARE = 0.25
"""A generator whose p99 is later than this share of a period is no exact clock."""
STALL_SHARE = 1e-3
"""More packets than this share sent later than a period: the queues were tested, not the hub."""
EXCUSED_SHARE = 0.05
"""More than this share within what stalls excuse: what was not excused shows too little."""
EXCUSED_NS = 250_000_000
"""After a stall nothing is held against the hub for so long, as the judge has it."""
FEWEST_PASSAGES = 2
"""A single passage of everybody soon after a stall is chance."""


def excused_share(outcome: Outcome, window_s: float) -> float:
    """The share of a run that stalls excuse, 0..1: the largest of three views of it.

    - of the checked packets, those that were wrong or silent soon after a stall, or because
      the packet before had left late;
    - of the passages in which everybody sounds, which sample the whole window evenly, those
      that came soon after one, or were wrong in the round after one;
    - of the window, a quarter of a second for as many packets as one stall makes late: one of
      each client, and as many more as periods fit into the longest.
    """
    state = outcome.state
    here = state.clients[state.clients["optional"] == 0]
    excused = int(here["disturbed"].sum())
    if all(section.up.perfect and section.skew_ppm == 0 for section in outcome.scenario.sections):
        # no network and no clock can have spoilt what the judge thought spoilt: we were late
        excused += int(here["concealed"].sum())
    of_packets = excused / max(1, int(here["checked"].sum()))
    period_ns = max(1.0, float(state.clients["period_ps"].mean()) / 1000)
    of_one = len(state.clients) * max(1.0, int(state.run["late_max_ns"][0]) / period_ns)
    stalls = int(state.run["stalls"][0]) / of_one
    of_window = stalls * EXCUSED_NS / 1e9 / window_s if window_s > 0 else 0.0
    return min(1.0, max(of_packets, _of_passages(outcome), _of_wrong_passages(outcome), of_window))


def _of_wrong_passages(outcome: Outcome) -> float:
    """What was excused after it was taken apart."""
    if outcome.excused_in < FEWEST_PASSAGES:
        return 0.0
    return outcome.tuttis_excused / (outcome.tuttis_checked + outcome.tuttis_excused)


def _of_passages(outcome: Outcome) -> float:
    log = outcome.state.tutti_log[: int(outcome.state.run["tutti_packets"][0])]
    passages = np.unique(log["tutti"])
    since_ns = log["arrival_ns"] - log["stall_ns"]
    excused = np.unique(log["tutti"][np.abs(since_ns) < EXCUSED_NS])
    return len(excused) / len(passages) if len(excused) >= FEWEST_PASSAGES else 0.0


def reasons(scenario: Scenario, result: Result) -> list[str]:
    """What speaks against believing the run, for people; empty: nothing does."""
    shortest_us = min(section.format.period_ns for section in scenario.sections) / 1000
    sent = sum(section.sent for section in result.sections)
    found = []
    if result.lateness.p99 > LATE_SHARE * shortest_us:
        found.append(
            f"its packets left late: p99 {result.lateness.p99:.0f} µs, more than a quarter of the "
            f"shortest period ({shortest_us:.0f} µs)"
        )
    if result.stalls > STALL_SHARE * max(1, sent):
        found.append(f"{result.stalls} of {sent} packets left more than a period late")
    if result.excused > EXCUSED_SHARE:
        found.append(
            f"{100 * result.excused:.2g} % of the run came so soon after one of its stalls that it "
            "cannot be held against the hub"
        )
    if result.tuttis_excused and not result.tuttis_checked:
        found.append(
            "no passage of everybody could be judged: all that were wrong came in the round after "
            "one of its stalls"
        )
    if result.overrun:
        found.append(
            f"{result.overrun} packets left at once that its emulated network should have delayed: "
            "it had no more room"
        )
    if result.skipped:
        found.append(f"{result.skipped} packets were never sent: it was hopelessly late")
    if result.own_drops:
        found.append(f"{result.own_drops} packets were dropped in its own socket")
    if result.send_errors:
        found.append(f"{result.send_errors} packets could not be sent")
    if result.interrupted:
        found.append("the run was interrupted")
    return found
