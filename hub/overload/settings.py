"""What `tuttihub serve` can be told of load and bandwidth: a part of ``hub.config``."""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.setting import described
from hub.values import MbitOrOff, ShareOrOff

MAX_MBIT = 1_000_000
LOWEST_SHARE = 0.001


@dataclass(frozen=True, kw_only=True)
class OverloadSettings:
    """Settings of how much a hub takes upon itself.

    Attributes:
        admit_load: share of a resource from which on newcomers are refused, or None.
        line_mbit: Mbit/s in each direction, 'auto', or None.
    """

    admit_load: float | None = field(
        metadata=described(
            "admit-load",
            ShareOrOff(LOWEST_SHARE, 1.0),
            "0.8",
            "Refuse newcomers while the hub uses so much of what it has: of a tick's time, of its "
            "cores, or of --line-speed (docs/overload.md). Who plays is not touched by that.",
            unit="a share",
        )
    )
    shed_load: float | None = field(
        metadata=described(
            "shed-load",
            ShareOrOff(LOWEST_SHARE, 1.0),
            "0.95",
            "From so much of a tick's time, or of its cores, on the hub leaves out level meters, "
            "then mixes of listeners' own, then large models of concealment, and then lets the "
            "newest clients go, until it has time again (docs/overload.md).",
            unit="a share",
        )
    )
    line_mbit: int | str | None = field(
        metadata=described(
            "line-speed",
            MbitOrOff(MAX_MBIT),
            "auto",
            "What the hub's line carries in each direction. auto: the speed of the network card, "
            "where that is known; who plays from this machine does not count then.",
            unit="Mbit/s",
        )
    )
