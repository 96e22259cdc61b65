"""The door: what one connection may say, and how many may say it at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.addresses import IPAddress, Peer
from hub.greeting import Greeting
from hub.handshake import Doorkeeper
from hub.listener import bind_dual_stack, pending_limit, raise_descriptor_limit
from shared.protocol import (
    HELLO_BYTES,
    HELLO_TIMEOUT_S,
    NAME_BYTES,
    NAME_GRACE_S,
    Answer,
    Hello,
    PeerError,
    pack_hello,
    parse_answer,
)
from tests.hub.loops import in_a_loop

DEADLINE_S = 20.0
FOR_EVER_S = 3600.0


def greet(*chunks: bytes, now: float = 0.0) -> Hello | None:
    """Result of a greeting that came in these chunks, all at the same time."""
    greeting = Greeting(now)
    for chunk in chunks:
        greeting.receive(chunk, now)
    return greeting.result(now)


def test_a_complete_hello_is_answered_at_once() -> None:
    assert greet(pack_hello(4464, "Anna")) == Hello(4464, "Anna", True)


def test_a_hello_without_name_waits_for_the_grace() -> None:
    greeting = Greeting(0.0)
    greeting.receive(pack_hello(4464, None), 1.0)
    assert greeting.result(1.0) is None
    assert greeting.deadline == 1.0 + NAME_GRACE_S
    assert greeting.result(greeting.deadline) == Hello(4464, "", False)


def test_a_name_within_the_grace_is_taken() -> None:
    greeting = Greeting(0.0)
    hello = pack_hello(4464, "Anna")
    greeting.receive(hello[:30], 1.0)
    greeting.receive(hello[30:], 1.04)
    assert greeting.result(1.04) == Hello(4464, "Anna", True)


def test_the_grace_does_not_start_anew_with_every_byte() -> None:
    greeting = Greeting(0.0)
    hello = pack_hello(4464, "Anna")
    greeting.receive(hello[:4], 1.0)
    greeting.receive(hello[4:5], 1.04)
    assert greeting.deadline == 1.0 + NAME_GRACE_S


def test_a_port_in_the_last_moment_has_no_grace_beyond_the_time_out() -> None:
    greeting = Greeting(0.0)
    greeting.receive(pack_hello(4464, None), HELLO_TIMEOUT_S - 0.01)
    assert greeting.deadline == HELLO_TIMEOUT_S


def test_silence_is_dropped_after_five_seconds() -> None:
    greeting = Greeting(0.0)
    assert greeting.result(HELLO_TIMEOUT_S - 0.01) is None
    with pytest.raises(PeerError, match="no port within 5 s"):
        greeting.result(HELLO_TIMEOUT_S)


def test_an_end_after_the_port_is_a_hello_without_name() -> None:
    assert greet(pack_hello(4464, "Anna")[:40], b"") == Hello(4464, "", False)


def test_an_end_before_the_port_is_an_error() -> None:
    with pytest.raises(PeerError, match="ended"):
        greet(b"\1\2", b"")


def test_who_asks_for_authentication_is_not_asked_for_a_name() -> None:
    hello = greet(struct.pack("<i", Answer.AUTH))
    assert hello is not None
    assert hello.wants_auth


@given(st.lists(st.binary(max_size=80), max_size=20))
@example([b"\0\0\0\0"] * 20)
@example([bytes(HELLO_BYTES)])
@example([b"\xff" * HELLO_BYTES])
def test_no_bytes_in_any_chunks_break_a_greeting(chunks: list[bytes]) -> None:
    greeting = Greeting(0.0)
    try:
        for chunk in chunks:
            greeting.receive(chunk, 0.0)
        hello = greeting.result(FOR_EVER_S)
    except PeerError:
        return
    assert hello is not None
    assert len(hello.name.encode()) <= 3 * NAME_BYTES  # each bad byte becomes three of U+FFFD
    assert all(char.isprintable() for char in hello.name)


@given(st.binary(min_size=1, max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_a_hello_means_the_same_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    def outcome(*chunks: bytes) -> Hello | str | None:
        try:
            return greet(*chunks)
        except PeerError as error:
            return str(error)

    ends = sorted({*cuts, len(data)} & set(range(1, len(data) + 1)))
    chunks = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert outcome(*chunks) == outcome(data)


# ---- with sockets


@asynccontextmanager
async def door(
    ports: list[int] | None = None, max_pending: int = 64
) -> AsyncIterator[tuple[Doorkeeper, list[tuple[Hello, Peer]]]]:
    """A listening doorkeeper that gives these ports (or 50000 for ever), and its guests."""
    guests: list[tuple[Hello, Peer]] = []

    def welcome(hello: Hello, peer: Peer) -> int | None:
        guests.append((hello, peer))
        if ports is None:
            return 50000
        return ports.pop(0) if ports else None

    keeper = Doorkeeper(welcome, max_pending)
    keeper.bind(0)
    keeper.open()
    try:
        yield keeper, guests
    finally:
        keeper.close()


async def say(port: int, *chunks: bytes, pause_s: float = 0.0, host: str = "127.0.0.1") -> bytes:
    """Connect, send the chunks, and return all that comes until the hub's end."""
    reader, writer = await asyncio.open_connection(host, port)
    for chunk in chunks:
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(pause_s)
    try:
        return await reader.read()
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def holds_no_connection(keeper: Doorkeeper) -> None:
    await until(lambda: keeper.pending == 0)


