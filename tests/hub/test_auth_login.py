"""Logins with real TLS clients at a real door: certificate, users, hashing process and all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.addresses import IPAddress, Peer
from hub.auth import secure
from hub.auth.authority import FAILURES_AT_ONCE, FAILURES_PER_MINUTE, AuthFiles, Authority
from hub.auth.certificate import self_signed
from hub.auth.hasher import Hasher, HasherFailed
from hub.auth.passwords import new_hash, password_digest
from hub.auth.results import Login
from hub.auth.secure import SecureGreeting
from hub.auth.tls import load_identity
from hub.auth.turns import MAX_WAITING_SOURCE, FairQueue, QueueFull
from hub.endpoint.handshake import Introduction, NotLetIn, shake_hands
from hub.handshake import Doorkeeper
from shared.credentials import Credentials, pack_credentials
from shared.protocol import Answer, Hello, PeerError, pack_answer, pack_hello, parse_answer
from tests.hub.loops import DEADLINE_S, in_a_loop

PORT = 61007
SUNDAY_NOON = datetime(2026, 11, 22, 12)
HASH = new_hash(b"wieck")
USERS = f"clara:{HASH}:*\nrobert:{HASH}:Mo*\nžofie:{HASH}:Su1200-1300\n"
AUTH_REQUEST = pack_answer(Answer.AUTH)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("pair")
    certificate, key = self_signed("127.0.0.1", 30)
    (folder / "hub.crt").write_bytes(certificate)
    (folder / "hub.key").write_bytes(key)
    return folder / "hub.crt", folder / "hub.key"


@pytest.fixture
def files(pair: tuple[Path, Path], tmp_path: Path) -> AuthFiles:
    """Files of a test's own."""
    certificate, key, users = (tmp_path / name for name in ("hub.crt", "hub.key", "users"))
    certificate.write_bytes(pair[0].read_bytes())
    key.write_bytes(pair[1].read_bytes())
    users.write_text(USERS)
    return AuthFiles(certificate, key, users)


def peer(address: str) -> Peer:
    return Peer(ip_address(address), 40000, ip_address("127.0.0.1"))


def claim(user: str, password: str) -> Credentials:
    return Credentials(4464, "", user, password.encode())


