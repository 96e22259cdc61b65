"""Conditions of the hub as a whole: what all its clients suffer from, or wonder about."""

from __future__ import annotations

import numpy as np

from hub.conditions.condition import Condition, Severity
from hub.conditions.jackgraph import JACK_GRAPH
from hub.conditions.looks import SPAN, Flags, View
from hub.overload.info import overload_text
from shared.layout import PatchMode

MANY = 3
MANY_SHARE = 0.5
NEAR_LIMIT = 0.9
"""Of what the kernel lets real-time processes have of a core."""
FULL_LOAD = 0.7
"""Of a period that the mixer works: beyond it, ticks will be missed."""


def _flag(value: bool | np.bool_) -> Flags:
    return np.array([value])


def _load(view: View) -> float:
    """Share of its time that the mixer works, over the last look."""
    ticks = view.clock_grown("ticks")
    period_ns = view.period_frames * 1e9 / view.rate_hz
    return view.clock_grown("work_ns") / (ticks * period_ns) if ticks > 0 else 0.0


def _stuck(view: View) -> Flags:
    return _flag(view.looks > 1 and view.clock_grown("ticks") == 0)


def _missed(view: View) -> Flags:
    return _flag(view.clock_grown("missed") + view.clock_grown("lanes_missed") > 0)


def _overloaded(view: View) -> Flags:
    return _flag(_load(view) > FULL_LOAD)


def _replaced(view: View) -> Flags:
    return _flag(view.clock_grown("replaced", SPAN) > 0)


def _everybody(view: View) -> Flags:
    active = np.count_nonzero(view.active)
    return _flag(view.upset >= MANY and view.upset > MANY_SHARE * active)


def _nothing_patched(view: View) -> Flags:
    return _flag(view.newest.patch == PatchMode.NONE)


def _loopback(view: View) -> Flags:
    return _flag(view.newest.patch == PatchMode.LOOPBACK)


def _full(view: View) -> Flags:
    return _flag(int(np.count_nonzero(view.present)) >= len(view.present))


def _refuses(view: View) -> Flags:
    return _flag(bool(view.newest.overload.refuses))


def _sheds(view: View) -> Flags:
    return _flag(bool(view.newest.overload.sheds))


def _sheds_detail(view: View, _slot: int) -> str:
    overload = view.newest.overload
    return f"left out: {', '.join(overload.sheds)}; {overload_text(overload)}"


def _refuses_detail(view: View, _slot: int) -> str:
    return overload_text(view.newest.overload)


def _paused(view: View) -> Flags:
    return _flag(view.newest.overload.realtime_used >= NEAR_LIMIT)


def _paused_detail(view: View, _slot: int) -> str:
    info = view.newest.overload
    allowed = 100 * (info.realtime_limit or 1.0)
    return (
        f"uses {100 * info.realtime_used:.0f} % of the {allowed:g} % of a core that it may have; "
        f"paused in {info.realtime_paused} seconds so far"
    )


def _missed_detail(view: View, _slot: int) -> str:
    missed = view.clock_grown("missed", SPAN) + view.clock_grown("lanes_missed", SPAN)
    return f"{missed} in ten seconds"


def _load_detail(view: View, _slot: int) -> str:
    return f"works {100 * _load(view):.0f} % of the time"


def _everybody_detail(view: View, _slot: int) -> str:
    return f"{view.upset} of {np.count_nonzero(view.active)}"


