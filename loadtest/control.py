"""What a tuttihub says of itself, asked over its control socket; other hubs say nothing.

One JSON request, one JSON reply, over ZeroMQ at an ipc endpoint named by the TCP port::

    {"v": 1, "id": 1, "op": "status"}  ->  {"v": 1, "id": 1, "ok": true, "result": {...}}
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

TIMEOUT_MS = 3000
_TICKS = ("ticks", "missed", "overruns", "starved")
_RECEIVED = ("lost", "late", "underruns", "overflows", "restarts", "kernel_drops", "malformed")


@dataclass(frozen=True, slots=True)
class HubCounters:
    """A hub's own counters over a window.

    Attributes:
        counts: ticks mixed, missed and overrun; of all clients together: packets lost and
            late, underruns, ...
        lateness_us: quantiles of the ticks' lateness since the hub started.
        load_ratio: the mixer's share of a period since the hub started.
    """

    counts: dict[str, int]
    lateness_us: dict[str, float | None]
    load_ratio: float


def find_control(tcp_port: int) -> str | None:
    """The endpoint of the hub on this TCP port of our machine, if a socket lies there."""
    places = (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}", "/tmp")
    for place in filter(None, places):
        path = Path(place) / f"tuttihub-{tcp_port}"
        if path.is_socket():
            return f"ipc://{path}"
    return None


def ask_status(endpoint: str | None) -> dict[str, Any] | None:
    """The hub's state, or None when nobody answers."""
    if endpoint is None:
        return None
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)
        dealer.send(json.dumps({"v": 1, "id": 1, "op": "status"}).encode())
        if not dealer.poll(TIMEOUT_MS):
            return None
        reply = json.loads(dealer.recv())
    status = reply.get("result")
    return status if isinstance(status, dict) and "hub" in status else None


def hub_pid(status: dict[str, Any] | None) -> int | None:
    """The supervisor's process."""
    return None if status is None else int(status["hub"]["pid"])


def compare(before: dict[str, Any] | None, after: dict[str, Any] | None) -> HubCounters | None:
    """What a hub counted between two states."""
    if before is None or after is None:
        return None
    first, second = _counts(before), _counts(after)
    mixer = after["hub"]["mixer"]
    return HubCounters(
        {name: value - first.get(name, 0) for name, value in second.items()},
        mixer["lateness_us"],
        mixer["load_ratio"],
    )


def _counts(status: dict[str, Any]) -> dict[str, int]:
    mixer = status["hub"]["mixer"]
    received = [client["received"] for client in status["clients"]]
    return {name: mixer.get(name, 0) for name in _TICKS} | {
        name: sum(each.get(name, 0) for each in received) for name in _RECEIVED
    }
