"""Handshakes with hand-made hubs, over real TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import pytest

from hub.endpoint import handshake
from hub.endpoint.handshake import Introduction, NotLetIn, find, shake_hands
from shared.protocol import Answer, pack_answer, pack_hello

HERE = ip_address("127.0.0.1")
ANNA = Introduction(4465, "Anna")
KNOWN = Introduction(4465, "Anna", ("anna", "secret"))
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def meet(talk: Talk, who: Introduction = ANNA) -> int:
    """Shake hands with a hub that talks like this."""

    async def both() -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await talk(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, str(HERE), 0)
        async with server:
            return await shake_hands(HERE, server.sockets[0].getsockname()[1], who)

    return asyncio.run(both())


def answering(answer: bytes, hello_bytes: int = 68) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(hello_bytes)
        writer.write(answer)

    return talk


def test_a_hub_names_a_port() -> None:
    said = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.readexactly(68))
        writer.write(pack_answer(61002))

    assert meet(talk) == 61002
    assert said == [pack_hello(4465, "Anna")]


@pytest.mark.parametrize(
    ("answer", "why", "final"),
    [
        (pack_answer(Answer.AUTH_REQUIRED), "wants a user name and a password: --auth", True),
        (pack_answer(Answer.AUTH), "answers 65536, which is no port", True),
        (pack_answer(0), "answers 0, which is no port", True),
        (pack_answer(-1), "answers -1, which is no port", True),
        (b"", "hangs up without a word: it is full", False),
        (b"\1\2", "ends after 2 of 4 bytes", False),
    ],
)
def test_what_a_plain_client_is_told(answer: bytes, why: str, final: bool) -> None:
    with pytest.raises(NotLetIn, match=why) as refused:
        meet(answering(answer))
    assert refused.value.final is final


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (pack_answer(Answer.AUTH_NOT_REQUIRED), "asks nobody for a password: leave --auth out"),
        (pack_answer(61002), "does not know passwords: leave --auth out"),
        (pack_answer(Answer.WRONG_CREDENTIALS), "wrong user name or password"),
    ],
)
def test_what_a_client_with_a_password_is_told_in_clear(answer: bytes, why: str) -> None:
    with pytest.raises(NotLetIn, match=why) as refused:
        meet(answering(answer, 4), KNOWN)
    assert refused.value.final


def test_a_hub_that_begins_no_tls_is_none() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(pack_answer(Answer.AUTH) + b"this is no TLS, whatever it may be")
        await writer.drain()
        await asyncio.sleep(0.1)

    with pytest.raises(NotLetIn, match="TLS with the hub fails"):
        meet(talk, KNOWN)


def test_nobody_there_is_told_from_nobody_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((str(HERE), 0))
        port = taken.getsockname()[1]
        with pytest.raises(NotLetIn, match=f"no hub is running at 127.0.0.1 on TCP port {port}"):
            asyncio.run(shake_hands(HERE, port, ANNA))

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(handshake, "ANSWER_S", 0.2)
    with pytest.raises(NotLetIn, match=r"gives no answer in 0\.2 s"):
        meet(mute)


def test_hosts_are_found_by_name_and_by_number() -> None:
    assert asyncio.run(find("127.0.0.1")) == [HERE]
    assert asyncio.run(find("::1")) == [ip_address("::1")]
    with pytest.raises(NotLetIn, match=r"'no\.such\.host\.invalid' is no known machine"):
        asyncio.run(find("no.such.host.invalid"))
    with pytest.raises(NotLetIn, match="is no name that a machine can have"):
        asyncio.run(find("a" * 70 + ".example"))
