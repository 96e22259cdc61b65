"""OSC as JackTrip's hub has it (2.5 and later): queues set, latencies asked for, over UDP.

::

    /config ,sf "queueBuffer" v   queue of all clients, here and to come: v > 0: v milliseconds;
                                  -500: auto; else auto and |v| milliseconds of headroom
    /get    ,s  "latency"         answered to the sender with a bundle, its time tag Unix seconds:
                                  /response/latency ,sfsf... name, milliseconds in its queue, ...

Messages come alone or in bundles, nested or not; their time tags are not heeded. There is no
password: who can send to the port may do this, so it is on loopback unless told otherwise.
What is malformed or too much is dropped and, now and then, logged.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import structlog
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from hub.directory import Directory
from hub.events import QueueSet, Tell, nobody
from hub.flood import Limiter
from hub.log import log_limited
from hub.machine_values import HostPort
from hub.membership import Membership
from hub.snapshot import BUFFER_FIELDS, buffered_frames, play_position
from hub.values import Queue
from shared.arena import Arena
from shared.layout import RxState
from shared.limits import MAX_HEADROOM_MS, MAX_QUEUE_PACKETS

log = structlog.get_logger()

MAX_DATAGRAM_BYTES = 2048
MAX_MESSAGES = 8
"""In one datagram."""
MAX_PER_S = 50.0
"""Messages that are heeded, and datagrams that are read; others are dropped."""
BATCH = 8
"""Messages, or datagrams without, that are looked at before others have their turn."""
NAMES_A_REPLY = 256
"""So that the longest names still fit a datagram."""
AUTO = -500
_BUNDLE, _BUNDLE_HEAD, _SIZE = b"#bundle\0", 16, 4


class OscError(RuntimeError):
    """The port cannot be had.

    Attributes:
        in_use: because somebody else has it.
    """

    def __init__(self, message: str, *, in_use: bool) -> None:
        super().__init__(message)
        self.in_use = in_use


class Queues(Protocol):
    """What can be asked of a hub over OSC."""

    def set_queues(self, milliseconds: int | None, headroom_ms: int) -> None:
        """All clients' queues: so long, or (None) auto with headroom."""

    def latencies(self) -> list[tuple[str, float]]:
        """Names, and milliseconds of sound in their queues."""


def messages_in(data: bytes) -> Iterator[OscMessage]:
    """The messages of a datagram, those of bundles included.

    (Bundles are taken apart here: python-osc follows their sizes, whatever those are, and never
    comes back from a negative one.)

    Raises:
        ValueError: it is malformed; messages before that place were yielded.
    """
    pending, found = [data], 0
    while pending:
        part = pending.pop(0)
        if not part.startswith(_BUNDLE):
            found += 1
            if found > MAX_MESSAGES:
                raise ValueError(f"more than {MAX_MESSAGES} messages in a datagram")
            yield _message(part)
            continue
        inner, at = [], _BUNDLE_HEAD
        while at < len(part):
            (size,) = struct.unpack_from(">i", part.ljust(at + _SIZE, b"\0"), at)
            end = at + _SIZE + size
            if size <= 0 or size % 4 or end > len(part):
                raise ValueError(f"a bundle's element cannot have {size} bytes")
            inner.append(part[at + _SIZE : end])
            at = end
        pending[:0] = inner


def _message(data: bytes) -> OscMessage:
    if not data.startswith(b"/"):
        raise ValueError("neither a message nor a bundle")
    try:
        return OscMessage(data)
    except Exception as error:  # whatever a hostile byte can make of the library
        raise ValueError(f"malformed message: {error}") from None


def handle(message: OscMessage, hub: Queues, local_s: float) -> list[bytes]:
    """Do what a message says; what is to be answered.

    Args:
        local_s: seconds since 1970.

    Raises:
        ValueError: it is none of ours, or says nothing that can be done.
    """
    match message.address, list(message.params):
        case "/config", ["queueBuffer", float() as value]:
            if not math.isfinite(value):
                raise ValueError(f"queueBuffer cannot be {value}")
            number = math.ceil(value) if 0.0 < value < 1.0 else int(value)
            if number > 0:
                hub.set_queues(number, 0)
            else:
                hub.set_queues(None, 0 if number == AUTO else -number)
            return []
        case "/get", ["latency"]:
            told = hub.latencies()
            groups = [told[k : k + NAMES_A_REPLY] for k in range(0, len(told), NAMES_A_REPLY)]
            return [_latencies(group, local_s) for group in groups or [[]]]
    raise ValueError(f"not understood: {message.address[:40]!r} {str(message.params)[:80]}")


