"""The service level that a scenario asks for, beside what was measured."""

from __future__ import annotations

from loadtest.conduct.outcome import EventKind
from loadtest.reporting.result import Result, ServiceCheck
from loadtest.scenario.model import Scenario


def check_service(scenario: Scenario, result: Result) -> list[ServiceCheck]:
    """All that is looked at. Two things always are: that all who were to come in hear
    the hub, and, where passages for everybody were taken apart, that those were right."""
    service = scenario.service
    absent = result.clients - result.joined + result.unheard
    checks = [
        _check("left out", absent, 0, "clients",
               "Everybody who was to come in was let in, and heard the hub."),
        _return_loss(result, service.return_loss),
        _wrong(scenario, result, service.wrong),
    ]  # fmt: skip
    if result.tuttis_checked:
        share = 1 - result.tuttis_right / result.tuttis_checked
        checks.append(
            _check("sums", share, service.wrong, "share",
                   f"Passages in which everybody sounds are the exact sum "
                   f"({result.tuttis_right} of {result.tuttis_checked} were).")
        )  # fmt: skip
    checks.append(_spacing(scenario, result))
    if service.missed_ticks >= 0:
        counted = result.counters.counts.get("missed") if result.counters else None
        checks.append(
            _check("missed ticks", counted, service.missed_ticks, "",
                   "The hub mixed in time, by its own count.")
        )  # fmt: skip
    if service.join_p99_ms > 0:
        measured = result.join_ms.p99 if result.join_ms.count else None
        checks.append(
            _check("join p99", measured, service.join_p99_ms, "ms",
                   "From the first TCP packet to the first audio, for 99 of 100.")
        )  # fmt: skip
    if service.gap_ms > 0:
        checks.append(
            _check("longest gap", result.gap_ms, service.gap_ms, "ms",
                   "Nobody's return stream was interrupted for longer.")
        )  # fmt: skip
    if scenario.faults:
        refused = sum(
            event.kind is EventKind.REFUSED and event.client < 0 for event in result.events
        )
        checks.append(
            _check("not as planned", refused, 0, "faults",
                   "All that was to be broken on purpose was.")
        )  # fmt: skip
    return checks


def _return_loss(result: Result, allowed: float) -> ServiceCheck:
    gone = result.lost + result.shortfall
    # nothing expected, nothing proved: as bad as all lost
    share = gone / result.expected if result.expected else 1.0
    return _check(
        "return loss", share, allowed, "share",
        f"Of {result.expected} packets the hub should have sent, {gone} did not come "
        "(beyond those the emulated network took).",
    )  # fmt: skip


def _wrong(scenario: Scenario, result: Result, allowed: float) -> ServiceCheck:
    """Wrong and silent packets, and voices never heard that no lost packet explains. What
    came soon after the generator stalled is not held against the hub."""
    bad = max(0, result.wrong + result.silent - result.disturbed)
    unheard = unexplained_missing(scenario, result)
    share = (bad + unheard) / max(1, result.checked)
    disturbed = (
        f"; {result.disturbed} more soon after the generator stalled" if result.disturbed else ""
    )
    return _check(
        "wrong sound", share, allowed, "share",
        f"Of {result.checked} checked packets {bad} held a wrong sample or silence in place of "
        f"a voice, {unheard} voices' packets never came at all{disturbed}.",
    )  # fmt: skip


def unexplained_missing(scenario: Scenario, result: Result) -> int:
    """Packets of voices that were never heard, by client, beyond its lost and wrong packets."""
    columns = result.columns
    frames = [section.format.frames for section in scenario.sections]
    total = 0
    for n, missing in enumerate(columns["missing"]):
        if missing and not columns["optional"][n]:
            packets = -(-missing // frames[columns["section"][n]])
            # a voice's edge need not be a packet's: one lost packet may take part of two
            explained = sum(columns[name][n] for name in ("lost", "shortfall", "wrong", "silent"))
            total += max(0, packets - explained)
    return total


def _spacing(scenario: Scenario, result: Result) -> ServiceCheck:
    period_us = scenario.hub.period * 1e6 / scenario.hub.rate_hz
    sections = [one for one in result.sections if one.spacing.count and not one.optional]
    worst = max(sections, key=lambda one: one.spacing.p99, default=None)
    measured = None if worst is None else worst.spacing.p99 / period_us
    where = f" (worst: section {worst.name})" if worst and len(sections) > 1 else ""
    return _check(
        "spacing p99", measured, scenario.service.spacing_p99, "periods",
        f"Packets come back evenly: 99 of 100 within so many hub periods{where}.",
    )  # fmt: skip


def _check(name: str, measured: float | None, allowed: float, unit: str, text: str) -> ServiceCheck:
    passed = measured is None or measured <= allowed
    value = None if measured is None else float(measured)
    return ServiceCheck(name, value, float(allowed), passed, unit, text)
