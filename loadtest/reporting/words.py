"""Figures as people say them: numbers, sentences, the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from loadtest.conduct.outcome import HubCounters
from loadtest.reporting.result import Cost, Result, ServiceCheck, Spread

MODES = {
    1: "each hears only themselves (loopback)",
    2: "each hears all the others, but not themselves",
    4: "each hears everybody, themselves too (full mix)",
    5: "nobody hears anybody",
}
FAULTS = {
    "kill-receiver": "a receiver process is killed",
    "kill-mixer": "the mixer is killed",
    "kill-lane": "a sender process is killed",
    "silent-tcp": "strangers connect and say nothing",
    "no-udp": "strangers join and never send audio",
    "garbage": "strangers send garbage",
    "flood": "a client's port is flooded by strangers",
    "deaf": "clients send, but never read what comes back",
    "closed": "clients close the port that the hub sends to",
    "hello-storm": "a storm of handshakes that lead to nothing",
}


class Verdict(StrEnum):
    """What a run says of the hub."""

    PASSED = "passed"
    FAILED = "failed"
    UNUSABLE = "unusable"


def verdict(result: Result) -> Verdict:
    """The verdict; a generator that cannot be believed says nothing of the hub."""
    if not result.usable:
        return Verdict.UNUSABLE
    return Verdict.PASSED if result.passed else Verdict.FAILED


def verdict_sentence(result: Result) -> str:
    """The verdict, for somebody who reads nothing else."""
    who = f"{plural(result.joined, 'client')} for {result.window_s:g} seconds"
    match verdict(result):
        case Verdict.UNUSABLE:
            advice = (
                " It wants a core of its own (--cpu), real-time priority, and a machine that does "
                "nothing else."
            )
            return (
                f"No verdict: the load generator cannot be believed ({'; '.join(result.reasons)})."
                f"{'' if result.interrupted else advice}"
            )
        case Verdict.PASSED:
            clean = " Nothing at all was lost or sounded wrong." if result.clean else ""
            unjudged = [check.name for check in result.service if not check.judged]
            but = f" Not judged, since the network spoils it too: {', '.join(unjudged)}."
            return (
                f"Passed: this hub carried {who}, as the scenario asks.{clean}"
                f"{but if unjudged else ''}"
            )
        case _:
            failed = [check for check in result.service if not check.passed]
            named = "; ".join(
                f"{check.name} {measured(check)}, allowed {allowed(check)}" for check in failed
            )
            return f"Failed: this hub did not carry {who} as the scenario asks ({named})."


def plural(count: int, what: str) -> str:
    """'1 client', '2 clients'."""
    return f"{grouped(count)} {what}{'' if count == 1 else 's'}"


def grouped(count: float) -> str:
    """Digits in threes."""
    return f"{count:,.0f}".replace(",", " ")


def share(value: float) -> str:
    """A share as people read it: '0', '0.79 %', '12 in a million'."""
    if value == 0:
        return "0"
    if value < 1e-4:
        return f"{value * 1e6:.3g} in a million"
    return f"{100 * value:.3g} %"


def micros(value: float) -> str:
    """µs below a millisecond, ms above."""
    if abs(value) >= 1000:
        return f"{value / 1000:.4g} ms"
    return f"{value:.4g} µs"


def spread(one: Spread, unit: str = "µs") -> str:
    """A spread in a line."""
    if one.count == 0:
        return "–"
    if unit == "µs":
        return f"p50 {micros(one.p50)}, p99 {micros(one.p99)}, max {micros(one.max)}"
    return f"p50 {one.p50:.4g}, p99 {one.p99:.4g}, max {one.max:.4g} {unit}"


def measured(check: ServiceCheck) -> str:
    """What was measured, with its unit."""
    return "not measured" if check.measured is None else _value(check.measured, check.unit)


def allowed(check: ServiceCheck) -> str:
    """What is allowed, with its unit."""
    if not check.judged:
        return "not judged"
    return _value(check.allowed, check.unit)


def _value(value: float, unit: str) -> str:
    if unit == "share":
        return share(value)
    number = f"{value:.3g}" if value != int(value) else grouped(value)
    return f"{number} {unit}".rstrip()


def memory(kib: float | None) -> str:
    """KiB below ten MiB, MiB above; '–': it could not be told."""
    if kib is None:
        return "–"
    return f"{kib:.0f} KiB" if kib < 10_240 else f"{kib / 1024:.1f} MiB"


def scenario_sentences(scenario: dict[str, Any]) -> Iterator[str]:
    """What was played."""
    hub, sections = scenario["hub"], scenario["sections"]
    clients = sum(section["clients"] for section in sections)
    optional = sum(section["clients"] for section in sections if section["optional"])
    whom = f", {optional} of whom the hub need not serve," if optional else ""
    yield (
        f"{plural(clients, 'client')} in {plural(len(sections), 'section')}{whom} played for "
        f"{scenario['seconds']:g} seconds."
    )
    yield (
        f"The hub mixes {hub['period']} samples at a time at {hub['rate_hz'] / 1000:g} kHz; "
        f"{MODES.get(hub['mode'], 'mode ' + str(hub['mode']))}."
    )
    yield (
        "All packets of a period leave at once."
        if scenario["burst"]
        else "Packets of different clients are spread evenly over the period, as they are in life."
    )


def section_sentence(section: dict[str, Any]) -> str:
    """A section's network, comings and goings; empty if there is nothing special."""
    parts = []
    for way, name in (("up", "to the hub"), ("down", "from the hub")):
        network = network_words(section[way])
        if network:
            parts.append(f"network {name}: {network}")
    if section["skew_ppm"]:
        pace = "fast" if section["skew_ppm"] > 0 else "slow"
        parts.append(f"clocks {abs(section['skew_ppm']):g} ppm {pace}")
    if section["join_at_s"] is not None:
        over = f" over {section['join_over_s']:g} s" if section["join_over_s"] else ""
        parts.append(f"join at {section['join_at_s']:g} s{over}")
    if section["leave_at_s"] is not None:
        over = f" over {section['leave_over_s']:g} s" if section["leave_over_s"] else ""
        parts.append(f"leave at {section['leave_at_s']:g} s{over}")
    if section["home_s"] or section["away_s"]:
        parts.append(f"stay {section['home_s']:g} s, leave and come back after "
                     f"{section['away_s']:g} s, again and again")  # fmt: skip
    if section["vanish"]:
        parts.append("leave without a word")
    if not section.get("talks", True):
        parts.append("only listen")
    if section["optional"]:
        parts.append("need not be served, and count in no figure of the whole")
    return "; ".join(parts)


