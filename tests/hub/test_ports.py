"""The UDP port pool: who gets which port, and what its socket can do."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from hub.addresses import parse_address, parse_sockaddr, sockaddr_to
from hub.ports import BUFFER_BYTES, PortPool, bind_udp, buffer_sizes
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S

FIRST = 61002
SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40


def same(port: int) -> int:
    """Binding that always succeeds."""
    return port


def busy(*ports: int) -> Callable[[int], int]:
    """Binding that fails on ports that somebody else has."""

    def bind(port: int) -> int:
        if port in ports:
            raise OSError(errno.EADDRINUSE, "in use")
        return port

    return bind


def take(pool: PortPool, now: float, bind: Callable[[int], int] = same) -> int | None:
    taken = pool.take(now, bind)
    return None if taken is None else taken[0]


def test_the_lowest_fresh_port_comes_first() -> None:
    pool = PortPool(FIRST, 4)
    assert [take(pool, 0.0) for _ in range(5)] == [FIRST, FIRST + 1, FIRST + 2, FIRST + 3, None]


def test_a_freed_port_rests() -> None:
    pool = PortPool(FIRST, 4, quarantine_s=30.0)
    take(pool, 0.0)
    pool.give_back(FIRST, 10.0)
    assert take(pool, 39.9) == FIRST + 1
    assert take(pool, 40.0) == FIRST


def test_when_nothing_else_is_free_the_one_that_rested_longest_goes() -> None:
    pool = PortPool(FIRST, 3)
    for _ in range(3):
        take(pool, 0.0)
    for port in (FIRST + 1, FIRST, FIRST + 2):
        pool.give_back(port, 1.0)
    assert [take(pool, 2.0) for _ in range(3)] == [FIRST + 1, FIRST, FIRST + 2]


def test_a_port_of_another_program_is_skipped_and_tried_again_later() -> None:
    pool = PortPool(FIRST, 3, quarantine_s=30.0)
    assert take(pool, 0.0, busy(FIRST)) == FIRST + 1
    assert take(pool, 1.0) == FIRST + 2
    assert take(pool, 30.0) == FIRST


@pytest.fixture(autouse=True)
def no_search_goes_on() -> Iterator[None]:
    """What a test set off is over before the next: its log line would be the next one's."""
    yield
    for thread in threading.enumerate():
        if thread.name == "port holder":
            thread.join(DEADLINE_S)


def test_nobody_waits_while_the_holder_of_a_port_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told when it is found: with a thousand processes about, that takes a while."""
    found = threading.Event()

    def look(port: int) -> str:
        assert found.wait(DEADLINE_S)
        return f"jacktrip with {port}"

    monkeypatch.setattr("hub.ports.udp_owner", look)
    with capture_logs() as logged:
        pool = PortPool(FIRST, 3)
        assert take(pool, 0.0, busy(FIRST, FIRST + 1)) == FIRST + 2
        assert logged == []
        found.set()
        wait_until(lambda: logged, DEADLINE_S, "the holder is told")
    assert [(line["event"], line["by"]) for line in logged] == [
        ("udp port is in use", f"jacktrip with {FIRST}")
    ]


def test_nothing_but_foreign_ports_is_no_port() -> None:
    pool = PortPool(FIRST, 2)
    assert take(pool, 0.0, busy(FIRST, FIRST + 1)) is None
    assert take(pool, 0.0) == FIRST


def test_other_errors_are_the_callers() -> None:
    def bind(port: int) -> int:
        raise OSError(errno.EADDRNOTAVAIL, "no such address")

    with pytest.raises(OSError, match="no such address"):
        PortPool(FIRST, 2).take(0.0, bind)


def test_no_port_beyond_65535() -> None:
    pool = PortPool(65534, 1024)
    assert [take(pool, 0.0) for _ in range(3)] == [65534, 65535, None]


class PoolMachine(RuleBasedStateMachine):
    """Ports in use are distinct, of the pool, and never rest less than they can."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PortPool(FIRST, 4, quarantine_s=30.0)
        self.now = 0.0
        self.used: set[int] = set()
        self.freed: dict[int, float] = {}

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        port = take(self.pool, self.now)
        if port is None:
            assert len(self.used) == 4
            return
        assert port not in self.used
        rested = {p for p in range(FIRST, FIRST + 4) if p not in self.used and self.is_rested(p)}
        if rested:
            assert port == min(rested)
        else:
            assert self.freed[port] == min(self.freed[p] for p in self.freed if p not in self.used)
        self.used.add(port)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        port = data.draw(st.sampled_from(sorted(self.used)))
        used = data.draw(st.booleans())
        self.pool.give_back(port, self.now, used)
        self.used.discard(port)
        if used:
            self.freed[port] = self.now
        else:
            self.freed.pop(port, None)

    def is_rested(self, port: int) -> bool:
        return port not in self.freed or self.freed[port] <= self.now - 30.0

    @invariant()
    def ports_are_the_pools(self) -> None:
        assert self.used <= set(range(FIRST, FIRST + 4))


TestPool = PoolMachine.TestCase


@pytest.mark.parametrize("local", ["127.0.0.1", "::1"])
def test_a_socket_is_bound_marked_and_timestamped(local: str) -> None:
    address = ip_address(local)
    try:
        sock = bind_udp(address, 0)
    except OSError as error:
        pytest.skip(f"no {local} here: {error}")
    with sock:
        assert parse_sockaddr(sock.getsockname())[0] == address
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL) == 1
        if address.version == 4:
            assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0xE0
        else:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 0xE0


def test_a_bound_port_is_in_use_for_the_next() -> None:
    with bind_udp(ip_address("127.0.0.1"), 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind_udp(ip_address("127.0.0.1"), port)


def test_buffer_sizes_are_what_the_kernel_gives() -> None:
    sizes = buffer_sizes()
    assert sizes.receive > 0
    assert sizes.short == (min(sizes.receive, sizes.send) < BUFFER_BYTES)


@pytest.mark.parametrize(
    ("host", "scope", "shown"),
    [
        ("::ffff:192.0.2.7", 0, "192.0.2.7"),
        ("192.0.2.7", 0, "192.0.2.7"),
        ("2001:db8::1", 0, "2001:db8::1"),
        ("fe80::1", 2, "fe80::1%2"),
    ],
)
def test_one_address_has_one_form(host: str, scope: int, shown: str) -> None:
    address = parse_address(host, scope)
    assert str(address) == shown
    assert parse_sockaddr(sockaddr_to(address, 4464)) == (address, 4464)