def _latencies(told: Sequence[tuple[str, float]], local_s: float) -> bytes:
    builder = OscMessageBuilder("/response/latency")
    for name, milliseconds in told:
        builder.add_arg(name, "s")
        builder.add_arg(milliseconds, "f")
    message = builder.build().dgram
    # not the NTP time of a bundle, but as JackTrip writes it
    head = _BUNDLE + struct.pack(">Qi", int(local_s), len(message))
    return head + message


class OscSocket:
    """The UDP port; ``start`` begins to read it.

    Raises:
        OscError: it cannot be had.
    """

    def __init__(self, where: HostPort, hub: Queues) -> None:
        self._hub, self._limiter = hub, Limiter()
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            family, _, _, _, address = socket.getaddrinfo(
                where.host, where.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                self._socket.bind(address)
            except OSError:
                self._socket.close()
                raise
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            why = error.strerror or str(error)
            raise OscError(f"--osc: UDP port {where}: {why}", in_use=in_use) from None

    def start(self) -> None:
        """Read it in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        looked_at = 0
        while looked_at < BATCH:
            try:
                data, sender = self._socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except OSError:  # nothing left, or what ICMP says of an answer of ours
                return
            looked_at += 1
            if self._may("datagrams"):
                looked_at += self._take(data, sender)

    def _may(self, what: str) -> bool:
        if self._limiter.limited(what, MAX_PER_S) is not None:
            return True
        log_limited(log.warning, "osc messages are too many", per_s=0.1)
        return False

    def _take(self, data: bytes, sender: tuple[object, ...]) -> int:
        """Do what a datagram says; of how many messages."""
        peer, heeded = f"{sender[0]}:{sender[1]}", 0
        try:
            if len(data) > MAX_DATAGRAM_BYTES:
                raise ValueError(f"longer than {MAX_DATAGRAM_BYTES} bytes")
            for message in messages_in(data):
                if not self._may("messages"):
                    break
                heeded += 1
                for reply in handle(message, self._hub, time.time()):
                    self._socket.sendto(reply, sender)
        except ValueError as error:
            log_limited(log.info, "osc message refused", peer=peer, why=str(error))
        except OSError as error:
            log_limited(log.info, "osc answer not sent", peer=peer, why=error.strerror)
        return heeded


class OscDesk:
    """``Queues`` of a living hub."""

    def __init__(
        self, arena: Arena, directory: Directory, membership: Membership, tell: Tell = nobody
    ) -> None:
        self._arena, self._directory, self._membership = arena, directory, membership
        self._tell = tell

    def set_queues(self, milliseconds: int | None, headroom_ms: int) -> None:
        """All clients' queues, and those of newcomers; as near as is possible.

        A length is rounded up to the client's packets; the hub's period stands for the packets
        of those whose length is not known.
        """
        period = float(self._arena.header[0]["period_frames"])
        newcomers = self._queue(milliseconds, headroom_ms, period)
        self._membership.set_newcomers_queue(newcomers)
        self._directory.hub.queue = str(newcomers)
        sessions = self._membership.table.sessions()
        slots = [session.slot for session in sessions]
        records = self._arena.rx[["session", "frames", "span"]][slots].tolist()
        for session, (number, frames, span) in zip(sessions, records, strict=True):
            known = number == session.number and frames > 0 and span > 0
            queue = self._queue(milliseconds, headroom_ms, span if known else period)
            self._membership.set_queue(session.slot, queue)
        log_limited(
            log.info, "queues set over osc", per_s=5.0, queue=str(newcomers), clients=len(sessions)
        )
        with structlog.contextvars.bound_contextvars(by="osc"):
            self._tell(QueueSet(slot=None, name=None, queue=str(newcomers)))

    def _queue(self, milliseconds: int | None, headroom_ms: int, span: float) -> Queue:
        if milliseconds is None:
            return Queue(0, min(headroom_ms, MAX_HEADROOM_MS))
        frames = milliseconds * int(self._arena.header[0]["rate_hz"]) / 1000
        return Queue(min(MAX_QUEUE_PACKETS, max(1, math.ceil(frames / span))))

    def latencies(self) -> list[tuple[str, float]]:
        """All clients by slot; 0 as long as nothing is known of one."""
        arena, play = self._arena, play_position(self._arena)
        rate_hz = float(arena.header[0]["rate_hz"])
        sessions = self._membership.table.sessions()
        slots = [session.slot for session in sessions]
        rx = arena.rx[[*BUFFER_FIELDS, "session", "state"]][slots]  # one by one takes ten times it
        heard = rx["session"] == [session.number for session in sessions]
        heard &= rx["state"] == RxState.ACTIVE
        frames = np.where(heard, np.maximum(buffered_frames(rx, play), 0), 0)
        milliseconds = (1000.0 / rate_hz * frames).tolist()
        return [(s.name, ms) for s, ms in zip(sessions, milliseconds, strict=True)]
