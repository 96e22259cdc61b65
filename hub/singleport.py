"""``--single-port``: clients' sockets on the shared port, and what the lobby makes of them.

A newcomer's socket is made with its session and given to its receiver and lane, but bound to
nothing; when its first datagram has come to the lobby (``hub.matching``), it is bound to the shared
port and connected, and everything behind it never learns how.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from hub.addresses import IPAddress, Peer, address_bytes, sockaddr_to
from hub.directory import HubInfo
from hub.flood import Limiter
from hub.lobby import Lobby, join_port, park
from hub.log import log_limited
from hub.matching import (
    LOBBY,
    MALFORMED,
    SECOND_NS,
    SILENT_NS,
    UNJUDGED,
    Finding,
    Fit,
    Matching,
    Stream,
    goes_on,
    is_on_time,
)
from hub.ports import udp_socket
from hub.sessions import Session
from shared.arena import Arena, Records
from shared.layout import RxState
from shared.protocol import EXIT_BYTES, AudioHeader, PeerError, parse_header

log = structlog.get_logger()

MOVES_LOGGED_PER_S = 5.0
DEAR_PER_S = 1000.0
"""So many datagrams are compared with what clients send: each takes some 50 µs."""


@dataclass(slots=True)
class _Place:
    """A session's socket, and the ends it is to have."""

    sock: socket.socket
    slot: int
    local: IPAddress
    address: IPAddress


