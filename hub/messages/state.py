"""What ``status`` and ``clients`` tell: the state of a hub and of everybody in it.

``hub.snapshot`` makes it. Decibels are null for silence and for what is not known.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Part(Struct, frozen=True):
    """A part of the state; more may be told by later hubs."""


class ConditionState(Part, frozen=True):
    """What is wrong with somebody.

    Attributes:
        condition: its name (docs/troubles.md).
        for_s: since when, seconds.
    """

    condition: str
    severity: Literal["error", "warning", "info"]
    for_s: float
    detail: str


class Words(Part, frozen=True):
    """What a condition means, and advice; CLIENT stands for the slot."""

    says: str
    musician: str
    ops: str


class Foreign(Part, frozen=True):
    """Datagrams that came to a client's port from elsewhere, and from where the last."""

    datagrams: int
    address: str
    port: int


class FormatState(Part, frozen=True):
    """What a client sends and wants.

    Attributes:
        rate_hz: null as long as it is not known.
        frames: a packet.
        channels: that it sends; wants: that it is sent.
        redundancy: packets a datagram.
    """

    rate_hz: int | None
    frames: int
    bits: int
    channels: int
    wants: int
    redundancy: int


class QueueState(Part, frozen=True):
    """How much of a client's sound waits.

    Attributes:
        order: what was asked for: 4, auto, auto5.
        packets: the number; null: automatic.
        target_frames, target_s: the wanted distance from the end of its newest packet to what is
            mixed next; frames, actual_s: what it is now.
        margin_s: how late a packet may be and still be in time.
        lateness_s: how late its packets are, but for the rarest.
    """

    order: str
    packets: int | None
    target_frames: float
    frames: int
    target_s: float
    actual_s: float
    margin_s: float
    lateness_s: float


class ClockState(Part, frozen=True):
    """A client's clock beside the hub's.

    Attributes:
        drift_ppm: how much faster it is, error_ppm: the standard error of that; null until known.
        resampling: whether its sound is being resampled.
    """

    drift_ppm: float | None
    error_ppm: float | None
    resampling: bool


class Level(Part, frozen=True):
    """Of what comes from a client, or is sent to it, the last tenth of a second."""

    peak_db: float | None
    rms_db: float | None


class Safety(Part, frozen=True):
    """What the hub does to protect the others.

    Attributes:
        garbage: it sends what JackTrip's broken 32-bit sender makes, and is muted.
        offset_channels: channels that a constant offset is taken out of.
        guard: what the guard noticed: quiet, noise or tone.
        cut_db: what the guard does about it; null: muted.
    """

    garbage: bool
    offset_channels: int
    guard: str | None
    cut_db: float | None


class Override(Part, frozen=True):
    """A source that a listener hears at a level or place of its own; patch: as the mode says."""

    source: int
    gain_db: float | Literal["patch"] | None
    pan: float | None


class Spread(Part, frozen=True):
    """Mean and percentiles of a histogram, µs; null when it is empty."""

    mean: float | None
    p50: float | None
    p99: float | None
    p999: float | None


class Lateness(Spread, frozen=True):
    """How late the hub's ticks are, µs."""

    max: float


class ClientState(Part, frozen=True):
    """A client.

    Attributes:
        session: number of its stay.
        name: as it is shown; account: that it has proved with a password.
        port: the hub's UDP port that serves it; peer_port: its own.
        foreign: null if nothing came from elsewhere.
        pan: its place, -100..100, or null.
        held: whether it waits to be admitted.
        limiter, underrun: its own; null: as everybody's.
        conditions: the worst first.
        received, sent: all its counters, by the names of the arena.
    """

    slot: int
    session: int
    name: str
    account: str | None
    address: str
    port: int
    peer_port: int | None
    state: str
    conditions: list[ConditionState]
    foreign: Foreign | None
    connected_s: float
    format: FormatState | None
    queue: QueueState | None
    clock: ClockState | None
    input: Level
    output: Level
    safety: Safety
    gain_db: float | None
    muted: bool
    held: bool
    pan: float | None
    limiter: bool | None
    underrun: Literal["zero", "wavetable", "burg"] | None
    overrides: list[Override]
    last_packet_age_s: float | None
    receiver_pid: int | None
    receiver_restarts: int
    received: dict[str, int]
    jitter_us: Spread | None
    sent: dict[str, int]


class Sessions(Part, frozen=True):
    """Stays since the hub's start: begun, and ended by reason."""

    started: int
    ended: dict[str, int]


class Auth(Part, frozen=True):
    """Credentials: users that may join, end of the certificate (Unix time), logins by outcome."""

    required: bool
    accounts: int | None
    certificate_expiry_s: float | None
    logins: dict[str, int]


class TurnedAway(Part, frozen=True):
    """A source that was given no port."""

    address: str
    times: int
    ago_s: float
    conditions: list[ConditionState]