@in_a_loop
async def test_a_client_gets_its_port_and_the_end() -> None:
    async with door([61007]) as (keeper, guests):
        assert parse_answer(await say(keeper.port, pack_hello(4464, "Anna"))) == 61007
        assert guests[0][0] == Hello(4464, "Anna", True)
        assert str(guests[0][1].address) == "127.0.0.1"
        assert str(guests[0][1].local) == "127.0.0.1"
        await holds_no_connection(keeper)


@in_a_loop
async def test_a_four_byte_hello_is_answered() -> None:
    async with door() as (keeper, guests):
        assert parse_answer(await say(keeper.port, pack_hello(4464, None))) == 50000
        assert guests[0][0].name == ""


@in_a_loop
async def test_a_hello_in_single_bytes_keeps_its_name() -> None:
    async with door() as (keeper, guests):
        hello = pack_hello(4464, "Jörg")
        await say(keeper.port, *[hello[i : i + 1] for i in range(len(hello))])
        assert guests[0][0].name == "Jörg"


@in_a_loop
async def test_an_ipv6_client_is_welcome() -> None:
    async with door() as (keeper, guests):
        try:
            answer = await say(keeper.port, pack_hello(4464, "Six"), host="::1")
        except OSError as error:
            pytest.skip(f"no IPv6 loopback here: {error}")
        assert parse_answer(answer) == 50000
        assert str(guests[0][1].address) == str(guests[0][1].local) == "::1"


@in_a_loop
async def test_who_wants_to_authenticate_is_told_that_there_is_no_need() -> None:
    async with door() as (keeper, guests):
        answer = await say(keeper.port, struct.pack("<i", Answer.AUTH))
        assert parse_answer(answer) == Answer.AUTH_NOT_REQUIRED
        assert not guests


@in_a_loop
async def test_whom_the_gate_will_not_have_is_sent_away_before_a_word() -> None:
    asked: list[str] = []

    def gate(source: IPAddress) -> bool:
        asked.append(str(source))
        return False

    keeper = Doorkeeper(lambda hello, peer: 50000, gate=gate)
    keeper.bind(0)
    keeper.open()
    try:
        with contextlib.suppress(ConnectionError):  # a reset, perhaps while it still connects
            assert await say(keeper.port, pack_hello(4464, "Unwanted")) == b""
        await until(lambda: bool(asked))
        assert asked == ["127.0.0.1"]
        assert keeper.pending == keeper.counts.welcomed == 0
    finally:
        keeper.close()


@in_a_loop
async def test_a_full_hub_ends_without_an_answer() -> None:
    async with door([]) as (keeper, _):
        assert await say(keeper.port, pack_hello(4464, "Late")) == b""
        assert keeper.counts.full == 1


