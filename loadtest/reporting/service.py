"""The service level that a scenario asks for, beside what was measured."""

from __future__ import annotations

from dataclasses import replace

from loadtest.conduct.outcome import FindingKind
from loadtest.reporting.result import Result, ServiceCheck
from loadtest.scenario.model import FaultKind, Scenario
from shared.limits import PatchMode

_FEWEST_TALKERS = {PatchMode.LOOPBACK: 1, PatchMode.FAN_OUT_NO_SELF: 2, PatchMode.FULL_MIX: 1}
"""From so many on somebody hears a voice."""
_UNTIDY = {
    FindingKind.DUPLICATE, FindingKind.REORDERED, FindingKind.MALFORMED, FindingKind.FOREIGN,
    FindingKind.DELAYED,
}  # fmt: skip
_UNSOUND = {
    FindingKind.WRONG_GAIN, FindingKind.OWN_VOICE, FindingKind.SWAPPED_CHANNELS,
    FindingKind.CLIPPED,
}  # fmt: skip
"""What no halt of the generator makes, so that it is named even where wrong packets are excused."""
_ANEW = {FaultKind.KILL_MIXER, FaultKind.KILL_LANE}
_NETWORKS = {
    "return loss", "wrong sound", "sums", "spacing p99", "join p99", "longest gap", "named faults",
    "slips", "longest in to out",
}  # fmt: skip
"""What a network that the kernel emulates does as well: it does not say to which packet."""


def check_service(scenario: Scenario, result: Result) -> list[ServiceCheck]:
    """All that is looked at. Some things always are: that all who were to come in hear the
    hub, each time; that anything could be checked; that passages for everybody, where they
    were taken apart, were right; and that all was done that was to be done. What should have
    been measured and was not has not been shown, and fails."""
    service = scenario.service
    checks = [
        _check("left out", result.left_out, 0, "joins",
               "Everybody was let in whenever they came, and heard the hub within a second."),
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
        checks.append(_missed_ticks(result, service.missed_ticks))
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
    if service.latency_max_ms > 0:
        checks.append(_longest(scenario, result))
    if service.findings >= 0:
        checks.append(_findings(scenario, result))
    if service.slips >= 0:
        checks.append(_slips(result, service.slips))
    if scenario.faults or result.unplanned:
        checks.append(
            _check("not as planned", result.unplanned, 0, "faults",
                   "All that was to happen did, and what was broken on purpose recovered.")
        )  # fmt: skip
    if result.line is not None and not result.line.perfect:
        checks = [
            replace(check, passed=True, judged=False) if check.name in _NETWORKS else check
            for check in checks
        ]
    return checks


def _longest(scenario: Scenario, result: Result) -> ServiceCheck:
    """The longest latency of any voice, and how far the clocks went apart meanwhile."""
    skew_ppm = max(abs(section.skew_ppm) for section in scenario.sections)
    drift_ms = skew_ppm * result.window_s / 1000
    meanwhile = f", while the clocks went up to {drift_ms:.0f} ms apart" if skew_ppm else ""
    measured = result.latency.max / 1000 if result.latency.count else None
    return _check(
        "longest in to out", measured, scenario.service.latency_max_ms, "ms",
        f"No voice took longer through the hub{meanwhile}.",
    )  # fmt: skip


def _findings(scenario: Scenario, result: Result) -> ServiceCheck:
    """Named faults for which there is no share. That numbers begin anew is one as well, but for
    hubs whose mixer is killed on purpose."""
    service = scenario.service
    kinds = _UNTIDY | (_UNSOUND if service.wrong == 0 else set())
    if scenario.hub.queue == "auto":  # each has the queue that it needs
        kinds = kinds - {FindingKind.DELAYED}
    found = [one for one in result.findings if one.kind in kinds]
    named = ", ".join(dict.fromkeys(str(one.kind) for one in found))
    anew = 0
    if not any(fault.kind in _ANEW for fault in scenario.faults):
        anew = result.restarts
        named = ", ".join(filter(None, (named, "numbered anew" if anew else "")))
    return _check(
        "named faults", len(found) + anew, service.findings, "",
        "Nothing came twice, out of order, from elsewhere or in another form; nobody was later "
        f"than their like{'' if service.wrong else '; no voice had a wrong gain or place'}"
        f"{f' (but: {named})' if named else ''}.",
    )  # fmt: skip


def _missed_ticks(result: Result, allowed: int) -> ServiceCheck:
    counted = result.counters.counts.get("missed") if result.counters else None
    text = "Periods that the hub did not mix in time, by its own count."
    if counted is None and result.control_expected:
        text += " It has such a count, but did not say it."
    return _check("missed ticks", counted, allowed, "", text, needed=result.control_expected)


def _slips(result: Result, allowed: int) -> ServiceCheck:
    counts = result.counters.counts if result.counters else {}
    slips = [counts[name] for name in ("overflows", "restarts") if name in counts]
    return _check(
        "slips", sum(slips) if slips else None, allowed, "",
        "The hub kept every client's delay without skipping sound or beginning anew, by its own "
        "count.", needed=result.control_expected,
    )  # fmt: skip


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
    share: float | None = (bad + unheard) / max(1, result.checked)
    disturbed = (
        f"; {result.disturbed} more soon after the generator stalled" if result.disturbed else ""
    )
    text = (
        f"Of {result.checked} checked packets {bad} held a wrong sample or silence in place of "
        f"a voice, {unheard} voices' packets never came at all{disturbed}."
    )
    talkers = _talkers(result)
    if talkers and not result.checked:
        share, text = None, "No packet could be checked."
    elif talkers >= _FEWEST_TALKERS.get(scenario.hub.mode, 1 << 30) and not result.voices_expected:
        share, text = None, f"{text} But nobody was given a voice to hear."
    return _check("wrong sound", share, allowed, "share", text)


def _talkers(result: Result) -> int:
    """Clients whose sound can be checked, and must be."""
    columns = result.columns
    pairs = zip(columns["checkable"], columns["optional"], strict=True)
    return sum(bool(checkable and not optional) for checkable, optional in pairs)


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


def _check(
    name: str, measured: float | None, allowed: float, unit: str, text: str, needed: bool = True
) -> ServiceCheck:
    """needed: what was not measured has not been shown."""
    passed = not needed if measured is None else measured <= allowed
    value = None if measured is None else float(measured)
    return ServiceCheck(name, value, float(allowed), passed, unit, text)