class SinglePort:
    """The shared port of a hub.

    Args:
        hub: where it is counted.
    """

    def __init__(self, port: int, arena: Arena, hub: HubInfo) -> None:
        self.port = port
        self.lobby = Lobby(port, self._take)
        self._arena = arena
        self._hub = hub
        self._places: dict[int, _Place] = {}
        self._matching = Matching(self._fitting)
        self._dear = Limiter()
        hub.lobby = dict.fromkeys(LOBBY, 0)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def offer(self, peer: Peer) -> socket.socket | None:
        """A socket for a newcomer; None: another of its address has yet to be heard.

        Raises:
            OSError: there is none.
        """
        if self._matching.is_expecting(address_bytes(peer.address), time.monotonic_ns()):
            return None
        return udp_socket(peer.local)

    def expect(self, session: Session, sock: socket.socket, local: IPAddress) -> None:
        """Wait for a newcomer's first datagram."""
        number, address = session.number, session.address
        self._places[number] = _Place(sock, session.slot, local, address)
        now_ns, raw = time.monotonic_ns(), address_bytes(address)
        self._matching.expect(number, raw, session.udp_port, now_ns)
        self._park_elders(number, now_ns)  # at once: its first packet follows its hello

    def forget(self, number: int, *, goodbye: bool) -> None:
        """A session is over, and its socket is about to be closed by all who have it."""
        place = self._places.pop(number)
        self._matching.forget(number, self._stream(place.slot, number), goodbye=goodbye)
        self._note(place, 0)
        if place.sock.getsockname()[1]:
            park(place.sock)  # others may close it a little later

    def rename(self, number: int, session: Session) -> None:
        """A socket goes on in another session."""
        place = self._places.pop(number)
        connected = bool(self._arena.slots[place.slot]["connected"] == number)
        self._note(place, 0)
        place.slot = session.slot
        self._note(place, session.number if connected else 0)
        self._places[session.number] = place
        self._matching.rename(number, session.number)

    def look(self, waiting: Collection[Session]) -> None:
        """Let go of ports whose clients are silent, where a newcomer may be their second life."""
        now_ns = time.monotonic_ns()
        self._hub.lobby_pauses = self.lobby.pauses
        for session in waiting:
            self._park_elders(session.number, now_ns)
        for number, port in self._matching.stranded():
            self._connect(number, port)

    def _park_elders(self, newcomer: int, now_ns: int) -> None:
        for number in self._matching.elders(newcomer):
            place = self._places[number]
            rx = self._arena.rx[place.slot]
            playing = rx["session"] == number and rx["state"] == RxState.ACTIVE
            if playing and now_ns - max(int(rx["own_ns"]), int(rx["joined_ns"])) >= SILENT_NS:
                self._matching.park(number)
                self._note(place, 0)
                park(place.sock)

    def _take(self, address: bytes, port: int, head: bytes, length: int) -> None:
        """A datagram came to the lobby."""
        try:
            if length == EXIT_BYTES:
                raise PeerError("no audio")
            header = parse_header(head[:length])
            if length % header.packet_bytes or not length:
                raise PeerError("no audio")
            if not port:  # connected to it, a socket would hear every port
                raise PeerError("nobody can be answered there")
        except PeerError:
            self._hub.lobby[MALFORMED] += 1
            return
        if self._matching.is_dear(address, port) and not self._may_judge():
            self._hub.lobby[UNJUDGED] += 1
            return
        finding, number = self._matching.judge(address, port, header, time.monotonic_ns())
        self._hub.lobby[finding.value] += 1
        if finding in (Finding.MATCH, Finding.FOLLOW, Finding.BACK):
            self._connect(number, port)
            if finding is Finding.FOLLOW:
                log_limited(
                    log.info,
                    "client has another port",
                    per_s=MOVES_LOGGED_PER_S,
                    slot=self._places[number].slot,
                    peer_port=port,
                )

    def _may_judge(self) -> bool:
        return self._dear.limited("dear", DEAR_PER_S) is not None

    def _connect(self, number: int, port: int) -> None:
        """Let a client's socket hear this port of its address."""
        place = self._places[number]
        peer = sockaddr_to(place.address, port)
        try:
            if place.sock.getsockname()[1] == 0:
                join_port(place.sock, place.local, self.port, peer)
            else:
                place.sock.connect(peer)
        except OSError as error:
            log_limited(log.warning, "client cannot be connected", slot=place.slot, why=str(error))
            return
        self._note(place, number)
        self._matching.connected(number, port)

    def _note(self, place: _Place, number: int) -> None:
        """Tell the lane whether a socket may be used without an address."""
        self._arena.slots[place.slot]["connected"] = number

    def _stream(self, slot: int, number: int) -> Stream | None:
        """How far a session's packets have come; None: it was never let in."""
        rx = self._arena.rx[slot]
        if rx["session"] != number or rx["own_ns"] == 0 or rx["rate_hz"] <= 0:
            return None
        one = streams(self._arena.rx, [slot])
        return Stream(*(int(getattr(one, name)[0]) for name in Stream.__slots__))

    def _fitting(self, numbers: Collection[int], header: AudioHeader, now_ns: int) -> list[Fit]:
        """Who of these clients may have sent a datagram."""
        if not numbers:
            return []
        slots, rx = [self._places[number].slot for number in numbers], self._arena.rx
        known = (rx["session"][slots] == list(numbers)) & (rx["state"][slots] == RxState.ACTIVE)
        each = streams(rx, slots)
        fits = np.flatnonzero(known & goes_on(each, header, now_ns)).tolist()
        if not fits:
            return []
        certain, present = is_on_time(each, header, now_ns), list(numbers)
        return [Fit(present[k], int(each.heard_ns[k]), bool(certain[k])) for k in fits]


def streams(rx: Records, slots: Sequence[int]) -> Stream:
    """How far clients' packets have come, by their records; field by field, for these are long."""
    frames, rate_hz = rx["frames"][slots], np.maximum(rx["rate_hz"][slots], 1)
    return Stream(
        frames=frames,
        rate_code=rx["rate_code"][slots],
        bits=rx["bits"][slots],
        sends=rx["channels"][slots],
        packet_ns=np.maximum(frames * SECOND_NS // rate_hz, 1),
        sequence=rx["highest"][slots],
        heard_ns=np.maximum(rx["own_ns"][slots], rx["joined_ns"][slots]),
        stamp_us=rx["stamp_us"][slots],
        stamp_ns=rx["stamp_ns"][slots],
        steady=rx["stamp_steady"][slots] != 0,
    )
