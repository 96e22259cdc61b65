"""What only the supervisor knows of a hub and its clients: names, ports, processes."""

from __future__ import annotations

import signal
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from hub.addresses import IPAddress
from hub.conditions.condition import Raised
from hub.conditions.refusals import TurnedAway
from hub.overload.info import CALM, OverloadInfo
from shared.layout import (
    EndReason,
)

DEPARTURES = 16
"""That are remembered."""
WORKERS = ("mixer", "lane", "receiver", "zygote", "bridge")
RESTART_REASONS = ("exited", "killed", "crashed", "stuck")
"""By itself; by SIGKILL, as for want of memory; by another signal; by the hub, for not going on."""


def restart_reason(status: int) -> str:
    """Why a worker ended: status is its exit code, or minus the signal."""
    if status >= 0:
        return "exited"
    return "killed" if -status == signal.SIGKILL else "crashed"


@dataclass(slots=True)
class ClientInfo:
    """What the supervisor knows of one client.

    Attributes:
        slot: its strip in the arena.
        session: number of its stay.
        name: shown name.
        address: its IP address.
        port: the hub's UDP port that serves it.
        joined_s: CLOCK_MONOTONIC of its hello, in seconds.
        account: user name it has proved with a password, or nothing.
        receiver_pid: its receiver process, None while there is none.
        receiver_restarts: receivers that had to be replaced.
        gain: strip gain, linear, mute left out.
        muted: whether nobody hears it.
        pan: its place, −100..100, or None.
        conditions: what is wrong with it, the worst first.
        reconnects: times that this musician has come back.
        round_trip_s: of its handshake, or None.
    """

    slot: int
    session: int
    name: str
    address: str
    port: int
    joined_s: float
    account: str = ""
    receiver_pid: int | None = None
    receiver_restarts: int = 0
    gain: float = 1.0
    muted: bool = False
    pan: float | None = None
    conditions: tuple[Raised, ...] = ()
    reconnects: int = 0
    round_trip_s: float | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """A client that was let go for a reason that was nobody's wish.

    Attributes:
        left_s: CLOCK_MONOTONIC.
        conditions: as ``Raised.described``, the reason first.
    """

    slot: int
    name: str
    address: str
    left_s: float
    reason: EndReason
    conditions: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class DoorInfo:
    """Who may come in, as far as it is no matter of the single client.

    Attributes:
        locked: no newcomers.
        waiting_room: newcomers wait to be admitted.
        bans: that stand, give or take some whose time is over.
        allow, deny: networks; nobody else may come, or they may not.
    """

    locked: bool = False
    waiting_room: bool = False
    bans: int = 0
    allow: list[str] = field(default_factory=list)
    deny: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HubInfo:
    """What the supervisor knows of itself and its processes.

    Attributes:
        started_s: CLOCK_REALTIME of the start, in seconds since 1970.
        metrics, control: where they are served, or None.
        queue: of newcomers, as ``-q`` writes it.
        mixer_pid, zygote_pid, bridge_pid: None while there is none.
        lane_pids: of the separate lanes, lane 1 first.
        refused: real-time settings the machine refused: {"what", "error", "advice"}.
        sessions_started: hellos that were answered with a port.
        sessions_ended: by reason.
        hellos_refused: by reason.
        logins: conversations about credentials, by outcome.
        accounts: users that may join, None where everybody may.
        certificate_expiry_s: end of the certificate's time, seconds since 1970.
        conditions: what is wrong with the hub as a whole.
        conditions_raised: how often each was, of clients and the hub, by its slug.
        turned_away: the last few that were given no port.
        departures: the last few clients that were not served well enough to stay.
        door: who may come in.
        ready: whether clients are let in.
        turned_s: when the supervisor last looked around, CLOCK_MONOTONIC.
        settings: what the hub was told, by option; networks and files left out.
        restarts: workers that had to be replaced, by kind and reason.
        reconnects: musicians that were recognised when they came back.
        load_ratio: of ``hub.load``.
        overload: how busy it is, and whether newcomers are let in for that.
        clients_dropped: let go since the hub had too much to do.
        welcomed: hellos that were answered with a port, so far as the doorkeeper has told.
        single_port: UDP port of all clients, or None where each has its own.
        lobby: datagrams that came to it and to no client's socket, by what became of them.
        lobby_pauses: times that the lobby was left unread for a moment.
        own_ports: clients that were given another port, since one of their address was awaited.
    """

    version: str
    pid: int
    tcp_port: int
    udp_base: int
    max_clients: int
    started_s: float
    metrics: str | None = None
    control: str | None = None
    queue: str = "4"
    mixer_pid: int | None = None
    mixer_restarts: int = 0
    lane_pids: list[int | None] = field(default_factory=list)
    lane_restarts: int = 0
    zygote_pid: int | None = None
    bridge_pid: int | None = None
    zygote_restarts: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    sessions_started: int = 0
    sessions_ended: dict[EndReason, int] = field(default_factory=dict)
    hellos_refused: dict[str, int] = field(default_factory=dict)
    logins: dict[str, int] = field(default_factory=dict)
    accounts: int | None = None
    certificate_expiry_s: float | None = None
    conditions: tuple[Raised, ...] = ()
    conditions_raised: dict[str, int] = field(default_factory=dict)
    turned_away: TurnedAway = field(default_factory=TurnedAway)
    departures: deque[Departure] = field(default_factory=lambda: deque(maxlen=DEPARTURES))
    door: DoorInfo = field(default_factory=DoorInfo)
    ready: bool = False
    turned_s: float | None = None
    settings: dict[str, str] = field(default_factory=dict)
    restarts: Counter[tuple[str, str]] = field(default_factory=Counter)
    reconnects: int = 0
    load_ratio: float = 0.0
    overload: OverloadInfo = CALM
    clients_dropped: int = 0
    welcomed: int = 0
    single_port: int | None = None
    lobby: dict[str, int] = field(default_factory=dict)
    lobby_pauses: int = 0
    own_ports: int = 0

    def count_restart(self, worker: str, reason: str) -> None:
        """A worker had to be replaced."""
        self.restarts[worker, reason] += 1

    def count_refusal(self, reason: str, address: IPAddress, now: float) -> None:
        """Somebody was given no place; now is CLOCK_MONOTONIC."""
        self.hellos_refused[reason] = self.hellos_refused.get(reason, 0) + 1
        self.turned_away.note(reason, str(address), now)


@dataclass(slots=True)
class Directory:
    """The supervisor's knowledge; it alone writes, any thread may read."""

    hub: HubInfo
    clients: dict[int, ClientInfo] = field(default_factory=dict)
    """By slot."""

    def listed(self) -> list[ClientInfo]:
        """All clients by slot; list() of a dict cannot be torn by another thread's change."""
        return sorted(list(self.clients.values()), key=lambda client: client.slot)
