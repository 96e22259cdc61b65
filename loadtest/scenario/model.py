"""The parts of a scenario. Plain values, checked when made; ``loader`` reads them from TOML.

    Scenario --- Hub            what the hub does (and how to start one)
             --- Section ...    clients alike: Format, Network up and down, joins and leaves
             --- Fault ...      what is broken on purpose, and when
             --- Service        what the run must show to pass

Times are seconds from the opening of the window, unless a name says otherwise; what happens
before it has a negative time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from shared.limits import PatchMode
from shared.protocol import HEADER_BYTES, MAX_DATAGRAM_BYTES

MAX_CLIENTS = 8000
"""Loopback addresses are numbered 250 a block, and one process has descriptors for so many."""
SECOND_NS = 1_000_000_000
EXPECTED_MODES = (PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE)


class ScenarioError(ValueError):
    """A setting is wrong; the text names it, its value and what is allowed."""


def _within(owner: object, **limits: tuple[float, float]) -> None:
    for name, (low, high) in limits.items():
        value = getattr(owner, name)
        if not low <= value <= high:
            raise ScenarioError(f"{name}: {value} is not in {low:g}..{high:g}")


def _none_or_within(owner: object, none: float, **limits: tuple[float, float]) -> None:
    """As ``_within``, but one value outside it means 'never' or 'not at all'."""
    for name, (low, high) in limits.items():
        value = getattr(owner, name)
        if not (value == none or low <= value <= high):
            raise ScenarioError(f"{name}: {value} is neither {none:g} nor in {low:g}..{high:g}")


class Hello(StrEnum):
    """How clients introduce themselves over TCP."""

    NAMED = "named"
    """68 bytes: UDP port and name (JackTrip 1.3 and later)."""
    NAMELESS = "nameless"
    """68 bytes, the name empty."""
    SHORT = "short"
    """4 bytes: the UDP port alone (JackTrip up to 1.2)."""


class Jitter(StrEnum):
    """How a packet's extra delay is distributed; ``jitter_ms`` is the scale."""

    NONE = "none"
    UNIFORM = "uniform"
    """0 to 2 × scale: the scale is the mean."""
    NORMAL = "normal"
    """|N(0, scale)|."""
    EXPONENTIAL = "exponential"
    """Mean: the scale."""
    PARETO = "pareto"
    """scale × ((1 − u)^(−1/shape) − 1): Wi-Fi's long tail; cut at 100 × scale."""


class Sources(StrEnum):
    """Where clients send from."""

    ADDRESSES = "addresses"
    """Each from its own address 127.1.x.y, all through one socket: thousands are cheap."""
    PORTS = "ports"
    """All from one address, each from its own port and socket: for hubs on other machines."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a client's packets look like.

    Attributes:
        frames: samples per channel in a packet.
        rate_hz: sample rate; a rate without a code of its own is sent as 'undefined'.
        bits: 8, 16, 24 or 32 (float).
        sends, wants: channels to and from the hub.
        redundancy: full packets in a datagram.
    """

    frames: int = 128
    rate_hz: int = 48000
    bits: int = 16
    sends: int = 2
    wants: int = 2
    redundancy: int = 1

    def __post_init__(self) -> None:
        _within(self, frames=(16, 1024), rate_hz=(8000, 192000), sends=(1, 16), wants=(1, 16),
                redundancy=(1, 8))  # fmt: skip
        if self.bits not in (8, 16, 24, 32):
            raise ScenarioError(f"bits: {self.bits} is not one of 8, 16, 24, 32")
        if self.redundancy * self.packet_bytes > MAX_DATAGRAM_BYTES:
            raise ScenarioError(f"redundancy: {self.redundancy} makes datagrams too long for UDP")

    @property
    def packet_bytes(self) -> int:
        """Of one full packet to the hub."""
        return HEADER_BYTES + self.frames * self.sends * self.bits // 8

    @property
    def return_bytes(self) -> int:
        """Of one full packet from the hub."""
        return HEADER_BYTES + self.frames * self.wants * self.bits // 8

    @property
    def period_ns(self) -> float:
        """Nanoseconds between two packets."""
        return self.frames * SECOND_NS / self.rate_hz


