"""From what was measured to the faults that it amounts to; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hub.doctor.names import is_private
from hub.doctor.pace import CERTAIN, MAY_BE_LATE
from hub.doctor.report import BackReport, Finding, HubFormat, RouterReport, ThereReport, TripReport
from hub.doctor.sizes import LONG_MTU, USUAL_MTU, Sizes
from hub.doctor.words import FAULTS, Exit, Severity, Verdict

PAUSE_S = 0.035, 0.055
"""What Linux keeps from real-time processes of each second, as a run of packets; the first and last
of them may come."""
LEAST_PAUSES, PAUSES_A_SECOND = 3, 0.5
LEAST_LOST = 2
"""A single packet may be lost anywhere."""
LOST_THERE = 1.0 / 1000.0
LATE_S = 0.010
LONG_WAY_S = 0.050
REORDERED = 1.0 / 1000.0
SENT_LATE_S, SENT_LATE_PERIODS = 0.001, 0.5
CLOCK_PPM = 200.0


def found(slug: str, detail: str = "") -> Finding:
    """A fault by its name, in its words."""
    fault = FAULTS[slug]
    return Finding(slug, fault.severity.value, fault.says, fault.do, detail)


def verdict_of(findings: Sequence[Finding]) -> tuple[Verdict, Exit]:
    """How it went: the worst fault says, of several errors the first."""
    faults = [FAULTS[finding.fault] for finding in findings]
    errors = [fault for fault in faults if fault.severity is Severity.ERROR]
    if errors:
        return Verdict.UNFIT, errors[0].code
    if any(fault.severity is Severity.WARNING for fault in faults):
        return Verdict.PLAYABLE, Exit.ADVICE
    return Verdict.FIT, Exit.FIT


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def of_back(back: BackReport, period_s: float) -> Iterator[Finding]:
    """On the way from the hub to us, whose packets are so far apart."""
    heard_s = (back.received + back.lost) * period_s
    least_s, most_s = PAUSE_S
    pauses = sum(n for length, n in back.runs.items() if least_s <= length * period_s <= most_s)
    if pauses >= max(LEAST_PAUSES, PAUSES_A_SECOND * heard_s):
        yield found("hub-paused", f"{pauses} times in {heard_s:.0f} s")
    if back.interruptions:
        longest = max(back.interruptions, key=lambda each: each.for_s)
        yield found(
            "interruptions",
            f"{len(back.interruptions)} ×, the longest {longest.for_s:.2f} s, "
            f"{longest.at_s:.1f} s after the beginning",
        )
    if back.lost >= LEAST_LOST and back.lost_share > MAY_BE_LATE:
        longest_run = max(back.runs, default=0)
        yield found(
            "losses-back",
            f"{back.lost} of {back.received + back.lost} packets ({_percent(back.lost_share)}), "
            f"at most {longest_run} together",
        )
    if back.late.needed_s > LATE_S:
        yield found("late-packets", f"1 in 2000 by more than {1000 * back.late.needed_s:.1f} ms")
    if back.reordered > REORDERED * back.received:
        yield found("reordered", f"{back.reordered} of {back.received}")
    ppm, error = back.clock_ppm, back.clock_error_ppm
    if ppm is not None and error is not None and abs(ppm) - CERTAIN * error > CLOCK_PPM:
        yield found("clock-apart", f"{ppm:+.0f} ppm")


def of_there(there: ThereReport, period_s: float) -> Iterator[Finding]:
    """On the way from us to the hub, and of this computer."""
    late_s = there.sent_late.needed_s
    if late_s > max(SENT_LATE_S, SENT_LATE_PERIODS * period_s):
        yield found("own-machine-late", f"1 packet in 2000 by more than {1000 * late_s:.1f} ms")
    if there.lost_share is not None and there.lost_share > LOST_THERE:
        yield found("losses-there", f"{_percent(there.lost_share)} of your sound")
    if there.others_db is not None:
        yield found("others-heard", f"{there.others_db:.0f} dB")
    elif there.lost_share is None:
        yield found("own-voice-absent")


def of_hub(hub: HubFormat, rate_hz: int, bits: int, frames: int) -> Iterator[Finding]:
    """Where the hub's packets are not like ours."""
    if hub.rate_hz is not None and hub.rate_hz != rate_hz:
        yield found("hub-other-rate", f"{hub.rate_hz} Hz")
    if hub.bits != bits:
        yield found("hub-other-bits", f"{hub.bits} bit")
    if hub.frames != frames:
        yield found("hub-other-period", f"{hub.frames} frames, yours have {frames}")


def of_trip(trip: TripReport) -> Iterator[Finding]:
    """How far it is."""
    if trip.network_s is not None and trip.network_s > LONG_WAY_S:
        yield found("long-way", f"{1000 * trip.network_s:.0f} ms there and back")


def of_router(router: RouterReport, hub_address: str) -> Iterator[Finding]:
    """What is between us and the open internet."""
    if router.remaps:
        yield found("port-remapped")
    elif router.private_address and not is_private(hub_address):
        yield found("behind-router")


def of_sizes(sizes: Sizes) -> Iterator[Finding]:
    """What packets the path carries."""
    if sizes.vanish:
        yield found("long-packets-swallowed", f"{sizes.mtu} bytes pass, {USUAL_MTU} do not")
    elif sizes.mtu is not None and sizes.mtu < USUAL_MTU:
        yield found("short-path", f"{sizes.mtu} bytes")
    if sizes.fragments is False:
        yield found("fragments-swallowed", f"a packet of {LONG_MTU} bytes")
