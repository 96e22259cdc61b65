"""Whether a hub is ready: whether its ticks advance, which is what its clients hear."""

from __future__ import annotations

from hub.directory import HubInfo
from shared.arena import Arena

LATE_S = 1.0
"""A mixer that has not ticked for so long does not tick."""


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
    return None if late_s < LATE_S else f"the mixer has not ticked for {late_s:.1f} s"
