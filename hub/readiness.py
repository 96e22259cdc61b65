"""Whether a hub is ready: its ticks advance, which its clients hear, and it lets more in."""

from __future__ import annotations

from hub.directory import HubInfo
from shared.arena import Arena

LATE_S = 1.0
"""A mixer that has not ticked for so long does not tick."""
HUNG_S = 3.0
"""A supervisor that has not looked around for so long lets nobody in."""


def why_not_ready(arena: Arena, hub: HubInfo, now_ns: int) -> str | None:
    """The reason why clients should not be sent here, None: they may come.

    Args:
        now_ns: CLOCK_MONOTONIC.
    """
    if arena.control[0]["stop"]:
        return "the hub is stopping"
    clock, header = arena.clock[0], arena.header[0]
    if not clock["ticks"] or not hub.ready:
        return "the hub is starting"
    played_ns = int(clock["tick"]) * int(header["period_frames"]) * 10**9 // int(header["rate_hz"])
    late_s = (now_ns - int(header["t0_ns"]) - played_ns) / 1e9
    if late_s >= LATE_S:
        return f"the mixer has not ticked for {late_s:.1f} s"
    hung_s = 0.0 if hub.turned_s is None else now_ns / 1e9 - hub.turned_s
    return f"the supervisor hangs since {hung_s:.1f} s" if hung_s >= HUNG_S else None
