"""What a tuttihub says of itself, asked over its control socket; other hubs say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from hub import client
from loadtest.conduct.outcome import HubCounters
from loadtest.scenario.model import Hub

TIMEOUT_MS = 3000
PATIENCE_MS = 10_000
"""For a hub that did not answer, since it was busy with what it is tested by."""
_TICKS = ("ticks", "missed", "overruns", "starved")
_RECEIVED = (
    "lost", "late", "underruns", "bridged", "concealed_frames", "overflows", "restarts", "engaged",
    "kernel_drops", "malformed",
)  # fmt: skip

_ON_OFF = {True: "on", False: "off"}

Status = dict[str, Any]


def find_control(tcp_port: int) -> str | None:
    """The endpoint of the hub on this TCP port of our machine, if one listens there."""
    endpoint = client.find_control(tcp_port)
    return endpoint if client.is_listened_to(endpoint) else None


def ask_status(endpoint: str | None, timeout_ms: int = TIMEOUT_MS) -> Status | None:
    """The hub's state, or None when nobody answers; not from within an event loop."""
    return asyncio.run(status_of(endpoint, timeout_ms))


async def status_of(endpoint: str | None, timeout_ms: int = TIMEOUT_MS) -> Status | None:
    """The same, for who has an event loop."""
    if endpoint is None:
        return None
    try:
        async with client.HubClient(endpoint, timeout_ms / 1000) as hub:
            status = await hub.request("status")
    except client.ControlError:  # whoever this is, it is no tuttihub
        return None
    return status if "hub" in status else None


def hub_pid(status: Status | None) -> int | None:
    """The supervisor's process."""
    return None if status is None else int(status["hub"]["pid"])


def mismatches(expected: Hub, status: Status) -> list[str]:
    """Where a hub does something else than a scenario takes it to do, in words, one each."""
    hub = status["hub"]
    for_people = {
        "mode": (hub.get("patch"), expected.mode.name.lower().replace("_", "-")),
        "period": (hub.get("period_frames"), expected.period),
        "rate": (hub.get("rate_hz"), expected.rate_hz),
        "upmix": (hub.get("upmix"), expected.upmix),
    }
    # Where the scenario does not care, nobody drifts.
    if (wanted := _given(expected.options, "--drift")) is not None:
        for_people["drift"] = (hub.get("drift"), wanted)
    if (wanted := _given(expected.options, "--match-clients")) is not None:
        for_people["match-clients"] = (_ON_OFF.get(hub.get("match_clients")), wanted)
    return [
        f"{name}: {found} at the hub, {wanted} in the scenario"
        for name, (found, wanted) in for_people.items()
        if found is not None and found != wanted
    ]


def _given(options: Sequence[str], name: str) -> str | None:
    """What a command line has behind an option, or behind its '='; the last holds."""
    value = None
    for one, following in zip_longest(options, options[1:]):
        if one == name:
            value = following
        elif one.startswith(f"{name}="):
            value = one.partition("=")[2]
    return value


def compare(before: Status | None, after: Status | None) -> HubCounters | None:
    """What a hub counted between two states.

    Of clients that came meanwhile all is counted, of those that went nothing: the hub no
    longer tells. Clients of one name are added up.
    """
    if before is None or after is None:
        return None
    first, second = before["hub"]["mixer"], after["hub"]["mixer"]
    counts = {name: second.get(name, 0) - first.get(name, 0) for name in _TICKS}
    counts |= dict.fromkeys(_RECEIVED, 0)
    former = {(one["slot"], one["session"]): one for one in before["clients"]}
    by_client: dict[str, dict[str, int]] = {}
    for one in after["clients"]:
        then = former.get((one["slot"], one["session"]), {}).get("received", {})
        own = by_client.setdefault(one["name"], dict.fromkeys(_RECEIVED, 0))
        for name in _RECEIVED:
            # A receiver that was killed has a successor that counts from 0.
            value, base = one["received"].get(name, 0), then.get(name, 0)
            grown = value - base if value >= base else value
            own[name] += grown
            counts[name] += grown
    return HubCounters(counts, second["lateness_us"], second["load_ratio"], by_client)
