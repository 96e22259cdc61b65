"""The door: TCP hellos in, UDP ports out, many at once, none waiting for another.

``Greeting`` (``hub.greeting``) is one connection's conversation without socket or clock;
``Doorkeeper`` gives it both. A connection goes::

    PORTLESS ── 4 bytes ──► NAMELESS ── name, or 50 ms ──► ANSWERED ── its end, or 1 s ──► closed
        ├────── 5 s ──────► dropped                           ▲
        │                                                     │ judged
        └── with -A: 65536 ──► SECURING ── credentials ──► CHECKING
                                   └── 10 s ──► dropped

With ``-A`` the hub agrees in clear and begins TLS on the same connection; credentials come and
are answered inside it (``hub.auth.secure``), and a plain hello is told that this is needed.

The answer is followed by a half-close, and the connection is kept until the client's own
end comes: closing at once with unread bytes would send a reset, and that may overtake the
answer. Never are more than ``max_pending`` connections held; room for a newcomer is made
by dropping the one that has owed its port longest, so that ten thousand idle peers cost
neither descriptors nor anybody's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import structlog

from hub.addresses import IPAddress, Peer, parse_sockaddr
from hub.auth.results import ANSWERS, Login
from hub.auth.secure import SECURE_TIMEOUT_S, SecureGreeting
from hub.directory import HubInfo
from hub.greeting import Greeting
from hub.listener import MAX_PENDING, bind_dual_stack, round_trip_s
from hub.log import log_limited
from shared.credentials import Credentials
from shared.protocol import (
    HELLO_PORT_BYTES,
    Answer,
    Hello,
    PeerError,
    pack_answer,
)

log = structlog.get_logger()

FAREWELL_S = 1.0
"""How long an answered connection may take to end."""
BACKLOG = 4096
ACCEPTS_A_TURN = 64
READ_BYTES = 512
TLS_READ_BYTES = 4096
USER_LOGGED_CHARS = 64
CHECK_TIMEOUT_S = 30.0
"""A judgement that takes longer will not come."""
MAX_READS = 256
"""More than a hello in single bytes needs; who goes on after that only costs time."""

_LACK = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RESET = struct.pack("ii", 1, 0)

Welcome = Callable[[Hello, Peer], int | None]
"""Gives a client its UDP port, bound and watched; None when it cannot be taken in."""

Gate = Callable[[IPAddress], bool]
"""Whether a source may connect at all; asked before it costs more than an ``accept``."""

TurnAway = Callable[[Login, IPAddress], None]
"""Told of every conversation about credentials that came to nothing."""


class Authority(Protocol):
    """Who judges credentials, where they are asked for."""

    @property
    def context(self) -> ssl.SSLContext: ...
    def check(self, credentials: Credentials, peer: Peer) -> Coroutine[Any, Any, Login]: ...


class Stage(Enum):
    """In which order connections give way to a newcomer."""

    PORTLESS = 0
    SECURING = 1
    ANSWERED = 2
    NAMELESS = 3
    CHECKING = 4


@dataclass(slots=True)
class DoorCounts:
    """What came to the door; each only ever grows."""

    accepted: int = 0
    welcomed: int = 0
    full: int = 0
    malformed: int = 0
    crowded_out: int = 0


class _Caller:
    """One TCP connection."""

    __slots__ = (
        "check", "ending", "fd", "greeting", "peer", "reads", "secure", "sock", "stage", "timer",
        "unsent",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: Peer, greeting: Greeting) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        """For the loop, which has the kernel describe a socket that it does not know yet."""
        self.peer = peer
        self.greeting = greeting
        self.secure: SecureGreeting | None = None
        self.check: asyncio.Task[None] | None = None
        self.unsent = bytearray()
        self.ending = False
        self.stage = Stage.PORTLESS
        self.reads = 0
        self.timer: asyncio.TimerHandle | None = None


class Doorkeeper:
    """Listens on a TCP port and greets who comes.

    ``welcome`` is called once for every good hello, on the loop's thread, and ``gate`` once
    for every connection: whom it will not have is sent away at once and without a word. With an
    ``authority`` only those are welcome whose credentials it has judged to be good; who fails is
    told to ``turned_away``.
    """

    def __init__(
        self,
        welcome: Welcome,
        max_pending: int = MAX_PENDING,
        gate: Gate = lambda source: True,
        authority: Authority | None = None,
        turned_away: TurnAway = lambda login, source: None,
    ) -> None:
        self.counts = DoorCounts()
        self.logins: Counter[Login] = Counter()
        """Conversations about credentials, by outcome."""
        self._welcome = welcome
        self._gate = gate
        self._authority = authority
        self._turned_away = turned_away
        self._max_pending = max_pending
        self._listener: socket.socket | None = None
        self._tls_turns: deque[_Caller] = deque()
        # connections by stage, oldest first: a dict keeps the order and forgets quickly
        self._callers: dict[Stage, dict[_Caller, None]] = {stage: {} for stage in Stage}

    @property
    def pending(self) -> int:
        """Connections held now."""
        return sum(map(len, self._callers.values()))

    @property
    def port(self) -> int:
        """The TCP port."""
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    def show(self, hub: HubInfo) -> None:
        """Let the directory show whom this door has met."""
        hub.logins.update((login.value, n) for login, n in self.logins.items())
        hub.welcomed = self.counts.welcomed
        for reason, count in (
            ("malformed", self.counts.malformed),
            ("crowded-out", self.counts.crowded_out),
        ):
            if count:
                hub.hellos_refused[reason] = count

    def bind(self, port: int) -> None:
        """Take the port: a second hub fails here, before any work. Who connects waits for ``open``.

        Raises:
            OSError: the port is in use or not permitted.
        """
        self._listener = bind_dual_stack(port)
        # two that only bind do not disturb each other, with SO_REUSEADDR: so listen at once
        self._listener.listen(BACKLOG)

    def open(self) -> None:
        """Let clients in."""
        assert self._listener is not None
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Send all away and free the port."""
        if self._listener is not None:
            with contextlib.suppress(RuntimeError):  # no loop runs: nothing was opened
                asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for callers in self._callers.values():
            for caller in list(callers):
                self._drop(caller)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            if self._listener is None:
                return
            try:
                sock, sockaddr = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _LACK and not self._make_room():
                    self._rest()
                    return
                continue  # the peer was gone before it was taken in: ECONNABORTED and the like
            self.counts.accepted += 1
            if not self._gate(parse_sockaddr(sockaddr)[0]):
                _reset(sock)
                continue
            if self.pending >= self._max_pending:
                self._make_room()
            self._greet(sock, sockaddr)

    def _rest(self) -> None:
        """Nothing can be accepted and nothing dropped: look again a little later."""
        log_limited(log.warning, "no descriptors left for tcp connections")
        loop = asyncio.get_running_loop()
        listener = self._listener
        assert listener is not None
        loop.remove_reader(listener)

        def resume() -> None:
            if self._listener is listener:
                loop.add_reader(listener, self._accept)

        loop.call_later(0.1, resume)

    def _make_room(self) -> bool:
        """Drop the connection that is least of a loss; False when there is none."""
        for stage in Stage:
            oldest = next(iter(self._callers[stage]), None)
            if oldest is not None:
                self.counts.crowded_out += 1
                self._drop(oldest)
                return True
        return False

    def _greet(self, sock: socket.socket, sockaddr: tuple[object, ...]) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            address, port = parse_sockaddr(sockaddr)
            local, _ = parse_sockaddr(sock.getsockname())
        except OSError:
            sock.close()
            return
        greeting = Greeting(loop.time(), named=self._authority is None)
        caller = _Caller(sock, Peer(address, port, local, round_trip_s(sock)), greeting)
        self._callers[caller.stage][caller] = None
        caller.timer = loop.call_at(caller.greeting.deadline, self._due, caller)
        loop.add_reader(caller.fd, self._readable, caller)
        self._readable(caller)  # mostly the hello has come with the connection

    def _readable(self, caller: _Caller) -> None:
        if caller.stage is Stage.SECURING:
            # a step of TLS may cost milliseconds: a storm of them must not be one turn of the loop
            loop = asyncio.get_running_loop()
            loop.remove_reader(caller.fd)
            self._tls_turns.append(caller)
            if len(self._tls_turns) == 1:
                loop.call_soon(self._tls_turn)
        else:
            self._read(caller)

    def _tls_turn(self) -> None:
        """A step of TLS for the one who has waited longest."""
        loop = asyncio.get_running_loop()
        caller = self._tls_turns.popleft()
        if self._tls_turns:
            loop.call_soon(self._tls_turn)
        if caller in self._callers[Stage.SECURING]:
            loop.add_reader(caller.fd, self._readable, caller)
            self._read(caller)

    def _read(self, caller: _Caller) -> None:
        size = TLS_READ_BYTES if caller.stage is Stage.SECURING else READ_BYTES
        if caller.stage is Stage.PORTLESS and self._authority is not None:
            size = HELLO_PORT_BYTES  # what follows may be TLS's already
        try:
            data = caller.sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset by the peer
            self._drop(caller)
            return
        caller.reads += 1
        if caller.reads > MAX_READS or (caller.stage is Stage.ANSWERED and not data):
            self._drop(caller)
        elif caller.stage is Stage.SECURING:
            self._advance_secured(caller, data)
        elif caller.stage is not Stage.ANSWERED:
            self._advance(caller, data)

    def _due(self, caller: _Caller) -> None:
        match caller.stage:
            case Stage.SECURING:
                self._give_up(caller, f"credentials: none within {SECURE_TIMEOUT_S:g} s")
            case Stage.ANSWERED | Stage.CHECKING:
                self._drop(caller)
            case _:
                self._advance(caller, None)

    def _advance(self, caller: _Caller, data: bytes | None) -> None:
        """Go on with a greeting after bytes, or after its time was over (None)."""
        loop = asyncio.get_running_loop()
        greeting = caller.greeting
        now = loop.time()
        try:
            if data is not None:
                greeting.receive(data, now)
            hello = greeting.result(now if data is not None else max(now, greeting.deadline))
        except PeerError as error:
            self.counts.malformed += 1
            log_limited(log.info, "tcp peer dropped", peer=str(caller.peer), why=str(error))
            self._drop(caller)
            return
        if hello is not None:
            self._reply(caller, hello)
            return
        if caller.stage is Stage.PORTLESS and not greeting.portless:
            self._move(caller, Stage.NAMELESS)
        if caller.timer is None or caller.timer.when() > greeting.deadline:
            self._restart_timer(caller, greeting.deadline)

    def _reply(self, caller: _Caller, hello: Hello) -> None:
        """Act on a hello in clear."""
        if self._authority is None:
            if hello.wants_auth:
                self._refuse(caller, Login.NOT_REQUIRED)
            else:
                self._let_in(caller, hello)
        elif not hello.wants_auth:
            self._refuse(caller, Login.REQUIRED)
        else:
            secure = SecureGreeting(self._authority.context, asyncio.get_running_loop().time())
            caller.secure = secure
            self._move(caller, Stage.SECURING)
            self._restart_timer(caller, secure.deadline)
            self._send(caller, pack_answer(Answer.AUTH))

    def _advance_secured(self, caller: _Caller, data: bytes) -> None:
        """Go on inside TLS."""
        assert caller.secure is not None
        try:
            credentials = caller.secure.receive(data)
        except PeerError as error:
            self._give_up(caller, str(error))
            return
        self._send(caller, caller.secure.outgoing())
        if credentials is not None and caller in self._callers[Stage.SECURING]:
            loop = asyncio.get_running_loop()
            loop.remove_reader(caller.fd)  # nothing it says can matter now
            self._move(caller, Stage.CHECKING)
            self._restart_timer(caller, loop.time() + CHECK_TIMEOUT_S)
            caller.check = loop.create_task(self._check(caller, credentials))

    async def _check(self, caller: _Caller, credentials: Credentials) -> None:
        """Have credentials judged, and answer them."""
        assert self._authority is not None
        try:
            login = await self._authority.check(credentials, caller.peer)
        except Exception:
            log.exception("credentials cannot be judged")
            login = Login.BUSY
        caller.check = None
        asyncio.get_running_loop().add_reader(caller.fd, self._readable, caller)
        if login is not Login.OK:
            self._refuse(caller, login, user=credentials.user)
            return
        self.logins[login] += 1
        hello = Hello(credentials.udp_port, credentials.name, True, account=credentials.user)
        self._let_in(caller, hello)

    def _let_in(self, caller: _Caller, hello: Hello) -> None:
        """Say the port; nothing when the hub is full."""
        port = self._welcome(hello, caller.peer)
        if port is None:
            self.counts.full += 1
        else:
            self.counts.welcomed += 1
        self._answer(caller, port)

    def _refuse(self, caller: _Caller, login: Login, user: str | None = None) -> None:
        self.logins[login] += 1
        self._turned_away(login, caller.peer.address)
        claimed: dict[str, Any] = {} if user is None else {"user": user[:USER_LOGGED_CHARS]}
        peer = str(caller.peer)
        log_limited(
            log.info,
            "login refused",
            per_s=5.0,
            peer_key=str(caller.peer.address),
            why=login.value,
            peer=peer,
            **claimed,
        )
        self._answer(caller, ANSWERS.get(login))

    def _give_up(self, caller: _Caller, why: str) -> None:
        """End a conversation inside TLS that leads nowhere; TLS may say why."""
        self.logins[Login.BROKEN] += 1
        self._turned_away(Login.BROKEN, caller.peer.address)
        log_limited(log.info, "tcp peer dropped", peer=str(caller.peer), why=why)
        self._answer(caller, None)

    def _answer(self, caller: _Caller, answer: int | None) -> None:
        """Say it (or nothing), end our side, wait for theirs."""
        if caller.secure is not None:
            caller.secure.answer(answer)
            data = caller.secure.outgoing()
        else:
            data = b"" if answer is None else pack_answer(answer)
        self._move(caller, Stage.ANSWERED)
        self._restart_timer(caller, asyncio.get_running_loop().time() + FAREWELL_S)
        caller.ending = True
        self._send(caller, data)

    def _send(self, caller: _Caller, data: bytes) -> None:
        """Send, or keep what there is no room for; after the last of it our side may end."""
        loop = asyncio.get_running_loop()
        waited = bool(caller.unsent)
        caller.unsent += data
        try:
            while caller.unsent:
                del caller.unsent[: caller.sock.send(caller.unsent)]
        except BlockingIOError:
            if not waited:
                loop.add_writer(caller.fd, self._send, caller, b"")
            return
        except OSError:
            self._drop(caller)
            return
        if waited:
            loop.remove_writer(caller.fd)
        if caller.ending:
            with contextlib.suppress(OSError):
                caller.sock.shutdown(socket.SHUT_WR)

    def _move(self, caller: _Caller, stage: Stage) -> None:
        del self._callers[caller.stage][caller]
        caller.stage = stage
        self._callers[stage][caller] = None

    def _restart_timer(self, caller: _Caller, when: float) -> None:
        if caller.timer is not None:
            caller.timer.cancel()
        caller.timer = asyncio.get_running_loop().call_at(when, self._due, caller)

    def _drop(self, caller: _Caller) -> None:
        if caller not in self._callers[caller.stage]:
            return
        del self._callers[caller.stage][caller]
        if caller.timer is not None:
            caller.timer.cancel()
            caller.timer = None
        if caller.check is not None:
            caller.check.cancel()
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(caller.fd)
            if caller.unsent:
                asyncio.get_running_loop().remove_writer(caller.fd)
        if caller.stage is Stage.ANSWERED:
            caller.sock.close()
        else:
            _reset(caller.sock)


def _reset(sock: socket.socket) -> None:
    """Close a connection on which nothing was said, so that no TIME_WAIT is left behind."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
