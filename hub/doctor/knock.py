"""A hub's TCP door: does anybody open, is it a hub, and does it let us in?

What JackTrip's protocol cannot say is told by how a connection ends::

    connect ──► refused | no answer | unreachable
       └──► hello ──► 1..65535            the UDP port: we are in
                  ──► a code of Answer    password wanted, wrong, ...
                  ──► other bytes         something else listens there
                  ──► reset               turned away unheard (network, ban, too many)
                  ──► end                 turned away: full, locked, ...
                  ──► nothing             a hub that hangs, or something else
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from hub.doctor.line import Line, Problem
from hub.doctor.names import Address
from hub.listener import round_trip_s
from shared.credentials import pack_credentials
from shared.protocol import Answer, pack_answer, pack_hello, parse_answer

CONNECT_TIMEOUT_S = 4.0
"""A lost SYN is sent again after 1 and 3 s."""
ANSWER_TIMEOUT_S = 5.0
TEXT_BYTES, TEXT_WAIT_S = 200, 0.3
"""Of what something that is no hub says; and how long it is listened to."""
ASK_S = 3.5
"""A router asks for 3 s who has an address, before it says that nobody has."""
MOST_AT_ONCE = 16
"""Addresses of a name that are tried side by side."""


class Door(StrEnum):
    """What became of a TCP connection."""

    OPEN = "open"
    REFUSED = "refused"
    NO_ANSWER = "no-answer"
    PROHIBITED = "prohibited"
    """A firewall says no: its machine, or one before it, is there."""
    ABSENT = "absent"
    """A router at its place says that the machine does not answer."""
    UNREACHABLE = "unreachable"


class Reply(StrEnum):
    """What became of a hello."""

    PORT = "port"
    AUTH_REQUIRED = "auth-required"
    AUTH_NOT_REQUIRED = "auth-not-required"
    AUTH_UNKNOWN = "auth-unknown"
    WRONG_CREDENTIALS = "wrong-credentials"
    WRONG_TIME = "wrong-time"
    TLS_FAILED = "tls-failed"
    NOT_A_HUB = "not-a-hub"
    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"
    REFUSED = "refused"
    """The connection: nobody listens any more."""
    NO_ANSWER = "no-answer"
    """No connection stands: nothing gets through any more."""


_CODES = {
    Answer.AUTH_REQUIRED: Reply.AUTH_REQUIRED,
    Answer.AUTH_NOT_REQUIRED: Reply.AUTH_NOT_REQUIRED,
    Answer.WRONG_CREDENTIALS: Reply.WRONG_CREDENTIALS,
    Answer.WRONG_TIME: Reply.WRONG_TIME,
}


@dataclass(frozen=True, slots=True)
class Account:
    """Who we say we are, to a hub that asks."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Reached:
    """An address's TCP port.

    Attributes:
        took_s: until the connection stood: a round trip, unless a packet was lost.
        said: the system's words for what went wrong.
    """

    address: Address
    door: Door
    took_s: float = 0.0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a hello.

    Attributes:
        udp_port: of the hub, for us; 0: none was given.
        said: what something that is no hub, or TLS, has to say.
        took_s: from hello to answer.
        local: our own address on the way to the hub.
    """

    reply: Reply
    udp_port: int = 0
    said: str = ""
    took_s: float = 0.0
    local: str = ""


def reach(addresses: tuple[Address, ...], port: int) -> list[Reached]:
    """Whether each address's TCP port opens, all at the same time; nothing is said there."""
    with ThreadPoolExecutor(min(len(addresses), MOST_AT_ONCE) or 1) as pool:
        return list(pool.map(lambda address: _reach(address, port), addresses))


def _reach(address: Address, port: int) -> Reached:
    began = time.monotonic()
    try:
        with connect(address, port) as tcp:
            took_s = time.monotonic() - began
            return Reached(address, Door.OPEN, round_trip_s(tcp) or took_s)
    except ConnectionResetError:  # opened, and turned away before it could be seen
        return Reached(address, Door.OPEN, time.monotonic() - began)
    except TimeoutError:
        return Reached(address, Door.NO_ANSWER, said=f"nothing within {CONNECT_TIMEOUT_S:g} s")
    except ConnectionRefusedError as error:
        return Reached(address, Door.REFUSED, said=str(error.strerror))
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno == errno.EHOSTUNREACH:
            return _unreachable(address, port, said)
        return Reached(address, Door.UNREACHABLE, said=said)


