"""Conditions of a hub in a local JACK graph: what those who play by JACK wonder about.

Whoever plays over the network goes on all the same: none of these is an error.
"""

from __future__ import annotations

import numpy as np

from hub.conditions.condition import Condition, Severity
from hub.conditions.looks import SPAN, Flags, View
from shared.layout import JackState

_GOES_ON = "Nothing, if you play over the network: the hub goes on by its own clock."


def _is(view: View, state: JackState) -> Flags:
    return np.array([view.newest.clock["jack.state"] == state])


def _lost(view: View) -> Flags:
    return _is(view, JackState.WAITING)


def _hung(view: View) -> Flags:
    return _is(view, JackState.HUNG)


def _misfit(view: View) -> Flags:
    return _is(view, JackState.MISFIT)


def _freewheels(view: View) -> Flags:
    return _is(view, JackState.FREEWHEEL)


def _slow(view: View) -> Flags:
    clock = view.newest.clock
    return np.array([clock["jack.coupled"] > 0 and clock["jack.behind"] > 0])


def _unsteady(view: View) -> Flags:
    return np.array([view.clock_grown("jack.lost") > 0])


def _crowded(view: View) -> Flags:
    return np.array([view.newest.clock["jack.left_out"] > 0])


def _misfit_detail(view: View, _slot: int) -> str:
    clock = view.newest.clock
    return (
        f"JACK has {clock['jack.rate_hz']} Hz and {clock['jack.period_frames']} frames, "
        f"the hub {view.rate_hz} Hz and {view.period_frames} frames"
    )


def _slow_detail(view: View, _slot: int) -> str:
    period_ns = view.period_frames * 1e9 / view.rate_hz
    return f"needs {100 * view.newest.clock['jack.graph_ns'] / period_ns:.0f} % of a period"


def _unsteady_detail(view: View, _slot: int) -> str:
    return f"{view.clock_grown('jack.lost', SPAN)} times in ten seconds"


def _crowded_detail(view: View, _slot: int) -> str:
    clock = view.newest.clock
    return f"{clock['jack.left_out']} without ports, {clock['jack.clients']} JACK clients"


JACK_GRAPH = (
    Condition(
        "jack-hung", Severity.WARNING,
        "The JACK server hangs: it is there, but lets no cycle run.",
        _GOES_ON,
        "End jackd (kill -9, if it does not end otherwise) and start it anew; the hub takes it up. "
        "Is it stopped (Ctrl-Z, SIGSTOP), or does its sound card no longer answer?",
        _hung, raise_s=0.0, clear_s=2.0,
    ),
    Condition(
        "jack-lost", Severity.WARNING,
        "No JACK server is there: nobody has JACK ports.",
        _GOES_ON,
        "Start jackd as the user whose the hub is, under the name that --jack-server says; the hub "
        "takes it up by itself.",
        _lost, raise_s=2.0, clear_s=0.0,
    ),
    Condition(
        "jack-misfit", Severity.WARNING,
        "The JACK server's rate or period is not the hub's: JACK ports are silent.",
        _GOES_ON,
        "Give jackd the hub's rate and period (jack_bufsize), or restart the hub, which then takes "
        "over JACK's.",
        _misfit, raise_s=1.0, clear_s=0.0, detail=_misfit_detail,
    ),
    Condition(
        "jack-unsteady", Severity.WARNING,
        "JACK loses time again and again: its sound has gaps.",
        "Nothing, if you play over the network.",
        "Look for xruns: grant jackd and its programs real-time priority, longer periods, or a "
        "machine that does not share its cores.",
        _unsteady, raise_s=2.0, clear_s=10.0, detail=_unsteady_detail,
    ),
    Condition(
        "jack-slow", Severity.WARNING,
        "The JACK graph needs most of its period: what it sends to clients comes a period later.",
        "Nothing, but a little more latency of what comes by JACK.",
        "Longer periods (jackd -p), or fewer and lighter programs in JACK; --jack-ports mix is "
        "less work for it.",
        _slow, raise_s=0.0, clear_s=10.0, detail=_slow_detail,
    ),
    Condition(
        "jack-crowded", Severity.WARNING,
        "JACK has no room for some clients: they have no JACK ports.",
        "Nothing: you are heard, and hear, as ever.",
        "--jack-ports sections or mix needs fewer ports, jackd -p N (before -d) allows more.",
        _crowded, raise_s=0.0, clear_s=2.0, detail=_crowded_detail,
    ),
    Condition(
        "jack-freewheels", Severity.INFO,
        "JACK computes as fast as it can, as for an export: it is no clock, and its ports are "
        "silent.",
        "Nothing: the hub goes on by its own clock.",
        "It ends with the export; otherwise jack_freewheel n.",
        _freewheels, raise_s=0.0, clear_s=0.0,
    ),
)  # fmt: skip
"""By urgency."""
