"""Tells ``hub.events`` over ZeroMQ PUB sockets: a file's beside the control socket, and TCP's.

Two frames a message, the topic and a JSON object::

    join       {"v": 1, "event": "join", "number": 7, "at_s": 1772391600.0, "by": null,
                "slot": 3, "name": "Anna", ...}

``number`` counts the messages of a topic, so that who reads too slowly sees that some are missing:
nobody is waited for. ``by`` is whose key ordered it over TCP, ``osc``, or null.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog
import zmq
import zmq.asyncio

from hub.conditions.condition import Raised
from hub.control import ControlInUse, make_way
from hub.curve import Curve
from hub.directory import Directory
from hub.events import ConditionChanged, Event, Restarted

VERSION = 1
MAX_WAITING = 1000
"""Events that wait for one subscriber; the next are lost for it."""
HEARTBEAT_MS = 10_000
"""A subscriber whose network is gone is forgotten after two of these."""

_Whose = tuple[int, int] | None
"""Slot and session of a client; None: the whole hub."""


class Publisher:
    """Publishes wherever it is bound, until it is closed."""

    def __init__(self) -> None:
        self._context: zmq.asyncio.Context | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._curve: Curve | None = None
        self._path: Path | None = None
        self._numbers: Counter[str] = Counter()
        self._conditions: dict[_Whose, frozenset[str]] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._restarts: dict[str, int] = {}

    def bind_file(self, endpoint: str) -> None:
        """Tell the hub's own user.

        Args:
            endpoint: of type ipc.

        Raises:
            ControlInUse, OSError: as of ``hub.control.ControlSocket``.
        """
        path = Path(endpoint.removeprefix("ipc://"))
        make_way(path)
        mask = os.umask(0o177)
        try:
            self._bind(self._socket(), endpoint, str(path))
        finally:
            os.umask(mask)
        self._path = path

    def bind_tcp(self, endpoint: str, keys: Path) -> str:
        """Tell who has a key; where that is.

        Args:
            endpoint: of type tcp.
            keys: folder of ``hub.keys``.

        Raises:
            ControlInUse, WrongKey, OSError: as of ``hub.control.ControlSocket``.
        """
        sock = self._socket()
        assert self._context is not None
        self._curve = Curve(self._context, keys)
        self._curve.guard(sock)
        sock.ipv6 = "[" in endpoint
        sock.heartbeat_ivl, sock.heartbeat_timeout = HEARTBEAT_MS, 2 * HEARTBEAT_MS
        self._bind(sock, endpoint, endpoint)
        return sock.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _socket(self) -> zmq.Socket[bytes]:
        if self._context is None:
            self._context = zmq.asyncio.Context()
        sock: zmq.Socket[bytes] = self._context.socket(
            zmq.PUB,
            socket_class=zmq.Socket,  # type: ignore[assignment, arg-type]
        )
        sock.linger = 200  # ms: the last word still goes out
        sock.sndhwm = MAX_WAITING
        return sock

    def _bind(self, sock: zmq.Socket[bytes], endpoint: str, shown: str) -> None:
        try:
            sock.bind(endpoint)
        except zmq.ZMQError as error:
            kind = ControlInUse if error.errno == errno.EADDRINUSE else OSError
            raise kind(error.errno, error.strerror, shown) from None
        self._sockets.append(sock)

    def close(self) -> None:
        """Say no more and remove the file."""
        if self._curve is not None:
            self._curve.close()
        if self._context is not None:
            self._context.destroy(linger=200)
        self._sockets.clear()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def tell(self, event: Event) -> None:
        """Publish an event to those who listen."""
        topic = event.topic
        self._numbers[topic] += 1
        if not self._sockets:
            return
        told = {
            "v": VERSION,
            "event": topic,
            "number": self._numbers[topic],
            "at_s": round(time.time(), 3),
            "by": structlog.contextvars.get_contextvars().get("by"),
            **event.fields(),
        }
        frames = [topic.encode(), json.dumps(told).encode()]
        for sock in self._sockets:
            with contextlib.suppress(zmq.ZMQError):
                sock.send_multipart(frames, zmq.NOBLOCK)

    def look(self, directory: Directory) -> None:
        """Tell what the directory shows to have changed: conditions and restarts."""
        hub = directory.hub
        clients = directory.listed()
        conditions: dict[_Whose, frozenset[str]] = {
            (client.slot, client.session): _slugs(client.conditions) for client in clients
        }
        conditions[None] = _slugs(hub.conditions)
        names = {(client.slot, client.session): client.name for client in clients}
        for whose in self._conditions.keys() | conditions.keys():
            # those of who has left are over as well
            before = self._conditions.get(whose, frozenset())
            now = conditions.get(whose, frozenset())
            if now == before:
                continue
            slot = None if whose is None else whose[0]
            name = None if whose is None else names.get(whose, self._names.get(whose))
            for slug in sorted(now ^ before):
                self.tell(
                    ConditionChanged(slot=slot, name=name, condition=slug, raised=slug in now)
                )
        self._names = names
        self._conditions = conditions
        self._tell_restarts(directory)

    def _tell_restarts(self, directory: Directory) -> None:
        hub = directory.hub
        counts: Mapping[str, int] = {
            "mixer": hub.mixer_restarts, "lane": hub.lane_restarts, "zygote": hub.zygote_restarts,
        }  # fmt: skip
        receivers = {
            f"receiver {client.session}": client.receiver_restarts for client in directory.listed()
        }
        sessions = {f"receiver {client.session}": client for client in directory.listed()}
        for what, count in {**counts, **receivers}.items():
            if count > self._restarts.get(what, 0):
                client = sessions.get(what)
                self.tell(
                    Restarted(
                        process=what.partition(" ")[0], times=count,
                        slot=client.slot if client else None, name=client.name if client else None,
                    )
                )  # fmt: skip
        self._restarts = {**counts, **receivers}


def _slugs(raised: Iterable[Raised]) -> frozenset[str]:
    return frozenset(one.condition.slug for one in raised)
