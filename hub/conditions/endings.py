"""Why a client was let go, where that is a trouble of its own and no wish of anybody's."""

from __future__ import annotations

from hub.conditions.condition import Condition, Severity, describe, never
from hub.conditions.unheard import UNHEARD
from hub.directory import ClientInfo, Departure
from shared.layout import EndReason

ENDED = (
    Condition(
        "wrong-rate", Severity.ERROR,
        "Its sample rate is none that the hub converts.",
        "Run JACK at a usual rate, 44100 or 48000 Hz, with a shorter period; then connect again.",
        "Converted are 8 to 192 kHz; no packet may last longer than 20,000 of the hub's frames.",
        never,
    ),
    Condition(
        "too-large", Severity.ERROR,
        "What it wants to receive does not fit into one UDP packet.",
        "Receive fewer channels (--receivechannels), or run JACK with a shorter period.",
        "Packet size × channels × bytes a sample must stay below 65,491.",
        never,
    ),
    Condition(
        "receiver-failed", Severity.ERROR,
        "The hub's process for this client died again and again.",
        "Connect again; if it happens again, tell who runs the hub.",
        "Look at the log: killed by the system for want of memory? If not, report it.",
        never,
    ),
    Condition(
        "let-go", Severity.ERROR,
        "The hub had too much to do, and let those go who had come last.",
        "Try again in some minutes; tell who runs the hub.",
        "Fewer clients or more machine; --shed-load sets when the hub does so (docs/overload.md).",
        never,
    ),
)  # fmt: skip

_BY_SLUG = {condition.slug: condition for condition in (*UNHEARD, *ENDED)}
_SLUGS = {
    EndReason.NO_UDP: "no-udp",
    EndReason.SILENCE: "stopped",
    EndReason.WRONG_RATE: "wrong-rate",
    EndReason.TOO_LARGE: "too-large",
    EndReason.FAILED: "receiver-failed",
    EndReason.OVERLOAD: "let-go",
}
ENDINGS = {reason: _BY_SLUG[slug] for reason, slug in _SLUGS.items()}
"""By reason; a reason that is not here is no trouble."""


def departure(client: ClientInfo, reason: EndReason, now_s: float) -> Departure | None:
    """What to remember of a client that was let go; None where that was somebody's wish.

    Args:
        now_s: CLOCK_MONOTONIC.
    """
    ending = ENDINGS.get(reason)
    if ending is None:
        return None
    raised = [one.described(now_s) for one in client.conditions]
    # why no packet came may be known better than by their not coming
    explained = reason in (EndReason.NO_UDP, EndReason.SILENCE) and any(
        one.condition.severity is Severity.ERROR for one in client.conditions
    )
    if not explained:
        raised.insert(0, describe(ending, "", 0.0))
    return Departure(client.slot, client.name, client.address, now_s, reason, tuple(raised))