class Gone(Part, frozen=True):
    """A client that the hub let go for a trouble, with the conditions that explain it."""

    slot: int
    name: str
    address: str
    ago_s: float
    reason: str
    conditions: list[ConditionState]


class Door(Part, frozen=True):
    """Who may come in; held is how many wait."""

    locked: bool
    waiting_room: bool
    bans: int
    allow: list[str]
    deny: list[str]
    held: int


class Overload(Part, frozen=True):
    """How busy the hub is.

    Attributes:
        limit: share of a resource from which on newcomers are refused, or null.
        used: shares in use: of a tick's time (ticks), of it before it begins (lateness), of the
            cores (cpu), of bandwidth (line); 1: the kernel has kept audio from running (throttle).
        line_bps: bandwidth in each direction, or null.
        refuses: what newcomers are refused for now.
        shed_limit: share from which on something is left out, or null.
        sheds: what is left out now: meters, mixes, concealment; shed_times: how often each was.
        dropped: clients that were let go.
        realtime_limit: share of a core that the kernel lets real-time processes have, or null.
        realtime_used: of that, what the hub's used of the busiest core in the last second.
        realtime_paused: seconds in which the kernel has paused them: no tick for 50 ms, mostly.
    """

    limit: float | None
    shed_limit: float | None
    used: dict[str, float]
    line_bps: float | None
    refuses: list[str]
    sheds: list[str]
    shed_times: dict[str, int]
    dropped: int
    realtime_limit: float | None = None
    realtime_used: float = 0.0
    realtime_paused: int = 0


class Mixer(Part, frozen=True):
    """The process that mixes; what is not explained is a counter of the arena."""

    pid: int | None
    restarts: int
    tick: int
    ticks: int
    missed: int
    overruns: int
    starved: int
    waited: int
    waited_ns: int
    sources: int
    load_ratio: float
    work_us: Spread
    lateness_us: Lateness


class Lane(Part, frozen=True):
    """What sends mixes: the mixer itself (0), or a process of its own."""

    lane: int
    pid: int | None
    ticks: int
    missed: int
    listeners: int
    load_ratio: float
    work_us: Spread
    paced: int
    send_delay_us: float


class Jack(Part, frozen=True):
    """The local JACK graph; what is not explained is a counter of the arena.

    Attributes:
        state: waiting: there is no server; misfit: its rate or its period is not the hub's;
            freewheel: it computes as fast as it can, and is no clock; hung: it stands still.
        clock: whose the hub follows.
        pid: of the bridge.
        server: its name.
        clients, ports: that the hub has in it.
        left_out: clients of the hub that JACK has no room for.
        behind: ticks that JACK's sound is used later, since its graph is slow.
        graph_ratio: of a period, what the graph needs, on average.
    """

    state: Literal["off", "waiting", "misfit", "running", "freewheel", "hung"]
    clock: Literal["jack", "own"]
    pid: int | None
    server: str | None
    rate_hz: int | None
    period_frames: int | None
    clients: int
    ports: int
    left_out: int
    behind: int
    graph_ratio: float
    slow_cycles: int
    cycles: int
    resyncs: int
    taken: int
    lost: int
    ticks: int
    xruns: int
    period_changes: int
    deaths: int
    garbled: int
    gaps: int


class Process(Part, frozen=True):
    """A process of the hub."""

    pid: int | None
    restarts: int


class HubState(Part, frozen=True):
    """The hub as a whole.

    Attributes:
        started_s: Unix time.
        single_port: UDP port of all clients, null where each has its own.
        udp_ports: the first and the last.
        master: gain of all that is sent, linear.
        conditions: of the hub itself, the worst first.
        turned_away, departures: the last few.
        jack: null without --jack.
        realtime_refused: settings that the machine refused.
    """

    version: str
    pid: int
    started_s: float
    uptime_s: float
    tcp_port: int
    single_port: int | None
    udp_ports: list[int]
    metrics: str | None
    control: str | None
    rate_hz: int
    period_frames: int
    patch: str
    master: float
    upmix: bool
    mono_centre: bool
    downmix_db: float | None
    limiter: bool
    guard: str
    queue: str
    underrun: str
    drift: str
    match_clients: bool
    pacing: bool
    max_clients: int
    clients: int
    clients_active: int
    sessions: Sessions
    hellos_refused: dict[str, int]
    auth: Auth
    conditions: list[ConditionState]
    turned_away: list[TurnedAway]
    departures: list[Gone]
    overload: Overload
    door: Door
    mixer: Mixer
    lanes: list[Lane]
    lane_restarts: int
    zygote: Process
    jack: Jack | None
    realtime_refused: list[dict[str, str]]


class Status(Part, frozen=True):
    """The whole state; ``conditions`` has the words of those that somebody has."""

    v: int
    hub: HubState
    clients: list[ClientState]
    conditions: dict[str, Words]
