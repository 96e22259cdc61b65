"""From what was met and measured to the parts of a report; only computes.

Which fault a door, a reply or a silence is stands here in tables; ``words`` has what is said of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hub.doctor.knock import Answered, Door, Reached, Reply
from hub.doctor.mapping import Mapping
from hub.doctor.names import NameFault, Names, is_private
from hub.doctor.report import (
    AddressReport,
    HelloReport,
    HubFormat,
    PathReport,
    RouterReport,
    TripReport,
    UdpReport,
)
from hub.doctor.sizes import HEADERS_IPV4, HEADERS_IPV6, Sizes
from hub.doctor.swallowed import Evidence

DOORS = {
    Door.REFUSED: "tcp-refused",
    Door.NO_ANSWER: "tcp-no-answer",
    Door.PROHIBITED: "tcp-prohibited",
    Door.ABSENT: "host-unreachable",
    Door.UNREACHABLE: "tcp-unreachable",
}
"""Faults of an address whose TCP port does not open."""
REPLIES = {
    Reply.AUTH_REQUIRED: "password-wanted",
    Reply.AUTH_NOT_REQUIRED: "password-not-wanted",
    Reply.AUTH_UNKNOWN: "password-unknown",
    Reply.WRONG_CREDENTIALS: "password-wrong",
    Reply.WRONG_TIME: "wrong-time",
    Reply.TLS_FAILED: "login-broken",
    Reply.NOT_A_HUB: "not-a-hub",
    Reply.CLOSED: "turned-away",
    Reply.RESET: "turned-away-unheard",
    Reply.SILENT: "hub-silent",
    # it opened a moment ago
    Reply.REFUSED: "turned-away-unheard",
    Reply.NO_ANSWER: "turned-away-unheard",
}
"""Faults of a hub that does not let us in."""
ENDS = {Reply.REFUSED: "hub-gone", Reply.SILENT: "hub-gone", Reply.NO_ANSWER: "line-dead"}
"""What has happened to a hub that was heard, by what it makes of a further hello."""


def name_fault(names: Names) -> str:
    """Of a name without an address."""
    return "name-unknown" if names.fault is NameFault.UNKNOWN else "name-server-silent"


def address_report(reached: Reached) -> AddressReport:
    """What came of an address of the hub's."""
    opened = reached.door is Door.OPEN
    return AddressReport(
        reached.address.text, reached.address.is_ipv6, reached.door.value,
        round(reached.took_s, 6) if opened else None, reached.said,
    )  # fmt: skip


def hello_report(answered: Answered) -> HelloReport:
    """What the hub made of our hello."""
    return HelloReport(
        str(answered.reply), answered.udp_port or None, round(answered.took_s, 6),
        answered.said, answered.local,
    )  # fmt: skip


def udp_report(
    local_port: int, evidence: Evidence, first_s: float | None, stopped_s: float | None
) -> UdpReport:
    """Which ways are open.

    Args:
        evidence: of where it stays, if nothing is heard.
        first_s: when the first sound came; None: never.
        stopped_s: when the last did, if that was before the end.
    """
    heard = first_s is not None
    return UdpReport(
        local_port=local_port,
        first_sound_s=None if first_s is None else round(first_s, 6),
        stopped_after_s=None if stopped_s is None else round(stopped_s, 3),
        outgoing=True if heard else evidence.arrives,
        incoming=True if heard else _incoming(evidence),
        hops=list(evidence.hops),
        distance=evidence.distance,
    )


def _incoming(evidence: Evidence) -> bool | None:
    """Where nobody listens nothing is sent back."""
    return False if evidence.arrives and not evidence.closed_by else None


def evidence_words(evidence: Evidence) -> str:
    """What speaks for where UDP stays."""
    words = []
    if evidence.closed_by or evidence.prohibited_by:
        words.append(f"says {evidence.prohibited_by or evidence.closed_by}")
    if evidence.after_good_bye:
        words.append("its machine complains about what comes after a good-bye")
    if evidence.same_port is not None:
        gave = "gave your port to the next" if evidence.same_port else "kept your port for you"
        words.append(f"after 10 s the hub {gave}")
    if evidence.distance is not None and evidence.distance > 1:
        far = f"hop {len(evidence.hops)} of {evidence.distance}"
        last = f" ({evidence.hops[-1]})" if evidence.hops else ""
        words.append(f"UDP was seen to get as far as {far}{last}")
    return "; ".join(words)


def hub_format(hub: HubFormat, mirrors: bool | None, uses_redundancy: bool | None) -> HubFormat:
    """What the hub plays, with what further sessions have told of it."""
    return HubFormat(hub.rate_hz, hub.frames, hub.bits, hub.channels, mirrors, uses_redundancy)


def trip_report(network_s: float, trips_ns: npt.ArrayLike) -> TripReport:
    """How long the way is.

    Args:
        network_s: TCP's round trip.
        trips_ns: of our own sound; none, if it did not come back.
    """
    return TripReport(
        network_s=round(network_s, 6),
        sound_s=_quantile_s(trips_ns, 0.5),
        sound_least_s=_quantile_s(trips_ns, 0.0),
        sound_most_s=_quantile_s(trips_ns, 1.0),
    )


def _quantile_s(trips_ns: npt.ArrayLike, share: float) -> float | None:
    values = np.asarray(trips_ns, np.float64)
    return round(float(np.quantile(values, share)) / 1e9, 6) if len(values) else None


def router_report(hello: HelloReport | None, mapping: Mapping) -> RouterReport:
    """Whether a router lends us its address, and gives each connection another port."""
    local = hello.local_address if hello else ""
    return RouterReport(bool(local) and is_private(local), mapping.remaps)


def path_report(sizes: Sizes, ipv6: bool) -> PathReport:
    """How long packets may be."""
    headers = HEADERS_IPV6 if ipv6 else HEADERS_IPV4
    longest = None if sizes.mtu is None else sizes.mtu - headers
    return PathReport(sizes.mtu, sizes.told, sizes.fragments, longest)