def network_words(network: dict[str, Any]) -> str:
    """What an emulated network does; empty if nothing."""
    parts = []
    if network["loss"]:
        parts.append(f"{share(network['loss'])} lost")
    if network["burst_begin"] and network["burst_loss"]:
        length = 1 / network["burst_end"]
        parts.append(f"bursts of loss, {length:.3g} packets long on average")
    if network["delay_ms"]:
        parts.append(f"{network['delay_ms']:g} ms delay")
    if network["jitter"] != "none" and network["jitter_ms"] and network["jitter_share"]:
        of = f" for {share(network['jitter_share'])}" if network["jitter_share"] < 1 else ""
        parts.append(f"{network['jitter']} jitter of {network['jitter_ms']:g} ms{of}")
    if network["reorder"]:
        parts.append(f"{share(network['reorder'])} overtaken by others")
    if network["duplicate"]:
        parts.append(f"{share(network['duplicate'])} doubled")
    if network["stall_every_s"] and network["stall_ms"]:
        parts.append(f"stalls of {network['stall_ms']:g} ms every {network['stall_every_s']:g} s")
    if network["step_ms"]:
        parts.append(f"{network['step_ms']:g} ms longer from {network['step_at_s']:g} s on")
    return ", ".join(parts)


def fault_sentence(fault: dict[str, Any]) -> str:
    """What was broken on purpose."""
    text = FAULTS.get(fault["kind"], fault["kind"])
    when = f"at {fault['at_s']:g} s"
    if fault["every_s"]:
        when += f" and every {fault['every_s']:g} s after"
    whom = f" (section {fault['section']})" if fault["section"] else ""
    return f"{when}: {text}{whom}"


