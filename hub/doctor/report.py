"""What an examination brought, as data: what ``--json`` prints, and its schema describes.

Times are in seconds but where a name says otherwise; null: could not be told.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

VERSION = 1


class Finding(Struct, frozen=True):
    """One fault that was found; detail: the figures behind it."""

    fault: str
    severity: Literal["info", "warning", "error"]
    says: str
    do: str
    detail: str


class AddressReport(Struct, frozen=True):
    """One address of the hub's name, and what its TCP port did."""

    address: str
    ipv6: bool
    tcp: Literal["open", "refused", "no-answer", "prohibited", "absent", "unreachable"]
    round_trip_s: float | None
    said: str


class HelloReport(Struct, frozen=True):
    """What came of the hello: ``port``, or why not; the hub's UDP port for us."""

    reply: str
    udp_port: int | None
    took_s: float
    said: str
    local_address: str


class UdpReport(Struct, frozen=True):
    """Whether sound comes back.

    local_port: that we play from. first_sound_s: from our first packet to the hub's first.
    stopped_after_s: when the hub's packets, or our own sound in them, ended; null: they did not.
    outgoing, incoming: whether that way was seen to work, or (false) not to.
    hops: routers that answered to packets with few hops to live, until one was silent.
    distance: hops to the hub by TCP.
    """

    local_port: int
    first_sound_s: float | None
    stopped_after_s: float | None
    outgoing: bool | None
    incoming: bool | None
    hops: list[str]
    distance: int | None


class HubFormat(Struct, frozen=True):
    """What the hub's own packets look like.

    mirrors: it answers in our packet size, whichever that is. uses_redundancy: it answers copies
    with copies.
    """

    rate_hz: int | None
    frames: int
    bits: int
    channels: int
    mirrors: bool | None
    uses_redundancy: bool | None


class PathReport(Struct, frozen=True):
    """What the path carries.

    mtu: longest IP packet that passes whole, as far as was seen. told: a router, or this
    machine, said so; false: it was found out. fragments: whether what is longer gets through.
    """

    mtu: int | None
    told: bool
    fragments: bool | None
    longest_payload: int | None


class RouterReport(Struct, frozen=True):
    """Whether a router is on the way that lends its address, and changes ports."""

    private_address: bool
    remaps: bool | None


class QuantilesReport(Struct, frozen=True):
    """How late: half, all but 1 in 100, all but 1 in 2000, and the worst."""

    typical_s: float
    rare_s: float
    needed_s: float
    worst_s: float


class InterruptionReport(Struct, frozen=True):
    """When nothing came for more than 0.1 s."""

    at_s: float
    for_s: float


class BackReport(Struct, frozen=True):
    """Packets on their way from the hub to us.

    runs: how many were lost together, and how often.
    """

    received: int
    lost: int
    lost_share: float
    runs: dict[int, int]
    reordered: int
    duplicates: int
    interruptions: list[InterruptionReport]
    late: QuantilesReport
    clock_ppm: float | None
    clock_error_ppm: float | None


class ThereReport(Struct, frozen=True):
    """Packets on their way to the hub.

    sent_late: how late this computer sent them. unsent: that it did not let go.
    lost_share: of our own sound, that the hub did not play; null: it does not return it.
    others_db: how loud others are; null: nobody is heard.
    """

    sent: int
    unsent: int
    sent_late: QuantilesReport
    lost_share: float | None
    others_db: float | None


class TripReport(Struct, frozen=True):
    """Round trips: of the network, by TCP; of sound, from our packet to that which returns it."""

    network_s: float | None
    sound_s: float | None
    sound_least_s: float | None
    sound_most_s: float | None


class Advice(Struct, frozen=True):
    """What to start JackTrip with, and why: one reason a setting."""

    queue: int
    queue_why: str
    redundancy: int
    redundancy_why: str
    frames: int
    frames_why: str
    rate_hz: int
    bits: int
    datagram_bytes: int
    whole: bool
    command: str
    delay_s: float


class Report(Struct, frozen=True):
    """An examination."""

    v: int
    tuttihub: str
    host: str
    port: int
    at_s: float
    seconds: float
    verdict: Literal["fit", "playable", "unfit"]
    exit_code: int
    findings: list[Finding]
    addresses: list[AddressReport]
    hello: HelloReport | None = None
    udp: UdpReport | None = None
    hub: HubFormat | None = None
    path: PathReport | None = None
    router: RouterReport | None = None
    trip: TripReport | None = None
    there: ThereReport | None = None
    back: BackReport | None = None
    advice: Advice | None = None
