"""Clients' UDP sockets: each session's own, on a port of its own or on the shared one."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import structlog

from hub.addresses import Peer
from hub.directory import HubInfo
from hub.log import log_limited
from hub.ports import PortPool, bind_udp
from hub.sessions import Session
from hub.singleport import SinglePort

log = structlog.get_logger()

OWN_PORTS_LOGGED_PER_S = 5.0


class Berths:
    """Sockets by session.

    Args:
        hub: where it is counted.
        single: the shared port, where there is one.
    """

    def __init__(self, pool: PortPool, hub: HubInfo, single: SinglePort | None = None) -> None:
        self._pool = pool
        self._hub = hub
        self._single = single
        self._sockets: dict[int, socket.socket] = {}

    def of(self, session: int) -> socket.socket | None:
        """A session's socket, None once it is closed."""
        return self._sockets.get(session)

    def take(self, peer: Peer, now: float) -> tuple[int, socket.socket] | None:
        """A port and a socket for a newcomer; None: no port is left.

        Raises:
            OSError: there is no socket.
        """
        if self._single is not None:
            shared = self._single.offer(peer)
            if shared is not None:
                return self._single.port, shared
        taken = self._pool.take(now, lambda port: bind_udp(peer.local, port))
        if self._single is not None and taken is not None:
            self._hub.own_ports += 1
            log_limited(
                log.warning,
                "client has a port of its own: another of its address is yet to be heard",
                per_s=OWN_PORTS_LOGGED_PER_S,
                peer_key=str(peer.address),
                address=str(peer.address),
                port=taken[0],
            )
        return taken

    def keep(self, session: Session, sock: socket.socket, peer: Peer) -> None:
        """A newcomer's socket is its session's from now on."""
        self._sockets[session.number] = sock
        if self._single is not None and session.port == self._single.port:
            self._single.expect(session, sock, peer.local)

    def hand_on(self, newcomer: Session, session: Session) -> socket.socket:
        """A session goes on as another one, with its socket."""
        sock = self._sockets[session.number] = self._sockets.pop(newcomer.number)
        if self._single is not None and newcomer.number in self._single:
            self._single.rename(newcomer.number, session)
        return sock

    def leave(
        self, session: Session, now: float, *, used: bool = True, goodbye: bool = False
    ) -> None:
        """Close a session's socket.

        Args:
            used: datagrams had come to it.
            goodbye: the client's own among them.
        """
        sock = self._sockets.pop(session.number)
        if self._single is not None and session.number in self._single:
            self._single.forget(session.number, goodbye=goodbye)
        else:
            self._pool.give_back(session.port, now, used)
        sock.close()

    def look(self, waiting: Sequence[Session]) -> None:
        """On every poll: who has yet to be heard."""
        if self._single is not None:
            self._single.look(waiting)

    def close(self) -> None:
        """Close them all: the hub is stopping, and all who used them have ended."""
        if self._single is not None:
            self._single.lobby.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