def generator_sentence(result: Result) -> str:
    """Whether the generator may be believed, and why."""
    if not result.usable:
        return f"The generator may not be believed: {'; '.join(result.reasons)}."
    stolen = (
        f" The hypervisor took {result.steal_s:.2f} s of CPU time from this machine's cores "
        "meanwhile."
        if result.steal_s >= 0.01
        else ""
    )
    excused = (
        f" {share(result.excused)} of the run came so soon after such a one that what went wrong "
        "there is not held against the hub."
        if result.excused
        else ""
    )
    return (
        f"The generator kept time: 99 of 100 packets left within {micros(result.lateness.p99)} of "
        f"their due time, {plural(result.stalls, 'packet')} more than a period late, and it lost "
        f"none itself.{excused}{stolen}"
    )


def halts_sentence(result: Result) -> str:
    """How the machine itself stood still; empty: it did not, or nobody watched."""
    halted = result.halted
    if halted is None or not halted.count:
        return ""
    times = "once" if halted.count == 1 else f"{halted.count} times"
    longest = "" if halted.count == 1 else f" in all, {halted.longest_ms:.1f} ms at most"
    return (
        f"The machine itself stood still {times} in the window, {halted.total_ms:.1f} ms{longest}: "
        "the hypervisor, or Linux itself, had that core, and neither hub nor generator."
    )


def split_sentence(hub: Cost) -> str:
    """How sure the division of CPU into user and system is; empty: it is not known."""
    if not hub.split_samples:
        return ""
    return (
        f"How it divides into user and system was looked at {grouped(hub.split_samples)} times by "
        f"Linux's clock: ± {100 * hub.split_within:.0f} % of the sum by chance, and more where "
        "work keeps step with that clock."
    )


def floor_sentence(result: Result) -> str:
    """What a bare echo cost beside the hub; empty: it was not measured."""
    if result.floor is None or result.hub is None or not result.floor.cpu_us:
        return ""
    return (
        f"A bare echo of the same packets on the same cores takes {result.floor.cpu_us:.2f} µs a "
        f"client-period; the hub {result.hub.cpu_us / result.floor.cpu_us:.2f} times that."
    )


def memory_sentences(hub: Cost) -> str:
    """What memory the hub used, all in all and for each client."""
    grown = (
        f"{memory(hub.private_kib_a_client)} of private memory for each client"
        if hub.private_kib_a_client is not None
        else "Private memory that did not grow with clients"
    )
    receiver = (
        f" (a receiver process has {memory(hub.private_kib_a_receiver)})"
        if hub.private_kib_a_receiver is not None
        else ""
    )
    return (
        f"{grown}{receiver}, and {memory(hub.shared_kib_a_client)} of shared memory; "
        f"{memory(hub.private_kib)} private and {memory(hub.shared_kib)} shared in all."
    )


def punctuality_sentence(counters: HubCounters) -> str:
    """How late the hub's ticks were, by its own account."""
    late = [
        f"{name} {micros(value)}"
        for name, value in counters.lateness_us.items()
        if value is not None
    ]
    ticks = f"its ticks were late by {', '.join(late)}, and " if late else ""
    return (
        f"Since the hub started, not in this window alone, {ticks}its mixer took "
        f"{100 * counters.load_ratio:.1f} % of its time."
    )
