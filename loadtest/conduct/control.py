"""What a tuttihub says of itself, asked over its control socket; other hubs say nothing.

One JSON request, one JSON reply, over ZeroMQ at an ipc endpoint named by the TCP port::

    {"v": 1, "id": 1, "op": "status"}  ->  {"v": 1, "id": 1, "ok": true, "result": {...}}
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import zmq

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
    """The endpoint of the hub on this TCP port of our machine, if a socket lies there."""
    places = (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}", "/tmp")
    for place in filter(None, places):
        path = Path(place) / f"tuttihub-{tcp_port}"
        if path.is_socket() and _is_listened_to(path):
            return f"ipc://{path}"
    return None


def _is_listened_to(path: Path) -> bool:
    """Whether a socket is more than what a killed hub has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def ask_status(endpoint: str | None, timeout_ms: int = TIMEOUT_MS) -> Status | None:
    """The hub's state, or None when nobody answers."""
    if endpoint is None:
        return None
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)
        dealer.send(json.dumps({"v": 1, "id": 1, "op": "status"}).encode())
        if not dealer.poll(timeout_ms):
            return None
        try:
            reply = json.loads(dealer.recv())
        except ValueError:  # whoever this is, it is no tuttihub
            return None
    status = reply.get("result") if isinstance(reply, dict) else None
    return status if isinstance(status, dict) and "hub" in status else None


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
    former = {(client["slot"], client["session"]): client for client in before["clients"]}
    by_client: dict[str, dict[str, int]] = {}
    for client in after["clients"]:
        then = former.get((client["slot"], client["session"]), {}).get("received", {})
        own = by_client.setdefault(client["name"], dict.fromkeys(_RECEIVED, 0))
        for name in _RECEIVED:
            # A receiver that was killed has a successor that counts from 0.
            value, base = client["received"].get(name, 0), then.get(name, 0)
            grown = value - base if value >= base else value
            own[name] += grown
            counts[name] += grown
    return HubCounters(counts, second["lateness_us"], second["load_ratio"], by_client)