def _unreachable(address: Address, port: int, said: str) -> Reached:
    """Who says so? TCP does not tell, and UDP to the same port does."""
    try:
        line = Line(address)
    except OSError:
        return Reached(address, Door.UNREACHABLE, said=said)
    try:
        complaint = line.ask(port, ASK_S)
        own = line.own_address()
    finally:
        line.close()
    if complaint is None or complaint.source in ("", own):
        return Reached(address, Door.UNREACHABLE, said=said)
    said = f"{said}, says {complaint.source}"
    if complaint.problem is Problem.PROHIBITED or complaint.source == address.bare:
        return Reached(address, Door.PROHIBITED, said=said)
    return Reached(address, Door.ABSENT, said=said)


def connect(address: Address, port: int) -> socket.socket:
    """A TCP connection.

    Raises:
        OSError: as ``socket.connect``.
    """
    return socket.create_connection((address.text, port), CONNECT_TIMEOUT_S)


def say_hello(
    address: Address, port: int, udp_port: int, name: str | None, account: Account | None = None
) -> Answered:
    """One handshake; it takes a place at the hub until we play and leave, or for 10 s.

    Args:
        udp_port: that we play from.
        name: that we are shown by; None: the short hello of clients before 1.3.
        account: None: the plain hello.
    """
    try:
        tcp = connect(address, port)
    except OSError as error:
        said = error.strerror or str(error)
        match error:
            case ConnectionResetError():
                return Answered(Reply.RESET, said=said)
            case ConnectionRefusedError():
                return Answered(Reply.REFUSED, said=said)
        return Answered(Reply.NO_ANSWER, said=said)
    began = time.monotonic()
    with tcp:
        tcp.settimeout(ANSWER_TIMEOUT_S)
        local = str(tcp.getsockname()[0])
        try:
            if account is None:
                tcp.sendall(pack_hello(udp_port, name))
                answered = _judge(*_read(tcp))
            else:
                answered = _log_in(tcp, udp_port, name or "", account)
        except TimeoutError:
            answered = Answered(Reply.SILENT)
        except ssl.SSLError as error:
            answered = Answered(Reply.TLS_FAILED, said=error.reason or str(error))
        except OSError as error:
            unheard = error.errno in (errno.ECONNRESET, errno.EPIPE)
            reply = Reply.RESET if unheard else Reply.NO_ANSWER
            answered = Answered(reply, said=error.strerror or str(error))
    took_s = time.monotonic() - began
    return Answered(answered.reply, answered.udp_port, answered.said, took_s, local)


def _log_in(tcp: socket.socket, udp_port: int, name: str, account: Account) -> Answered:
    tcp.sendall(pack_answer(Answer.AUTH))
    first, more = _read(tcp)
    if len(first) == 4 and parse_answer(first) == Answer.AUTH:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # as clients do: certificates sign themselves
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(tcp) as secure:
            secure.sendall(pack_credentials(udp_port, name, account.user, account.password))
            return _judge(*_read(secure))
    answered = _judge(first, more)
    if answered.reply is Reply.PORT:
        return Answered(Reply.AUTH_UNKNOWN)
    return answered


def _read(tcp: socket.socket) -> tuple[bytes, bytes]:
    """The answer, and what follows it if it is none of a hub's; neither may come in drops."""
    data = b""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while len(data) < 4 and (more := _receive(tcp, 4 - len(data), deadline)):
        data += more
    rest = b""
    if len(data) == 4 and not _is_a_hubs(data):
        deadline = time.monotonic() + TEXT_WAIT_S
        try:
            while len(rest) < TEXT_BYTES and (
                more := _receive(tcp, TEXT_BYTES - len(rest), deadline)
            ):
                rest += more
        except OSError:
            pass  # it has said enough
    return data, rest


def _receive(tcp: socket.socket, most: int, deadline: float) -> bytes:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    tcp.settimeout(left_s)
    return tcp.recv(most)


def _is_a_hubs(data: bytes) -> bool:
    value = parse_answer(data)
    return 0 < value <= 0xFFFF or value in _CODES or value == Answer.AUTH


def _judge(data: bytes, rest: bytes) -> Answered:
    """Sans-IO: four bytes or less, and what came after them."""
    if not data:
        return Answered(Reply.CLOSED)
    if len(data) < 4 or not _is_a_hubs(data):
        return Answered(Reply.NOT_A_HUB, said=_printable(data + rest))
    value = parse_answer(data)
    if value in _CODES:
        return Answered(_CODES[Answer(value)])
    if value == Answer.AUTH:  # nobody asked for TLS
        return Answered(Reply.NOT_A_HUB, said=_printable(data))
    return Answered(Reply.PORT, value)


def _printable(data: bytes) -> str:
    """The first line of what somebody says."""
    line = data.decode("utf-8", errors="replace").splitlines()[0] if data else ""
    return "".join(char if char.isprintable() else "·" for char in line)[:80]
