"""Handshakes with small real servers, in clear and over TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loadtest.conduct import handshake, servers
from loadtest.conduct.handshake import (
    Answered,
    HandshakeError,
    Introduction,
    resolve,
    shake_hands,
)
from loadtest.conduct.ports import PORTS
from loadtest.scenario.model import Hello
from shared.credentials import pack_credentials
from shared.protocol import HELLO_BYTES, Answer, encode_name, pack_answer, pack_hello
from tests.golden import VECTORS

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of a hub, self-signed, in one file."""
    path = tmp_path_factory.mktemp("tls") / "hub.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody",
         "-keyout", path, "-out", path.with_suffix(".crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def introduce(
    hub: Peer, hello: Hello = Hello.NAMED, username: str = "", password: str = "", address: str = ""
) -> Answered:
    """A client shakes hands with a server that treats each connection so."""

    async def both() -> Answered:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await hub(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            who = Introduction(hello, "choir 1", 4464, address, username, password)
            return await shake_hands("127.0.0.1", port, who)

    return asyncio.run(both())


def answering(value: int, heard: list[bytes] | None = None, wanted: int = 4) -> Peer:
    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(wanted)
        if heard is not None:
            heard.append(data)
        writer.write(pack_answer(value))
        await writer.drain()

    return hub


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (Hello.NAMED, pack_hello(4464, "choir 1")),
        (Hello.NAMELESS, pack_hello(4464, "")),
        (Hello.SHORT, pack_hello(4464, None)),
    ],
)
def test_every_hello_is_the_protocols(hello: Hello, expected: bytes) -> None:
    heard: list[bytes] = []

    answered = introduce(answering(61002, heard, len(expected)), hello)

    assert answered.hub_port == 61002
    assert answered.started_ns < answered.answered_ns
    assert heard == [expected]


def test_clients_come_from_their_own_address() -> None:
    peers = []

    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await answering(61002, wanted=HELLO_BYTES)(reader, writer)

    introduce(hub, address="127.1.2.3")

    assert peers == ["127.1.2.3"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Answer.AUTH_REQUIRED, "wants a user name"),
        (Answer.AUTH, "TLS"),
        (99 << 16, "6488064, which is no port"),
        (0, "0, which is no port"),
        (-5, "-5, which is no port"),
    ],
)
def test_codes_in_place_of_a_port_are_refusals(code: int, text: str) -> None:
    with pytest.raises(HandshakeError, match=text):
        introduce(answering(code))


def test_a_hub_that_closes_is_an_error() -> None:
    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"\1\2")

    with pytest.raises(HandshakeError, match="closed the connection after 2 of 4 bytes"):
        introduce(hub)


def test_a_hub_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "ANSWER_TIMEOUT_S", 0.2)

    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(HandshakeError, match=r"no answer in 0\.2 s"):
        introduce(hub)


def test_no_hub_is_an_error() -> None:
    async def alone() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await shake_hands("127.0.0.1", port, Introduction(Hello.NAMED, "a", 4464))

    with pytest.raises(HandshakeError, match="onnect"):
        asyncio.run(alone())


class Guarded:
    """A hub that asks for credentials, as the protocol has it."""

    def __init__(self, certificate: Path, value: int) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.value = value
        self.credentials = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(4) == pack_answer(Answer.AUTH)
        writer.write(pack_answer(Answer.AUTH))
        await writer.start_tls(self.context)
        head = await reader.readexactly(76)
        user, password = struct.unpack_from("<ii", head, 68)
        self.credentials = head + await reader.readexactly(user + password + 2)
        writer.write(pack_answer(self.value))
        await writer.drain()


def test_credentials_go_through_tls(certificate: Path) -> None:
    hub = Guarded(certificate, 61007)

    assert introduce(hub, username="clara", password="wieck").hub_port == 61007

    name = encode_name("choir 1")
    assert hub.credentials == (
        struct.pack("<i", 4464) + name + struct.pack("<ii", 5, 5) + b"clara\0wieck\0"
    )


def test_credentials_are_packed_as_the_original_packs_them() -> None:
    golden = VECTORS["tls_credentials_message"]

    assert pack_credentials(4764, "nm", "alice", "s\u00e9cret") == golden.data


@pytest.mark.parametrize(
    ("code", "text"),
    [(Answer.WRONG_CREDENTIALS, "wrong user name"), (Answer.WRONG_TIME, "not allowed in at this")],
)
def test_refused_credentials_are_said(certificate: Path, code: int, text: str) -> None:
    with pytest.raises(HandshakeError, match=text):
        introduce(Guarded(certificate, code), username="clara", password="wieck")


def test_a_hub_without_users_is_said() -> None:
    with pytest.raises(HandshakeError, match="knows no users"):
        introduce(answering(Answer.AUTH_NOT_REQUIRED), username="clara", password="wieck")


def test_a_hub_that_is_too_old_is_said() -> None:
    with pytest.raises(HandshakeError, match="does not know how to authenticate"):
        introduce(answering(61002), username="clara", password="wieck")


def test_broken_tls_is_an_error() -> None:
    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(Answer.AUTH)(reader, writer)
        await reader.read(1)  # its side of TLS has begun
        writer.write(b"this is no TLS at all, as anybody can see")
        await writer.drain()
        await reader.read()

    with pytest.raises(HandshakeError):
        introduce(hub, username="clara", password="wieck")


@pytest.mark.end_to_end
def test_the_originals_authentication(certificate: Path, tmp_path: Path) -> None:
    """Its hub answers handshakes without JACK."""
    if lacking := servers.missing_programs():
        assert os.environ.get("CI") != "true", lacking
        pytest.skip(f"needs {', '.join(lacking)}")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "wieck"], check=True, capture_output=True, text=True
    )
    users = tmp_path / "users"
    users.write_text(f"clara:{hashed.stdout.strip()}:*\n")
    port, udp = PORTS.take(), PORTS.take(8)
    command = [
        "jacktrip", "-S", "-A", "-B", str(port), "-U", str(udp), "--certfile", str(certificate),
        "--keyfile", str(certificate), "--credsfile", str(users),
    ]  # fmt: skip
    environment = os.environ | {"JACK_NO_START_SERVER": "1", "JACK_DEFAULT_SERVER": "nobody"}

    def enter(**credentials: str) -> Answered:
        who = Introduction(Hello.NAMED, "choir 1", 4464, "", **credentials)
        return asyncio.run(shake_hands("127.0.0.1", port, who))

    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as hub:
        try:
            listening(port)
            assert enter(username="clara", password="wieck").hub_port == udp
            with pytest.raises(HandshakeError, match="wrong user name"):
                enter(username="clara", password="schumann")
            with pytest.raises(HandshakeError, match="wants a user name"):
                enter()
        finally:
            hub.kill()


def listening(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "the hub does not listen"
            time.sleep(0.05)
        else:
            return


def test_hosts_are_resolved_once() -> None:
    assert resolve("127.0.0.1")[1] == "127.0.0.1"
    with pytest.raises(socket.gaierror):
        resolve("nowhere.invalid")
