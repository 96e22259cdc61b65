"""Why somebody was turned away, before it had a place at all."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from hub.conditions.condition import Condition, Severity, describe, never

KEPT = 16
"""Refusals that are remembered: the last ones, one for each source and reason."""

REFUSED = (
    Condition(
        "no-place", Severity.ERROR,
        "Every place of the hub is taken.",
        "Try again when somebody has left.",
        "--max-clients allows more, if the machine carries them.",
        never,
    ),
    Condition(
        "no-port", Severity.ERROR,
        "The hub could not open a UDP port for it.",
        "Try again in a minute; if it happens again, tell who runs the hub.",
        "The UDP ports are used by another program, or too few open files are permitted: see the "
        "log (client turned away).",
        never,
    ),
    Condition(
        "password-required", Severity.ERROR,
        "It came without a user name, and this hub wants one.",
        "Connect with a user name and password: jacktrip -C HUB -A (or --auth).",
        "Make it a user: tuttihub passwd.",
        never,
    ),
    Condition(
        "password-not-wanted", Severity.ERROR,
        "It wants to give a password, and this hub takes none.",
        "Connect without -A (--auth).",
        "Serve with --auth if everybody should have a password.",
        never,
    ),
    Condition(
        "wrong-password", Severity.ERROR,
        "User name or password were wrong.",
        "Type them again; mind upper and lower case.",
        "tuttihub passwd sets a new one.",
        never,
    ),
    Condition(
        "wrong-time", Severity.ERROR,
        "User name and password are right, but not at this time.",
        "Come at your time, or ask for more.",
        "The times of this user are in --credsfile; they are local times of the hub.",
        never,
    ),
    Condition(
        "logins-limited", Severity.ERROR,
        "It gave wrong passwords too often, so none of its passwords is looked at for a while.",
        "Wait a few minutes; then type user name and password again.",
        "Somebody guesses, or a program tries an old password over and over.",
        never,
    ),
    Condition(
        "logins-busy", Severity.ERROR,
        "Too many wait for their passwords to be checked.",
        "Try again in a minute.",
        "A storm of logins: it passes, and nobody who is in notices it.",
        never,
    ),
    Condition(
        "login-broken", Severity.ERROR,
        "The conversation about the password came to nothing: TLS failed, or it took too long.",
        "Try again; use a current JackTrip.",
        "Does the certificate fit its key, and is it still valid? See the log (tcp peer dropped).",
        never,
    ),
    Condition(
        "not-allowed", Severity.ERROR,
        "Its network may not come in.",
        "Ask who runs the hub; give them your address.",
        "--allow and --deny say who may.",
        never,
    ),
    Condition(
        "banned", Severity.ERROR,
        "It is banned.",
        "Ask who runs the hub.",
        "tuttihub ctl bans lists the bans, tuttihub ctl unban ends one.",
        never,
    ),
    Condition(
        "connects-too-often", Severity.ERROR,
        "It connects too often.",
        "Stop all JackTrips, wait a minute, start one.",
        "A program that tries over and over, or many behind one router: --handshake-rate.",
        never,
    ),
    Condition(
        "source-full", Severity.ERROR,
        "Its address has as many clients as one address may have.",
        "Stop JackTrips that you do not need.",
        "Many behind one router need a larger --max-per-source.",
        never,
    ),
    Condition(
        "not-admitted", Severity.ERROR,
        "It was sent away from the waiting room.",
        "Ask who runs the hub.",
        "Somebody refused it: tuttihub ctl refuse.",
        never,
    ),
    Condition(
        "locked", Severity.ERROR,
        "The hub is locked: no newcomers.",
        "Ask who runs the hub to unlock it.",
        "tuttihub ctl unlock.",
        never,
    ),
    Condition(
        "no-time", Severity.ERROR,
        "The hub is so busy that one more would cost those who play.",
        "Try again in a minute; if it happens again, tell who runs the hub.",
        "Fewer clients, or more machine: tuttihub status says what it has too little of. "
        "--admit-load sets how much it takes upon itself (docs/overload.md).",
        never,
    ),
    Condition(
        "no-bandwidth", Severity.ERROR,
        "The hub's line carries no more.",
        "Try again when somebody has left.",
        "--line-speed says what the line carries, if the network card's speed is not that; fewer "
        "channels, 16 bit and longer packets need less of it (docs/overload.md).",
        never,
    ),
)  # fmt: skip

_BY_SLUG = {condition.slug: condition for condition in REFUSED}
_SLUGS = {
    "full": "no-place", "no-port": "no-port", "no-socket": "no-port",
    # hub.auth.results.Login
    "required": "password-required", "not-required": "password-not-wanted",
    "wrong-credentials": "wrong-password", "wrong-time": "wrong-time", "limited": "logins-limited",
    "busy": "logins-busy", "broken": "login-broken",
    # the door
    "banned": "banned", "denied": "not-allowed", "not-allowed": "not-allowed",
    "too-often": "connects-too-often", "too-many": "source-full", "locked": "locked",
    "refused": "not-admitted",
    # hub.overload
    "ticks-full": "no-time", "ticks-late": "no-time", "cpu-full": "no-time",
    "cpu-throttled": "no-time", "line-full": "no-bandwidth",
}  # fmt: skip
REFUSALS = {reason: _BY_SLUG[slug] for reason, slug in _SLUGS.items()}
"""By the reason under which it is counted."""


class TurnedAway:
    """Who was turned away lately, and why; bounded, whoever knocks."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def note(self, reason: str, address: str, now_s: float) -> None:
        """Somebody was turned away; a reason without a condition is not worth it.

        Args:
            reason: key of REFUSALS.
            now_s: CLOCK_MONOTONIC.
        """
        condition = REFUSALS.get(reason)
        if condition is None:
            return
        key = (address, condition.slug)
        times, _ = self._last.pop(key, (0, 0.0))
        self._last[key] = (times + 1, now_s)
        while len(self._last) > KEPT:
            self._last.popitem(last=False)

    def listed(self, now_s: float) -> list[dict[str, Any]]:
        """The latest last, made of JSON's types."""
        return [
            {
                "address": address,
                "times": times,
                "ago_s": round(max(0.0, now_s - then_s), 1),
                "conditions": [describe(_BY_SLUG[slug], "", 0.0)],
            }
            for (address, slug), (times, then_s) in list(self._last.items())
        ]