WHOLE = (
    Condition(
        "mixer-stuck", Severity.ERROR,
        "The hub does not tick: nobody hears anything.",
        "Wait: the hub replaces what is stuck within seconds.",
        "Look at the log; is the machine stopped, swapping, or out of real-time budget?",
        _stuck, raise_s=1.0, clear_s=1.0,
    ),
    Condition(
        "worker-died", Severity.WARNING,
        "The mixer, a lane or the zygote died and was replaced.",
        "Nothing: it goes on.",
        "Look at the log: killed by the system for want of memory? If not, report it.",
        _replaced, raise_s=0.0, clear_s=15.0,
    ),
    Condition(
        "hub-late", Severity.WARNING,
        "The hub misses ticks: everybody hears a gap at the same time.",
        "Tell who runs the hub: it is not your line.",
        "The machine does not let the mixer run in time: grant SCHED_FIFO (tuttihub says at "
        "start if it was refused), give it CPUs of its own (--mixer-cpus), or a machine that "
        "does not share its cores.",
        _missed, raise_s=2.0, clear_s=15.0, detail=_missed_detail,
    ),
    Condition(
        "hub-overloaded", Severity.WARNING,
        "The hub's mixer has hardly any time left.",
        "Tell who runs the hub.",
        "Fewer clients, longer ticks (-F 256), separate lanes (--transmit-lanes), or a faster "
        "machine: tuttihub capacity tells what this one carries.",
        _overloaded, raise_s=5.0, clear_s=10.0, detail=_load_detail,
    ),
    Condition(
        "hub-realtime-limit", Severity.WARNING,
        "The hub's real-time processes use nearly all that the kernel lets them have of a core: "
        "beyond it, it stops them for a part of each second.",
        "Tell who runs the hub.",
        "As for hub-overloaded. If the core is the hub's alone (--cpus), the limit can be lifted: "
        "sysctl -w kernel.sched_rt_runtime_us=-1. From Linux 6.12 on ordinary processes that wait "
        "there get their twentieth all the same.",
        _paused, raise_s=2.0, clear_s=10.0, detail=_paused_detail,
    ),
    Condition(
        "hub-sheds", Severity.ERROR,
        "The hub has too much to do and leaves out what it can.",
        "Tell who runs the hub. Levels may not be shown, and your own mix may be everybody's.",
        "As for hub-overloaded, and soon: the last step is to let clients go. --shed-load sets "
        "when it begins (docs/overload.md).",
        _sheds, raise_s=0.0, clear_s=0.0, detail=_sheds_detail,
    ),
    Condition(
        "hub-refuses", Severity.WARNING,
        "The hub is so busy that it takes no newcomers; who is here plays on.",
        "Nothing, if you are in. Who is not: try again in a minute.",
        "Fewer clients, longer ticks (-F 256), shared receivers (--clients-per-worker), a faster "
        "machine or line; --admit-load sets how much the hub takes upon itself (docs/overload.md).",
        _refuses, raise_s=0.0, clear_s=0.0, detail=_refuses_detail,
    ),
    Condition(
        "hub-line", Severity.WARNING,
        "Most clients lose packets or get them late at the same time: it is the hub's line or "
        "machine.",
        "Tell who runs the hub: it is not your line.",
        "Look at the hub's own network: a full line, a provider's limit, a busy machine.",
        _everybody, raise_s=3.0, clear_s=10.0, detail=_everybody_detail,
    ),
    *JACK_GRAPH,
    Condition(
        "hub-full", Severity.INFO,
        "Every place is taken: who comes now is turned away.",
        "Try again when somebody has left.",
        "--max-clients allows more, if the machine carries them.",
        _full, raise_s=0.0, clear_s=1.0,
    ),
    Condition(
        "patch-none", Severity.INFO,
        "The patch mode is none (-p5): nobody hears anybody.",
        "Ask who mixes.",
        "tuttihub ctl patch full-mix, or fan-out-no-self.",
        _nothing_patched, raise_s=0.0, clear_s=0.0,
    ),
    Condition(
        "patch-loopback", Severity.INFO,
        "The patch mode is loopback (-p1): everybody hears only themselves.",
        "It is for testing: hearing yourself means that your line is fine.",
        "tuttihub ctl patch full-mix, or fan-out-no-self.",
        _loopback, raise_s=0.0, clear_s=0.0,
    ),
)  # fmt: skip
"""By urgency."""