@in_a_loop
async def test_bytes_too_many_do_not_cost_the_answer() -> None:
    async with door([61007]) as (keeper, _):
        hello = pack_hello(4464, "Anna") + bytes(100_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", keeper.port)
        writer.write(hello)
        assert parse_answer(await reader.readexactly(4)) == 61007
        writer.close()


@in_a_loop
async def test_a_peer_that_never_ends_is_let_go() -> None:
    async with door() as (keeper, _):
        _reader, writer = await asyncio.open_connection("127.0.0.1", keeper.port)
        writer.write(pack_hello(4464, "Clingy"))
        await until(lambda: keeper.counts.welcomed == 1)
        await holds_no_connection(keeper)
        writer.close()


@in_a_loop
async def test_a_silent_peer_costs_only_itself() -> None:
    async with door() as (keeper, _):
        silent = [await asyncio.open_connection("127.0.0.1", keeper.port) for _ in range(5)]
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", keeper.port)
        slow.write(b"\1")
        for _ in range(20):
            assert len(await say(keeper.port, pack_hello(4464, "Quick"))) == 4
        assert keeper.pending >= len(silent)
        # and it is dropped in the end, without an answer
        with pytest.raises(ConnectionError):
            await slow_reader.read()
        for reader, writer in silent:
            with pytest.raises(ConnectionError):
                await reader.read()
            writer.close()
        slow.close()
        await holds_no_connection(keeper)


@in_a_loop
async def test_the_longest_silent_gives_way_to_a_newcomer() -> None:
    async with door(max_pending=8) as (keeper, _):
        idle = [await asyncio.open_connection("127.0.0.1", keeper.port) for _ in range(8)]
        await until(lambda: keeper.pending == 8)
        assert len(await say(keeper.port, pack_hello(4464, "Newcomer"))) == 4
        assert keeper.counts.crowded_out == 1
        with pytest.raises(ConnectionError):
            await idle[0][0].read()
        for _, writer in idle:
            writer.close()


@in_a_loop
async def test_one_byte_does_not_save_an_idle_peer_from_giving_way() -> None:
    async with door(max_pending=4) as (keeper, _):
        idle = [await asyncio.open_connection("127.0.0.1", keeper.port) for _ in range(4)]
        for _, writer in idle:
            writer.write(b"\1")
        await until(lambda: keeper.pending == 4)
        for _ in range(10):
            assert len(await say(keeper.port, pack_hello(4464, "Newcomer"))) == 4
        for _, writer in idle:
            writer.close()


@in_a_loop
async def test_many_at_once_are_all_answered() -> None:
    async with door() as (keeper, guests):
        hellos = [say(keeper.port, pack_hello(4464, f"c{i}")) for i in range(60)]
        answers: list[bytes] = await asyncio.gather(*hellos)
        assert all(len(answer) == 4 for answer in answers)
        assert {hello.name for hello, _ in guests} == {f"c{i}" for i in range(60)}


@in_a_loop
async def test_a_peer_that_resets_is_forgotten() -> None:
    async with door() as (keeper, _):
        sock = socket.create_connection(("127.0.0.1", keeper.port))
        await until(lambda: keeper.pending == 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await holds_no_connection(keeper)


async def _idle_peers(port: int, count: int) -> list[socket.socket]:
    """So many connections, from many source addresses, that say nothing."""
    peers = []
    for i in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((f"127.0.1.{1 + i % 200}", 0))
        with_connect: Awaitable[None] = asyncio.get_running_loop().sock_connect(
            sock, ("127.0.0.1", port)
        )
        await with_connect
        peers.append(sock)
    return peers


def test_ten_thousand_idle_peers_delay_nobody() -> None:
    limit = raise_descriptor_limit()
    count = min(10_000, limit - 2_000)

    async def flood() -> None:
        async with door(max_pending=256) as (keeper, _):
            peers = await _idle_peers(keeper.port, count)
            try:
                assert keeper.pending <= 256
                answer = await say(keeper.port, pack_hello(4464, "Newcomer"))
                assert parse_answer(answer) == 50000
            finally:
                for sock in peers:
                    sock.close()

    asyncio.run(asyncio.wait_for(flood(), 60.0))


def test_without_descriptors_idle_peers_give_way() -> None:
    """The doorkeeper's own limit is above the process's: accept() fails, and it copes."""

    async def starve() -> None:
        async with door(max_pending=10_000) as (keeper, _):
            peers = await _idle_peers(keeper.port, 40)
            await until(lambda: keeper.pending == 40)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            gc.collect()  # what others left to it must not be closed later, and make room
            newcomer = socket.socket()
            newcomer.setblocking(False)
            # the next descriptor is beyond the limit: nothing can be opened any more
            resource.setrlimit(resource.RLIMIT_NOFILE, (newcomer.fileno() + 1, hard))
            try:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(newcomer, ("127.0.0.1", keeper.port))
                await loop.sock_sendall(newcomer, pack_hello(4464, "Newcomer"))
                answer = await loop.sock_recv(newcomer, 100)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert parse_answer(answer) == 50000
            assert keeper.counts.crowded_out >= 1
            for sock in [*peers, newcomer]:
                sock.close()

    asyncio.run(asyncio.wait_for(starve(), DEADLINE_S))


def test_a_port_in_use_is_refused_at_once() -> None:
    with bind_dual_stack(0) as taken:
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            Doorkeeper(lambda hello, peer: None).bind(port)
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("descriptors", "clients", "pending"),
    [(1_048_576, 1024, 1024), (1536, 1024, 384), (256, 1024, 8)],
)
def test_pending_connections_leave_room_for_clients(
    descriptors: int, clients: int, pending: int
) -> None:
    assert pending_limit(descriptors, clients) == pending