@dataclass(frozen=True, slots=True)
class Network:
    """What befalls a section's datagrams one way. All random choices are seeded.

    Attributes:
        loss: share of datagrams lost, each by itself.
        burst_begin, burst_end: Gilbert–Elliott: probability a datagram of going from the good
            state to the bad one, and back; burst_loss: share lost in the bad state.
        delay_ms: added to every datagram.
        jitter, jitter_ms, jitter_shape: distribution of further delay (see ``Jitter``).
        jitter_share: share of datagrams that get it.
        ordered: datagrams never overtake one another (a queue); else jitter reorders them.
        reorder: share held back by reorder_ms, so that others overtake it.
        duplicate: share that comes twice.
        stall_every_s, stall_ms: every so often nothing passes for so long, then all at once;
            0: never.
        stall_together: the section's clients stall at the same times (one access point), not
            each at its own (a home each).
        step_at_s, step_ms: from then on the path is longer by so much; 0 ms: never.
    """

    loss: float = 0.0
    burst_begin: float = 0.0
    burst_end: float = 0.25
    burst_loss: float = 1.0
    delay_ms: float = 0.0
    jitter: Jitter = Jitter.NONE
    jitter_ms: float = 0.0
    jitter_shape: float = 2.5
    jitter_share: float = 1.0
    ordered: bool = True
    reorder: float = 0.0
    reorder_ms: float = 4.0
    duplicate: float = 0.0
    stall_every_s: float = 0.0
    stall_ms: float = 0.0
    stall_together: bool = False
    step_at_s: float = 0.0
    step_ms: float = 0.0

    def __post_init__(self) -> None:
        _within(self, loss=(0, 1), burst_begin=(0, 1), burst_end=(0.001, 1), burst_loss=(0, 1),
                delay_ms=(0, 1000), jitter_ms=(0, 500), jitter_shape=(1.01, 100),
                jitter_share=(0, 1), reorder=(0, 1), reorder_ms=(0, 500), duplicate=(0, 1),
                stall_every_s=(0, 3600), stall_ms=(0, 1000), step_at_s=(0, 86400),
                step_ms=(0, 1000))  # fmt: skip
        if 0 < self.stall_every_s * 1000 <= self.stall_ms:
            allowed = f"less than stall_every_s ({self.stall_every_s:g} s), or nothing ever passes"
            raise ScenarioError(f"stall_ms: {self.stall_ms:g} is not {allowed}")

    @property
    def perfect(self) -> bool:
        """Nothing befalls a datagram."""
        return not self.lossy and not self.delays and self.duplicate == 0

    @property
    def lossy(self) -> bool:
        """Datagrams may be lost."""
        return self.loss > 0 or (self.burst_begin > 0 and self.burst_loss > 0)

    @property
    def longest_loss(self) -> int:
        """Datagrams that are taken in a row at most, but for one time in many."""
        if not self.lossy:
            return 0
        bursts = self.burst_begin > 0 and self.burst_loss > 0
        return 2 + (int(4 / self.burst_end) if bursts else 0)

    @property
    def delays(self) -> bool:
        """Datagrams may be late."""
        jitters = self.jitter != Jitter.NONE and self.jitter_ms > 0 and self.jitter_share > 0
        stalls = self.stall_every_s > 0 and self.stall_ms > 0
        return jitters or stalls or self.delay_ms + self.step_ms > 0 or self.reorder > 0


