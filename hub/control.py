"""The control socket: ``hub.commands`` over a ZeroMQ ROUTER at an ipc endpoint.

The socket's file is for the hub's own user only (0600), and goes with the hub. One left by
a hub that was killed is taken over; one where somebody still answers is not. Over TCP there
is only CURVE: encrypted, and for those alone whose public keys lie in a folder (``hub.keys``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

import structlog
import zmq
import zmq.asyncio

from hub.commands import Hub, answer
from hub.curve import Curve
from hub.log import log_limited
from hub.machine_values import HostPort
from hub.messages.fields import MAX_REQUEST_BYTES

log = structlog.get_logger()

ANSWERED_S = 2.0
"""How long a hub that ends waits for a disk, to answer who waits for it."""
MAX_WAITING = 32
"""Requests of one client that wait to be read; it waits with the next."""
MAX_UNANSWERED = 64
"""Requests of all clients that are read and not answered yet; the others wait in ZeroMQ."""
MAX_PARTS = 4
"""Of a request: who sent it, an empty part if it came from a REQ socket, and the JSON."""


class ControlInUse(OSError):
    """Somebody else answers at the endpoint, or it is no socket at all."""


class ControlTcpError(RuntimeError):
    """The control socket's TCP port, or that of events behind it, cannot be had.

    Attributes:
        in_use: because somebody else has it.
    """

    def __init__(self, where: HostPort, error: OSError) -> None:
        wanted = error.filename or f"tcp://{where}"
        super().__init__(f"--control-tcp: {where}: {wanted} cannot be had: {error.strerror}")
        self.in_use = error.errno == errno.EADDRINUSE


class ControlSocket:
    """Listens from its making on; ``start`` begins to answer, ``close`` ends it.

    Args:
        endpoint: of type ipc, or with keys of type tcp.
        keys: folder of ``hub.keys``.

    Raises:
        ControlInUse: the endpoint belongs to somebody else.
        WrongKey: the hub has no key, there is no folder of clients' keys, or one is none.
        OSError: its directory is missing or not ours.
    """

    def __init__(self, endpoint: str, hub: Hub, keys: Path | None = None) -> None:
        self._hub = hub
        self._file: tuple[Path, int] | None = None
        self._curve: Curve | None = None
        self._task: asyncio.Task[None] | None = None
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 200  # ms: the reply to a shutdown still goes out
        self._socket.maxmsgsize = MAX_REQUEST_BYTES
        self._socket.rcvhwm = MAX_WAITING
        self._socket.ipv6 = "[" in endpoint  # not else: a name would become its IPv6 address
        try:
            if keys is None:
                self._bind_file(endpoint)
            else:
                self._bind_secure(endpoint, keys)
        except BaseException:
            if self._curve is not None:
                self._curve.close()
            self._context.destroy(linger=0)
            raise
        self._replies: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_UNANSWERED)

    def start(self) -> None:
        """Answer, those first who have asked already."""
        self._task = asyncio.create_task(self._serve())

    def _bind_file(self, endpoint: str) -> None:
        path = Path(endpoint.removeprefix("ipc://"))
        make_way(path)
        mask = os.umask(0o177)
        try:
            self._bind(endpoint, str(path))
        finally:
            os.umask(mask)
        self._file = path, path.stat().st_ino

    def _bind_secure(self, endpoint: str, keys: Path) -> None:
        """Only who has the secret half of a key in ``keys/clients`` gets as far as a request."""
        self._curve = Curve(self._context, keys)
        self._curve.guard(self._socket)
        self._bind(endpoint, endpoint)

    def _bind(self, endpoint: str, shown: str) -> None:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            kind = ControlInUse if error.errno == errno.EADDRINUSE else OSError
            raise kind(error.errno, error.strerror, shown) from None

    @property
    def endpoint(self) -> str:
        """Where it is bound."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    async def close(self) -> None:
        """Answer who has asked, nobody else, and remove the file."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._replies:
            _, unanswered = await asyncio.wait(self._replies, timeout=ANSWERED_S)
            for reply in unanswered:
                reply.cancel()
        self._socket.close()
        if self._curve is not None:
            self._curve.close()
        self._context.term()
        # ZeroMQ has removed the file, if nothing went wrong; whose else it may be is not ours
        if self._file is not None:
            path, inode = self._file
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()

    async def _serve(self) -> None:
        while True:
            await self._room.acquire()
            try:
                frames = await self._socket.recv_multipart(copy=False)
            except zmq.ZMQError as error:
                self._room.release()
                _tell_failure(error)
                await asyncio.sleep(0.1)
                continue
            if 1 < len(frames) <= MAX_PARTS:
                # begun in their order; one that waits for a disk holds up no other
                reply = asyncio.create_task(self._reply(frames[:-1], frames[-1]))
                self._replies.add(reply)
                reply.add_done_callback(self._replied)
            else:
                self._room.release()
                log_limited(log.warning, "control request in too many parts", parts=len(frames))
            # what waits already is received without waiting: all others have their turn first
            await asyncio.sleep(0)

    def _replied(self, reply: asyncio.Task[None]) -> None:
        self._replies.discard(reply)
        self._room.release()

    async def _reply(self, way: list[zmq.Frame], request: zmq.Frame) -> None:
        """Answer one request.

        Args:
            way: the parts before it, which lead back to its sender.
        """
        if self._curve is not None:  # told in the log and by events; each reply is its own task
            structlog.contextvars.bind_contextvars(by=self._curve.owner(request))
        try:
            reply = await answer(request.bytes, self._hub)
            await self._socket.send_multipart([*way, reply], zmq.NOBLOCK)
        except zmq.Again:
            log_limited(log.warning, "control reply not taken")
        except zmq.ZMQError as error:
            _tell_failure(error)


def _tell_failure(error: zmq.ZMQError) -> None:
    log_limited(log.warning, "control socket failed", error=str(error))


def make_way(path: Path) -> None:
    """Remove the socket of a dead hub.

    Raises:
        ControlInUse: a living one, or something else.
        OSError: the directory is missing, or its rights forbid it.
    """
    try:
        mode = path.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent)) from None
        return
    if not stat.S_ISSOCK(mode):
        raise ControlInUse(errno.EEXIST, "exists and is no socket", str(path))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            log.info("control socket of a dead hub removed", path=str(path))
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            pass  # so busy that it does not even accept: alive all the same
    raise ControlInUse(errno.EADDRINUSE, "another hub answers there", str(path))