class Door:
    """A door that asks for credentials."""

    def __init__(self, files: AuthFiles) -> None:
        self.authority = Authority(files, local_time=lambda: SUNDAY_NOON)
        self.guests: list[Hello] = []
        self.ports: list[int | None] = []
        self.away: list[tuple[Login, str]] = []
        self.keeper = Doorkeeper(
            self._welcome, 64, authority=self.authority, turned_away=self._turn_away
        )

    def _turn_away(self, login: Login, source: IPAddress) -> None:
        self.away.append((login, str(source)))

    def _welcome(self, hello: Hello, peer: Peer) -> int | None:
        self.guests.append(hello)
        return self.ports.pop(0) if self.ports else PORT

    async def login(
        self,
        user: str = "clara",
        password: str = "wieck",
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        udp_port: int = 4464,
    ) -> int | None:
        """What a client is answered inside TLS; None for an end without an answer."""
        reader, writer = await self.secured(version)
        try:
            writer.write(pack_credentials(udp_port, "Anna", user, password))
            data = await reader.read()
            return parse_answer(data) if data else None
        finally:
            writer.close()

    async def secured(
        self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection inside TLS."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.keeper.port)
        writer.write(AUTH_REQUEST)
        assert await reader.readexactly(4) == AUTH_REQUEST
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        await writer.start_tls(context)
        return reader, writer


@asynccontextmanager
async def door(files: AuthFiles) -> AsyncIterator[Door]:
    opened = Door(files)
    opened.keeper.bind(0)
    opened.keeper.open()
    opened.authority.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield opened
    finally:
        opened.keeper.close()
        await opened.authority.close()


async def until_empty(keeper: Doorkeeper) -> None:
    while keeper.pending:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_right_password_opens(files: AuthFiles, version: ssl.TLSVersion) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            assert await entrance.login(version=version) == PORT
            assert entrance.guests == [Hello(4464, "Anna", True, account="clara")]
            assert entrance.keeper.logins == {Login.OK: 1}
            await until_empty(entrance.keeper)

    asyncio.run(run())


def test_refusals_have_the_originals_codes(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            for user, password, answer in (
                ("clara", "wieck", PORT),
                ("clara", "schumann", Answer.WRONG_CREDENTIALS),
                ("Clara", "wieck", Answer.WRONG_CREDENTIALS),
                ("nobody", "wieck", Answer.WRONG_CREDENTIALS),
                ("", "wieck", Answer.WRONG_CREDENTIALS),
                ("clara", "", Answer.WRONG_CREDENTIALS),
                ("robert", "wieck", Answer.WRONG_TIME),
                ("robert", "wrong", Answer.WRONG_CREDENTIALS),
                ("žofie", "wieck", PORT),
            ):
                assert await entrance.login(user, password) == answer, (user, password)
            logins = entrance.keeper.logins
            assert logins == {Login.OK: 2, Login.WRONG_CREDENTIALS: 6, Login.WRONG_TIME: 1}
            told = sorted(login.value for login, _ in entrance.away)
            assert told == ["wrong-credentials"] * 6 + ["wrong-time"]
            assert await entrance.login(udp_port=0) == PORT
            for _ in range(FAILURES_AT_ONCE):
                await entrance.authority.check(claim("", ""), peer("127.0.0.1"))
            assert await entrance.login() == Answer.WRONG_CREDENTIALS
            assert logins[Login.LIMITED] == 1

    asyncio.run(run())


def test_a_full_hub_ends_tls_without_an_answer(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            entrance.ports = [None]
            assert await entrance.login() is None
            assert entrance.keeper.counts.full == 1

    asyncio.run(run())


def test_a_plain_client_is_told_in_clear(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            for hello in (pack_hello(4464, "Anna"), pack_hello(4464, None), b"\0\0\0\0\1\2\0\0"):
                reader, writer = await asyncio.open_connection("127.0.0.1", entrance.keeper.port)
                writer.write(hello)
                assert parse_answer(await reader.read()) == Answer.AUTH_REQUIRED
                writer.close()
            assert entrance.keeper.logins == {Login.REQUIRED: 3}
            assert entrance.away == [(Login.REQUIRED, "127.0.0.1")] * 3
            assert not entrance.guests

    asyncio.run(run())


def test_a_client_that_hurries_into_tls_is_served(files: AuthFiles) -> None:
    """Its first TLS message has come together with the request."""

    def client(port: int) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(AUTH_REQUEST + outgoing.read())
            assert sock.recv(4, socket.MSG_WAITALL) == AUTH_REQUEST
            incoming.write(sock.recv(65536))
            tls.do_handshake()
            tls.write(pack_credentials(4464, "", "clara", "wieck"))
            sock.sendall(outgoing.read())
            while True:
                try:
                    return parse_answer(tls.read(4))
                except ssl.SSLWantReadError:
                    incoming.write(sock.recv(65536))

    async def run() -> None:
        async with door(files) as entrance:
            assert await asyncio.to_thread(client, entrance.keeper.port) == PORT

    asyncio.run(run())


def test_tls_that_is_none_is_ended(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            for nonsense in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(600), b""):
                reader, writer = await asyncio.open_connection("127.0.0.1", entrance.keeper.port)
                writer.write(AUTH_REQUEST + nonsense)
                writer.write_eof()
                assert (await reader.read()).startswith(AUTH_REQUEST)
                writer.close()
            assert entrance.keeper.logins == {Login.BROKEN: 3}
            assert entrance.away == [(Login.BROKEN, "127.0.0.1")] * 3
            await until_empty(entrance.keeper)

    asyncio.run(run())


def test_nonsense_inside_tls_is_ended(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            reader, writer = await entrance.secured()
            writer.write(b"\xff" * 100)
            assert await reader.read() == b""
            writer.close()
            assert entrance.keeper.logins == {Login.BROKEN: 1}

    asyncio.run(run())


def test_who_says_nothing_inside_tls_is_let_go(
    files: AuthFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "SECURE_TIMEOUT_S", 0.1)

    async def run() -> None:
        async with door(files) as entrance:
            reader, writer = await entrance.secured()
            assert await reader.read() == b""
            writer.close()
            assert entrance.keeper.logins == {Login.BROKEN: 1}

    asyncio.run(run())


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.booleans())
def test_no_bytes_break_a_greeting_inside_tls(chunks: list[bytes], handshake: bool) -> None:
    """Chance bytes look like TLS when they begin like one of its messages."""
    greeting = SecureGreeting(CONTEXT[0], 0.0)

    def feed() -> None:
        for chunk in chunks:
            head = b"\x16\x03\x01" + len(chunk).to_bytes(2, "big") if handshake else b""
            assert greeting.receive(head + chunk) is None
            assert len(greeting.outgoing()) < 65536
        greeting.receive(b"")

    with pytest.raises(PeerError, match=r"tls: |credentials: "):
        feed()
    greeting.answer(Answer.WRONG_CREDENTIALS)
    greeting.outgoing()


CONTEXT: list[ssl.SSLContext] = []


@pytest.fixture(scope="module", autouse=True)
def context(pair: tuple[Path, Path]) -> Iterator[None]:
    """Hypothesis takes no fixture's value of a test's own."""
    CONTEXT.append(load_identity(*pair).context)
    yield
    CONTEXT.clear()


def test_a_new_certificate_is_for_new_connections(files: AuthFiles) -> None:
    certificate, key = self_signed("hub.example.org", 60)

    def shown(writer: asyncio.StreamWriter) -> bytes:
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found

    async def run() -> None:
        async with door(files) as entrance:
            old_reader, old = await entrance.secured()
            before = entrance.authority.context
            files.key.write_bytes(key)
            files.certificate.write_bytes(certificate)
            while entrance.authority.context is before:
                await asyncio.sleep(0.02)
            _, new = await entrance.secured()
            assert shown(new) == ssl.PEM_cert_to_DER_cert(certificate.decode())
            assert shown(old) != shown(new)
            old.write(pack_credentials(4464, "Anna", "clara", "wieck"))
            assert parse_answer(await old_reader.read()) == PORT
            old.close()
            new.close()

    asyncio.run(run())


# ---- storms and limits


def test_an_unknown_user_costs_what_a_known_one_does(
    files: AuthFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[tuple[int, int]] = []

    async def digest(self: Hasher, password: bytes, salt: str) -> str:
        hashed.append((len(password), len(salt)))
        return password_digest(password, salt)

    monkeypatch.setattr(Hasher, "digest", digest)

    async def run() -> None:
        authority = Authority(files)
        authority.start()
        for user in ("clara", "nobody"):
            login = await authority.check(claim(user, "wrong"), peer("192.0.2.1"))
            assert login is Login.WRONG_CREDENTIALS
        await authority.close()

    asyncio.run(run())
    assert hashed[-2] == hashed[-1] == (5, 16)


def test_a_login_storm_holds_up_nobody(files: AuthFiles) -> None:
    """The loop turns while passwords are hashed; and the storm's source alone waits for it."""

    async def run() -> None:
        authority = Authority(files, local_time=lambda: SUNDAY_NOON)
        authority.start()
        bad = [claim("clara", f"guess {k}") for k in range(15)]
        storm, other = peer("192.0.2.1"), peer("2001:db8::1")
        try:
            await authority.check(claim("clara", "wieck"), other)  # the process is there
            attempts = [
                asyncio.create_task(authority.check(credentials, storm)) for credentials in bad
            ]
            await asyncio.sleep(0)
            turns = 0
            good = asyncio.create_task(authority.check(claim("clara", "wieck"), other))
            while not good.done():
                await asyncio.sleep(0)
                turns += 1
            assert await good is Login.OK
            # it was second in turn, whatever the storm had sent before
            done = sum(attempt.done() for attempt in attempts)
            assert done <= 3
            # while a hash was computed on this thread the loop would turn but a few times
            assert turns > 30 * (done + 1)
            results = await asyncio.gather(*attempts)
            assert set(results) == {Login.WRONG_CREDENTIALS}
        finally:
            await authority.close()

    asyncio.run(run())


def test_a_source_that_fails_too_often_is_not_heard_for_a_while(files: AuthFiles) -> None:
    async def run() -> None:
        now = 1000.0
        authority = Authority(files, clock=lambda: now, local_time=lambda: SUNDAY_NOON)
        authority.start()
        guesser, neighbour = peer("2001:db8::1"), peer("2001:db8:0:0:ffff::2")
        elsewhere = peer("2001:db8:0:1::1")
        right, wrong = claim("clara", "wieck"), claim("clara", "x")
        try:
            for _ in range(FAILURES_AT_ONCE):
                assert await authority.check(wrong, guesser) is Login.WRONG_CREDENTIALS
            assert await authority.check(right, guesser) is Login.LIMITED
            assert await authority.check(right, neighbour) is Login.LIMITED
            assert await authority.check(right, elsewhere) is Login.OK
            now += 60 / FAILURES_PER_MINUTE + 0.1
            assert await authority.check(right, guesser) is Login.OK
            assert await authority.check(wrong, guesser) is Login.WRONG_CREDENTIALS
            assert await authority.check(right, guesser) is Login.LIMITED
        finally:
            await authority.close()

    asyncio.run(run())


def test_a_class_behind_one_router_comes_in_at_once(files: AuthFiles) -> None:
    async def run() -> None:
        async with door(files) as entrance:
            answers = await asyncio.gather(*(entrance.login() for _ in range(40)))
            assert answers == [PORT] * 40

    asyncio.run(run())


@in_a_loop
async def test_a_queue_takes_sources_in_turn_and_has_an_end() -> None:
    order: list[str] = []

    async def work(job: str) -> str:
        order.append(job)
        return job.upper()

    queue: FairQueue[str, str] = FairQueue(work)
    jobs = [asyncio.create_task(queue.done(job[0], job)) for job in ("a1", "a2", "a3", "b1", "c1")]
    gone = asyncio.create_task(queue.done("c", "c2"))
    crowd = [asyncio.create_task(queue.done("x", "x")) for _ in range(MAX_WAITING_SOURCE)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await queue.done("x", "one too many")
    gone.cancel()
    runner = asyncio.create_task(queue.run())
    assert await asyncio.gather(*jobs) == ["A1", "A2", "A3", "B1", "C1"]
    assert [job for job in order if job != "x"] == ["a1", "b1", "c1", "a2", "a3"]
    await asyncio.gather(*crowd)
    late = asyncio.create_task(queue.done("z", "z"))
    runner.cancel()
    await asyncio.wait([late, runner])
    assert late.cancelled() or late.result() == "Z"


@in_a_loop
async def test_a_hasher_that_died_is_replaced() -> None:
    hasher = Hasher()
    assert await hasher.digest(b"wieck", "salt") == password_digest(b"wieck", "salt")
    process = hasher._process
    assert process is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 10
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(HasherFailed):
        await hasher.digest(b"wieck", "salt")
    assert await hasher.digest(b"", "") == password_digest(b"", "")
    await hasher.close()


def test_our_own_client_is_let_in_or_told_why_not(files: AuthFiles) -> None:
    here = ip_address("127.0.0.1")

    @in_a_loop
    async def test() -> None:
        async with door(files) as opened:

            async def joins(login: tuple[str, str] | None) -> int:
                return await shake_hands(here, opened.keeper.port, Introduction(0, "Anna", login))

            assert await joins(("clara", "wieck")) == PORT
            for login, why in (
                (("clara", "schumann"), "wrong user name or password"),
                (("robert", "wieck"), "this user is not allowed in at this time"),
                (None, "the hub wants a user name and a password: --auth --username NAME"),
            ):
                with pytest.raises(NotLetIn) as refused:
                    await joins(login)
                assert (str(refused.value), refused.value.final) == (why, True)
        assert [guest.account for guest in opened.guests] == ["clara"]

    test()