@dataclass(frozen=True, slots=True)
class Section:
    """Clients alike.

    Attributes:
        name: of the section.
        clients: how many.
        format: of their packets.
        up, down: their network to and from the hub (loss only, downwards).
        skew_ppm: how much faster than nominal their sound cards run.
        hello: how they introduce themselves.
        username, password: for a hub that asks; none: no authentication.
        join_at_s: when the first joins; −inf (the default): before the window, all at the
            scenario's join rate. join_over_s: the others follow spread over so long.
        leave_at_s, leave_over_s: when they leave likewise; inf: at the end.
        vanish: they leave without exit packets.
        home_s, away_s: members that churn: stay so long, leave, and come back after so
            long, again and again, each at another phase; 0: they stay.
        optional: the hub need not serve them (a rate it has not); what they lack is no fault.
        talks: they are given a voice; false: they only listen, for what the hub does to their
            sound is not exact (it is resampled).
    """

    name: str = "all"
    clients: int = 10
    format: Format = Format()
    up: Network = Network()
    down: Network = Network()
    skew_ppm: float = 0.0
    hello: Hello = Hello.NAMED
    username: str = ""
    password: str = field(default="", repr=False)
    join_at_s: float = float("-inf")
    join_over_s: float = 0.0
    leave_at_s: float = float("inf")
    leave_over_s: float = 0.0
    vanish: bool = False
    home_s: float = 0.0
    away_s: float = 0.0
    optional: bool = False
    talks: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise ScenarioError("name: '' is empty; faults and reports name sections by it")
        _within(self, clients=(1, MAX_CLIENTS), skew_ppm=(-5000, 5000), join_over_s=(0, 3600),
                leave_at_s=(0.01, float("inf")), leave_over_s=(0, 3600),
                away_s=(0, 3600))  # fmt: skip
        _none_or_within(self, float("-inf"), join_at_s=(0, 86400))
        _none_or_within(self, 0, home_s=(0.5, 3600))
        if self.away_s > 0 and self.home_s == 0:
            raise ScenarioError(f"away_s: {self.away_s} has no meaning without home_s")
        if self.leave_at_s <= self.join_at_s:
            raise ScenarioError(
                f"leave_at_s: {self.leave_at_s} is not after join_at_s {self.join_at_s}"
            )
        if self.down.delays or self.down.duplicate:
            raise ScenarioError("down: only loss can be emulated downwards; use netem for the rest")


class FaultKind(StrEnum):
    """What can be broken on purpose."""

    KILL_RECEIVER = "kill-receiver"
    """SIGKILL to the receiver process of a random client (of `section`, if given)."""
    KILL_MIXER = "kill-mixer"
    KILL_LANE = "kill-lane"
    SILENT_TCP = "silent-tcp"
    """`count` TCP connections that say nothing, or half a hello, and stay."""
    NO_UDP = "no-udp"
    """`count` clients that shake hands and never send a datagram."""
    GARBAGE = "garbage"
    """`count` clients that send random bytes, wrong lengths and hostile headers at `rate` a
    second each."""
    FLOOD = "flood"
    """`rate` datagrams a second to the UDP port of a client, from strangers."""
    DEAF = "deaf"
    """`count` clients that send but never read what returns."""
    CLOSED = "closed"
    """`count` clients that send from a port that is then closed: the hub gets ICMP errors."""
    HELLO_STORM = "hello-storm"
    """`rate` handshakes a second that lead to nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something broken on purpose.

    Attributes:
        kind: what.
        at_s: when; every_s: again and again, 0: once.
        seconds: how long it lasts, where it lasts.
        count, rate: how many, how often a second, where it applies.
        section: whom it hits, where it hits one; empty: anybody.
    """

    kind: FaultKind
    at_s: float = 1.0
    every_s: float = 0.0
    seconds: float = 1.0
    count: int = 1
    rate: float = 1000.0
    section: str = ""

    def __post_init__(self) -> None:
        _within(self, at_s=(0, 86400), seconds=(0, 3600), count=(1, 1000), rate=(1, 100_000))
        _none_or_within(self, 0, every_s=(0.1, 86400))


@dataclass(frozen=True, slots=True)
class Hub:
    """What the hub does, as the checker expects it; and its options, for a hub of our own.

    Attributes:
        mode: its ``-p``.
        upmix: its ``-u``.
        period: its ``-F``; rate_hz: its ``-T``.
        queue: its ``-q``.
        options: more of its options, as on the command line.
    """

    mode: PatchMode = PatchMode.FULL_MIX
    upmix: bool = False
    period: int = 128
    rate_hz: int = 48000
    queue: str = "4"
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in EXPECTED_MODES:
            allowed = ", ".join(str(int(mode)) for mode in EXPECTED_MODES)
            raise ScenarioError(f"mode: {int(self.mode)} cannot be checked; one of {allowed}")
        _within(self, period=(16, 1024), rate_hz=(8000, 192000))


