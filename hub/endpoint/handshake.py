"""How a client is let in by a hub: its hello over TCP, and the hub's UDP port back.

::

    plain          port, name      ->
                                   <-  UDP port, or a code
    with a login   AUTH            ->
                                   <-  AUTH, or a code
                        ... TLS from here on, on the same connection ...
                   port, name, user, password  ->
                                   <-  UDP port, or a code

As JackTrip's clients do, nobody verifies the hub's certificate: a hub shows one that it has
made itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from dataclasses import dataclass, field

from hub.addresses import IPAddress, parse_sockaddr
from shared.credentials import pack_credentials
from shared.protocol import Answer, PeerError, pack_answer, pack_hello, parse_answer

LOOK_UP_S = 10.0
CONNECT_S = 5.0
ANSWER_S = 10.0
_REFUSALS = {
    Answer.AUTH_REQUIRED: "the hub wants a user name and a password: --auth --username NAME",
    Answer.AUTH_NOT_REQUIRED: "the hub asks nobody for a password: leave --auth out",
    Answer.WRONG_CREDENTIALS: "wrong user name or password",
    Answer.WRONG_TIME: "this user is not allowed in at this time",
}


class NotLetIn(RuntimeError):
    """The hub was not reached, or gave no port; the text says why, in plain words.

    Attributes:
        final: trying again would change nothing.
        answered: the hub is there.
    """

    def __init__(self, why: str, *, final: bool = False, answered: bool = False) -> None:
        super().__init__(why)
        self.final, self.answered = final, answered


@dataclass(frozen=True, slots=True)
class Introduction:
    """How a client says hello.

    Attributes:
        udp_port: that it sends from.
        name: as the hub is to show it.
        login: user name and password, or None.
    """

    udp_port: int
    name: str
    login: tuple[str, str] | None = field(default=None, repr=False)


async def find(host: str) -> list[IPAddress]:
    """Addresses of a host, in the order in which they should be tried; never none.

    Raises:
        NotLetIn: there is none; finally, unless only the name server is out of reach.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[IPAddress]] = loop.create_future()

    def settle(found: list[IPAddress] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def look() -> None:
        found, failed = None, None
        try:
            kinds = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(parse_sockaddr(entry[4])[0] for entry in kinds))
        except (OSError, UnicodeError) as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # nobody waits for it any more
            loop.call_soon_threadsafe(settle, found, failed)

    # a thread that nobody waits for: a name server that is silent must not keep us from ending
    threading.Thread(target=look, name="name look-up", daemon=True).start()
    try:
        async with asyncio.timeout(LOOK_UP_S):
            return await answer
    except TimeoutError:
        raise NotLetIn(f"no name server says who {host!r} is") from None
    except socket.gaierror as error:
        final = error.errno != socket.EAI_AGAIN
        raise NotLetIn(f"{host!r} is no known machine: {error.strerror}", final=final) from None
    except OSError as error:
        raise NotLetIn(f"{host!r} cannot be looked up: {error.strerror}") from None
    except UnicodeError:
        raise NotLetIn(f"{host!r} is no name that a machine can have", final=True) from None


async def shake_hands(address: IPAddress, port: int, who: Introduction) -> int:
    """The UDP port that a hub gives us.

    Raises:
        NotLetIn: none.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(str(address), port)
        except TimeoutError:
            raise NotLetIn(
                f"nothing answers at {address} on TCP port {port}: "
                "the machine is not there, or a firewall swallows it"
            ) from None
        except ConnectionRefusedError:
            raise NotLetIn(f"no hub is running at {address} on TCP port {port}") from None
        async with asyncio.timeout(ANSWER_S):
            if who.login is None:
                writer.write(pack_hello(who.udp_port, who.name))
            else:
                await _log_in(reader, writer, who, who.login)
            answer = await _answer(reader)
    except TimeoutError:
        raise NotLetIn(f"the hub takes the connection, but gives no answer in {ANSWER_S:g} s: "
                       "is it one?") from None  # fmt: skip
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise NotLetIn(f"the hub's answer ends after {len(error.partial)} of 4 bytes") from None
        raise NotLetIn(
            "the hub hangs up without a word: it is full, or lets us not in", answered=True
        ) from None
    except (OSError, PeerError) as error:
        raise NotLetIn(f"the hub cannot be reached: {error or 'it hangs up'}") from None
    finally:
        if writer is not None:  # the answer is all there is: no good-bye of TLS is waited for
            writer.transport.abort()
    if not 0 < answer <= 0xFFFF:
        raise NotLetIn(_refusal(answer), final=True, answered=True)
    return answer


async def _log_in(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    who: Introduction,
    login: tuple[str, str],
) -> None:
    """Up to the credentials; what is answered to them is read by the caller."""
    writer.write(pack_answer(Answer.AUTH))
    first = await _answer(reader)
    if 0 < first <= 0xFFFF:
        raise NotLetIn(
            "the hub does not know passwords: leave --auth out", final=True, answered=True
        )
    if first != Answer.AUTH:
        raise NotLetIn(_refusal(first), final=True, answered=True)
    try:
        await writer.start_tls(_context())
    except OSError as error:  # those of TLS among them
        why = getattr(error, "reason", None) or error.strerror or "it hangs up"
        raise NotLetIn(f"TLS with the hub fails: {why}") from None
    writer.write(pack_credentials(who.udp_port, who.name, *login))


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
        return _REFUSALS[Answer(code)]
    return f"the hub answers {code}, which is no port"
