"""How busy a hub is, as the directory shows it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OverloadInfo:
    """How busy a hub is, and what it does about it.

    Attributes:
        limit: share of a resource from which on newcomers are refused, or None.
        shed_limit: and from which on something is left out, or None.
        used: shares in use, by ``hub.overload.resources.Resource``.
        line_bps: bandwidth in each direction, None where it is not known.
        refuses: what newcomers are refused for now.
        sheds: what is left out (``hub.overload.shedding.Step``); shed_times: how often each was.
        realtime_limit: share of a core that the kernel lets real-time processes have, or None.
        realtime_used: of that, what the hub's used of the busiest core in the last second.
        realtime_paused: seconds in which the kernel has paused them.
    """

    limit: float | None = None
    shed_limit: float | None = None
    used: dict[str, float] = field(default_factory=dict)
    line_bps: float | None = None
    refuses: tuple[str, ...] = ()
    sheds: tuple[str, ...] = ()
    shed_times: dict[str, int] = field(default_factory=dict)
    realtime_limit: float | None = None
    realtime_used: float = 0.0
    realtime_paused: int = 0


CALM = OverloadInfo()
"""Nobody has looked."""


def overload_text(info: OverloadInfo) -> str:
    """For people: 'ticks 12 %, cpu 81 %, line 40 % of 80 %: cpu-full'."""
    limit = 1.0 if info.limit is None else info.limit
    told = ", ".join(
        f"{name} {100 * share:.0f} %"
        for name, share in info.used.items()
        if name in ALWAYS_TOLD or share >= limit
    )
    if info.limit is not None:
        told += f" of {100 * info.limit:g} %"
    return told + (f": {', '.join(info.refuses)}" if info.refuses else "")


ALWAYS_TOLD = ("ticks", "cpu", "line")
"""The others are all or nothing."""