@dataclass(frozen=True, slots=True)
class Service:
    """The least that a run must show. Shares are of what should have been.

    Attributes:
        return_loss: lost or missing return packets, beyond those the scenario itself loses. Of
            clients that stay, single packets show that the hub did not even number; of others,
            about two each time that they come do not.
        spacing_p99: deviation of the return packets' distance, in hub periods.
        wrong: checked packets with a wrong sample, where the scenario itself spoilt nothing.
        missed_ticks: of the hub's own count, where it can be asked; −1: not looked at.
        join_p99_ms: TCP connect to first audio back; 0: not looked at.
        gap_ms: longest interruption of anybody's return stream; 0: not looked at.
        latency_max_ms: longest in to out of any voice: what a drifting clock brings too much must
            not become delay; 0: not looked at.
        findings: named faults that no share above judges: packets twice, out of order, of another
            form or from elsewhere, somebody later than their like; where no sound may be wrong,
            also gains, exchanged channels, own voices and clipping. −1: not looked at.
        slips: times that the hub skipped sound of a queue or set a client's timeline anew, by its
            own count, where it can be asked; −1: not looked at.
    """

    return_loss: float = 1e-5
    spacing_p99: float = 0.5
    wrong: float = 0.0
    missed_ticks: int = 0
    join_p99_ms: float = 0.0
    gap_ms: float = 0.0
    latency_max_ms: float = 0.0
    slips: int = -1
    findings: int = 0

    def __post_init__(self) -> None:
        _within(self, return_loss=(0, 1), spacing_p99=(0, 1000), wrong=(0, 1),
                missed_ticks=(-1, 10**9), join_p99_ms=(0, 60_000), gap_ms=(0, 60_000),
                latency_max_ms=(0, 60_000),
                slips=(-1, 10**9), findings=(-1, 10**9))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole run.

    Attributes:
        name, title, about: for people.
        seconds: length of the window.
        settle_s: quiet time between the last early join and the window.
        join_rate: handshakes a second of those who join before it; 0: all at once.
        seed: of every random choice.
        burst: all packets of a period at once, instead of spread evenly over it.
        sources: one address a client, or one port.
        talk_frames, pause_frames: a solo and the silence after it; 0: chosen to fit.
        tutti_every: one turn in so many is everybody's; 0: never.
        tutti_frames: its length; 0: chosen to fit.
        step_us: the generator wakes at most this often; 0: chosen to fit the shortest packets.
    """

    name: str = "custom"
    title: str = ""
    about: str = ""
    seconds: float = 20.0
    settle_s: float = 1.0
    join_rate: float = 100.0
    seed: int = 1
    burst: bool = False
    sources: Sources = Sources.ADDRESSES
    talk_frames: int = 0
    pause_frames: int = 0
    tutti_every: int = 16
    tutti_frames: int = 0
    step_us: int = 0
    hub: Hub = Hub()
    sections: tuple[Section, ...] = (Section(),)
    faults: tuple[Fault, ...] = ()
    service: Service = Service()

    def __post_init__(self) -> None:
        _within(self, seconds=(0.1, 86400), settle_s=(0, 60), join_rate=(0, 100_000),
                seed=(0, 2**63 - 1), talk_frames=(0, 96000), pause_frames=(0, 96000),
                tutti_every=(0, 10_000), tutti_frames=(0, 96000), step_us=(0, 1000))  # fmt: skip
        names = [section.name for section in self.sections]
        if not names or len(set(names)) < len(names):
            raise ScenarioError(f"sections: names must be unique, at least one; got {names}")
        if self.clients > MAX_CLIENTS:
            raise ScenarioError(f"sections: {self.clients} clients; at most {MAX_CLIENTS}")
        for fault in self.faults:
            if fault.section and fault.section not in names:
                raise ScenarioError(f"fault {fault.kind}: no section {fault.section!r} in {names}")

    @property
    def clients(self) -> int:
        """Of all sections."""
        return sum(section.clients for section in self.sections)

    def members(self, name: str) -> range:
        """Client indices of a section; sections are numbered through in order."""
        first = 0
        for section in self.sections:
            if section.name == name:
                return range(first, first + section.clients)
            first += section.clients
        raise KeyError(name)

    def section_of(self, client: int) -> int:
        """Index of a client's section."""
        for index, section in enumerate(self.sections):
            client -= section.clients
            if client < 0:
                return index
        raise IndexError("no such client")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a report, without passwords; infinities as None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(each) for key, each in value.items() if key != "password"}
            if isinstance(value, (list, tuple)):
                return [plain(each) for each in value]
            if isinstance(value, StrEnum):
                return str(value)
            if isinstance(value, PatchMode):
                return int(value)
            if isinstance(value, float) and value in (float("inf"), float("-inf")):
                return None
            return value

        result: dict[str, Any] = plain(asdict(self))
        return result
