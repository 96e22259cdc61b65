"""The TCP side of a virtual client: hello out, the hub's UDP port back.

    plain          port [+ name]   ->
                                   <-  UDP port, or a code
    authenticated  AUTH            ->
                                   <-  AUTH, or a code
                        ... TLS from here on, on the same connection ...
                   port, name, user, password  ->
                                   <-  UDP port, or a code

As clients do, the hub's certificate is not verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from dataclasses import dataclass

from loadtest.scenario.model import Hello
from shared.credentials import pack_credentials
from shared.protocol import Answer, PeerError, pack_answer, pack_hello, parse_answer

ANSWER_TIMEOUT_S = 10.0
_CODES = {
    Answer.AUTH: "the hub wants to begin TLS, which nobody asked for",
    Answer.AUTH_REQUIRED: "the hub wants a user name and a password",
    Answer.AUTH_NOT_REQUIRED: "the hub knows no users: leave user name and password out",
    Answer.WRONG_CREDENTIALS: "wrong user name or password",
    Answer.WRONG_TIME: "the user is not allowed in at this time",
}


class HandshakeError(RuntimeError):
    """The hub did not let a client in; the text says what it did instead."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """How one client says hello.

    Attributes:
        hello: which form.
        name: of the client, where the form has one.
        udp_port: that it sends from.
        address: local address to connect from; empty: any.
        username, password: none: no authentication.
    """

    hello: Hello
    name: str
    udp_port: int
    address: str = ""
    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """A hub's answer.

    Attributes:
        hub_port: the UDP port to send to.
        started_ns, answered_ns: CLOCK_MONOTONIC, around it all.
    """

    hub_port: int
    started_ns: int
    answered_ns: int


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and address of a host name, the first that the resolver returns, as clients do.

    Raises:
        OSError: no such host.
    """
    family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    return socket.AddressFamily(family), str(address[0])


async def shake_hands(host: str, port: int, who: Introduction) -> Answered:
    """One handshake.

    Args:
        host: numeric address.

    Raises:
        HandshakeError: refused, no answer, or a code in place of a port.
    """
    started_ns = time.monotonic_ns()
    local = (who.address, 0) if who.address else None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, local_addr=local)
            if who.username:
                await _authenticate(reader, writer, who)
            else:
                writer.write(_plain_hello(who))
            hub_port = await _answer(reader)
    except TimeoutError as error:
        raise HandshakeError(f"no answer in {ANSWER_TIMEOUT_S:g} s") from error
    except asyncio.IncompleteReadError as error:
        text = f"the hub closed the connection after {len(error.partial)} of 4 bytes"
        raise HandshakeError(text) from error
    except (OSError, PeerError) as error:
        raise HandshakeError(str(error)) from error
    finally:
        if writer is not None:
            # The answer is all there is: no good-bye of TLS is waited for, as clients do not.
            writer.transport.abort()
    if not 0 < hub_port <= 0xFFFF:
        raise HandshakeError(_refusal(hub_port))
    return Answered(hub_port, started_ns, time.monotonic_ns())


def _plain_hello(who: Introduction) -> bytes:
    match who.hello:
        case Hello.NAMED:
            return pack_hello(who.udp_port, who.name)
        case Hello.NAMELESS:
            return pack_hello(who.udp_port, "")
        case Hello.SHORT:
            return pack_hello(who.udp_port, None)


async def _authenticate(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: Introduction
) -> None:
    """Up to the credentials; what is answered to them is read by the caller."""
    writer.write(pack_answer(Answer.AUTH))
    first = await _answer(reader)
    if 0 < first <= 0xFFFF:
        raise HandshakeError("the hub does not know how to authenticate")
    if first != Answer.AUTH:
        raise HandshakeError(_refusal(first))
    await writer.start_tls(_context())
    name = "" if who.hello is Hello.NAMELESS else who.name
    writer.write(pack_credentials(who.udp_port, name, who.username, who.password))


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _answer(reader: asyncio.StreamReader) -> int:
    return parse_answer(await reader.readexactly(4))


def _refusal(code: int) -> str:
    with contextlib.suppress(ValueError, KeyError):
        return _CODES[Answer(code)]
    return f"the hub answered {code}, which is no port"
