"""The wire below ``hub.client``: JSON over a ZeroMQ DEALER, each reply to who asked for it.

::

    {"v": 1, "id": 7, "op": "mute", "client": "Anna", "muted": true}
    {"v": 1, "id": 7, "ok": true, "result": {...}}
    {"v": 1, "id": 7, "ok": false, "error": {"code": "no-client", "message": "..."}}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

from hub.events import TOPICS
from hub.keys import WrongKey, read_pair, read_public
from hub.messages.events import Told, told
from hub.messages.fields import MAX_REQUEST_BYTES, VERSION
from hub.rendezvous import events_endpoint

TIMEOUT_S = 5.0
HEARTBEAT_MS = 10_000
OWN_KEY, HUB_KEY = "TUTTIHUB_KEY", "TUTTIHUB_HUB_KEY"


class ControlError(RuntimeError):
    """A request came to nothing."""


class HubUnreachable(ControlError):
    """Nobody answers at the endpoint."""

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(f"no hub answers at {endpoint}: {why}")
        self.endpoint, self.why = endpoint, why


class HubRefused(ControlError):
    """The hub understood, and would not.

    Attributes:
        code: for programs: 'no-client', 'bad-field'... (``hub.messages.errors``).
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Error(msgspec.Struct):
    code: str = "failed"
    message: str = "no reason given"


class _Reply(msgspec.Struct):
    v: int
    id: int | float | str | None = None
    ok: bool = False
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: _Error = msgspec.field(default_factory=_Error)


class Connection:
    """One DEALER and, while it is open, a task that gives replies to who waits for them."""

    def __init__(
        self, endpoint: str, timeout_s: float, key: Path | None, hub_key: Path | None
    ) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s
        self._key, self._hub_key = key, hub_key
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[_Reply]] = {}
        self._decoder = msgspec.json.Decoder(_Reply)
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._reading: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            HubUnreachable: nothing listens there, seen at once.
            ControlError: a key is missing or wrong.
        """
        _knock(self._endpoint)
        self._context = zmq.asyncio.Context()
        self._socket = sock = self._context.socket(zmq.DEALER)
        # what nobody took by then is not worth waiting for at the end
        sock.linger = 0
        # nor is it kept for the next hub that is bound there, which would carry it out
        sock.immediate = True
        try:
            self._lock(sock)
            sock.connect(self._endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise HubUnreachable(self._endpoint, str(error)) from None
        except WrongKey as error:
            self._context.destroy(linger=0)
            raise ControlError(str(error)) from None
        self._reading = asyncio.create_task(self._read(sock))

    def _lock(self, sock: zmq.asyncio.Socket) -> None:
        """Speak CURVE over TCP, without which nobody answers there."""
        if not self._endpoint.startswith("tcp://"):
            return
        sock.ipv6 = "[" in self._endpoint
        # a network that is gone is seen, and connected to again
        sock.heartbeat_ivl, sock.heartbeat_timeout = HEARTBEAT_MS, 2 * HEARTBEAT_MS
        own = self._key or os.environ.get(OWN_KEY)
        hubs = self._hub_key or os.environ.get(HUB_KEY)
        if not own or not hubs:
            raise WrongKey(f"over tcp:// a key is needed: files in {OWN_KEY} and {HUB_KEY}")
        pair = read_pair(Path(own))
        sock.curve_publickey, sock.curve_secretkey = pair.public, pair.secret
        sock.curve_serverkey = read_public(Path(hubs))

    async def close(self) -> None:
        """Hang up; who still waits for a reply is told that there is none."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._context is not None:
            self._context.destroy(linger=0)
        self._context = self._socket = self._reading = None
        self._fail(HubUnreachable(self._endpoint, "the connection was closed"))

    async def exchange(self, fields: dict[str, Any]) -> msgspec.Raw:
        """Send one request and wait for its reply's result, JSON.

        Raises:
            HubUnreachable: no reply in time. A hub that is gone never gets the request, nor does
                the next; one that hangs may carry it out later.
            HubRefused: the hub says no.
            ControlError: what came is no reply, or the request is too large.
        """
        if self._socket is None:
            raise ControlError("the connection is not open")
        self._last_id += 1
        number = self._last_id
        data = json.dumps({**fields, "v": VERSION, "id": number}).encode()
        if len(data) > MAX_REQUEST_BYTES:
            allowed = f"larger than a hub takes ({MAX_REQUEST_BYTES})"
            raise ControlError(f"a request of {len(data)} bytes is {allowed}")
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._socket.send(data)
                return _result(await waiting)
        except TimeoutError:
            why = f"no reply within {self._timeout_s:g} s"
            raise HubUnreachable(self._endpoint, why) from None
        finally:
            del self._waiting[number]

    async def _read(self, sock: zmq.asyncio.Socket) -> None:
        while True:
            try:
                data = (await sock.recv_multipart())[-1]
                reply = self._decoder.decode(data)
            except zmq.ZMQError as error:
                self._fail(HubUnreachable(self._endpoint, str(error)))
                return
            except msgspec.DecodeError:
                self._fail(ControlError(f"the hub's reply is no JSON object: {data[:80]!r}"))
                continue
            waiting = self._waiting.get(reply.id) if isinstance(reply.id, int) else None
            if waiting is not None and not waiting.done():  # else it came too late
                waiting.set_result(reply)

    def _fail(self, error: ControlError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    def events(self, *topics: str) -> EventStream:
        """See ``hub.client``."""
        if self._context is None:
            raise ControlError("the connection is not open")
        if unknown := set(topics) - set(TOPICS):
            raise ValueError(f"{min(unknown)!r} is not a topic ({', '.join(TOPICS)})")
        endpoint = events_endpoint(self._endpoint)
        _knock(endpoint)
        sock = self._context.socket(zmq.SUB)
        sock.linger = 0
        self._lock(sock)
        for topic in topics or ("",):
            sock.subscribe(topic.encode())
        sock.connect(endpoint)
        return EventStream(sock)


class EventStream:
    """Events as they come; it ends when it is closed, or with its client."""

    def __init__(self, sock: zmq.asyncio.Socket) -> None:
        self._socket = sock

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Told:
        while not self._socket.closed:
            try:
                event = told((await self._socket.recv_multipart())[-1])
                if event is not None:  # else of a later hub, that tells of more
                    return event
            except zmq.ZMQError:
                break
            except asyncio.CancelledError:  # so ZeroMQ says that the socket was closed, too
                task = asyncio.current_task()
                if not self._socket.closed or (task is not None and task.cancelling()):
                    raise
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close(linger=0)


def _result(reply: _Reply) -> msgspec.Raw:
    if reply.v != VERSION:
        raise ControlError(f"the hub speaks version {reply.v} of the control protocol")
    if not reply.ok:
        raise HubRefused(reply.error.code, reply.error.message)
    return reply.result


def is_listened_to(endpoint: str) -> bool:
    """Whether somebody listens at an ipc endpoint: more than what a killed hub has left."""
    try:
        _knock(endpoint)
    except HubUnreachable:
        return False
    return True


def _knock(endpoint: str) -> None:
    """Find out at once what ZeroMQ would try in vain for ever."""
    if not endpoint.startswith("ipc://"):
        return
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except (TimeoutError, BlockingIOError):
            return  # so busy that it does not even accept: there all the same
        except FileNotFoundError:
            raise HubUnreachable(endpoint, "there is no such socket") from None
        except ConnectionRefusedError:
            raise HubUnreachable(endpoint, "the hub that made this socket is gone") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise HubUnreachable(endpoint, why) from None
