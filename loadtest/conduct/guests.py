"""Guests who do not behave: ``python -m loadtest.conduct.guests --json PLAN``.

A process of its own, so that it takes nothing from the generator's time. Each guest has an
address of its own: in 127.2.0.0/16, or in a network namespace above those of the clients. What a
guest says that a hub may take for sound is silence, so that it is never heard.

It is bounded: in time, number and rate, by ``Plan``; to loopback and the harness's own network
namespaces, by ``permitted``; and it dies with the process that started it. When it is over, or
at SIGTERM, it prints a JSON report: what it did, counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import ipaddress
import json
import os
import resource
import signal
import socket
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from loadtest.conduct.addresses import LOOPBACK, is_ours
from loadtest.conduct.nonsense import FRAMES, RATE_HZ, nonsense, silence
from loadtest.scenario.model import FaultKind
from shared.protocol import EXIT_PACKET, PeerError, pack_hello, parse_answer

MAX_COUNT, MAX_RATE, MAX_SECONDS = 1000, 100_000.0, 3600.0
STRANGERS = 250
"""Addresses that floods come from."""
NAMESPACE_BLOCK = 100
"""Third byte of guests' addresses in a namespace; those of 8000 clients end at 32."""
NICENESS = 10
_ANSWER_S = 5.0
_SLOW_S = 1.0
"""Between two bytes of a slow hello."""
_STEP_S = 0.005
"""Between two batches of datagrams."""
_MAX_BATCH = 2000
"""Datagrams: after a halt of the machine what was missed is not made good."""
_PR_SET_PDEATHSIG = 1


class PlanError(ValueError):
    """What was asked for is not allowed; the text names it and what is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What guests are to do.

    Attributes:
        kind: a fault that guests can make.
        host, port: numeric address and TCP port of the hub.
        udp_ports: of clients; a flood's targets.
        seconds: how long.
        count: guests; rate: of what they do a second, each or together (see FaultKind).
        seed: of every random choice.
        cpus: where to run; empty: where the parent may.
        parent: pid of the process that guests die with; 0: whoever it is.
    """

    kind: FaultKind
    host: str
    port: int
    udp_ports: tuple[int, ...] = ()
    seconds: float = 1.0
    count: int = 1
    rate: float = 100.0
    seed: int = 1
    cpus: tuple[int, ...] = ()
    parent: int = 0

    def __post_init__(self) -> None:
        if self.kind not in GUESTS:
            raise PlanError(f"kind: {self.kind} is none of {', '.join(sorted(GUESTS))}")
        permitted(self.host)
        for name, low, high in (
            ("port", 1, 65535), ("seconds", 0, MAX_SECONDS), ("count", 1, MAX_COUNT),
            ("rate", 1, MAX_RATE),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise PlanError(f"{name}: {getattr(self, name)} is not in {low}..{high:g}")
        if not all(1 <= port <= 65535 for port in self.udp_ports):
            raise PlanError(f"udp_ports: {self.udp_ports} are not all in 1..65535")
        if self.kind is FaultKind.FLOOD and not self.udp_ports:
            raise PlanError("udp_ports: a flood needs at least one")


def permitted(host: str) -> None:
    """Refuse to molest anybody but ourselves.

    Raises:
        PlanError: the host is no numeric address, or neither loopback nor the harness's own.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise PlanError(f"host: {host!r} is no numeric address") from None
    if not is_ours(address):
        allowed = ", ".join(map(str, LOOPBACK))
        raise PlanError(
            f"host: hostile guests visit {allowed}, and the hub beside a network namespace of the "
            f"harness, only; not {host}"
        )


def read_plan(text: str) -> Plan:
    """A plan from JSON.

    Raises:
        PlanError: it is none.
    """
    try:
        values = json.loads(text)
        unknown = set(values) - {each.name for each in fields(Plan)}
        if unknown:
            raise PlanError(f"unknown: {', '.join(sorted(unknown))}")
        for name in ("udp_ports", "cpus"):
            values[name] = tuple(int(each) for each in values.get(name, ()))
        values["kind"] = FaultKind(values["kind"])
        return Plan(**values)
    except PlanError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PlanError(f"no plan: {error}") from None


class Party:
    """The guests of one plan and the count of what they did."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.counts: Counter[str] = Counter()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET

    async def run(self) -> None:
        """Visit as long as the plan says, then leave without a word."""
        try:
            async with asyncio.timeout(self.plan.seconds):
                await GUESTS[self.plan.kind](self)
                await asyncio.sleep(self.plan.seconds)
        except TimeoutError:
            pass
        finally:
            for each in list(self._sockets):
                each.close()

    def address(self, guest: int) -> str:
        """Where a guest comes from."""
        if self._family == socket.AF_INET6:
            return "::"
        if not self.plan.host.startswith("127."):  # in a namespace all of the clients' are its own
            block, last = divmod(guest % 25_000, 250)
            return (
                f"10.{int(self.plan.host.split('.')[1]) - 1}.{NAMESPACE_BLOCK + block}.{last + 1}"
            )
        block, last = divmod(guest % 62_500, 250)
        return f"127.2.{block}.{last + 1}"

    def open(self, kind: socket.SocketKind, guest: int) -> socket.socket:
        """A socket at a guest's address; it is closed when the visit is over."""
        made = socket.socket(self._family, kind)
        self._sockets.add(made)
        made.setblocking(False)
        made.bind((self.address(guest), 0))
        return made

    async def connected(self, guest: int) -> socket.socket | None:
        """A TCP connection to the hub; None: it was not accepted."""
        tcp = None
        try:
            tcp = self.open(socket.SOCK_STREAM, guest)
            await asyncio.get_running_loop().sock_connect(tcp, (self.plan.host, self.plan.port))
        except OSError:
            self.counts["connections refused"] += 1
            if tcp is not None:
                tcp.close()
            return None
        self.counts["connections"] += 1
        return tcp

    async def handshake(self, guest: int, udp_port: int) -> int:
        """Say hello as a client does; the UDP port that the hub answers, 0: none."""
        tcp = await self.connected(guest)
        if tcp is None:
            return 0
        loop = asyncio.get_running_loop()
        answer = b""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await loop.sock_sendall(tcp, pack_hello(udp_port, f"guest {guest}"))
                while len(answer) < 4 and (more := await loop.sock_recv(tcp, 4 - len(answer))):
                    answer += more
            port = parse_answer(answer)
        except (OSError, TimeoutError, PeerError):
            port = 0
        finally:
            tcp.close()
        if not 1 <= port <= 65535:
            self.counts["hellos unanswered"] += 1
            return 0
        self.counts["handshakes"] += 1
        return port

    async def admitted(self) -> list[tuple[socket.socket, int]]:
        """Guests that were let in: the socket of each, and the hub's port."""

        async def enter(guest: int) -> tuple[socket.socket, int]:
            udp = self.open(socket.SOCK_DGRAM, guest)
            return udp, await self.handshake(guest, udp.getsockname()[1])

        everybody = await asyncio.gather(*(enter(each) for each in range(self.plan.count)))
        return [(udp, port) for udp, port in everybody if port]

    def send(self, udp: socket.socket, data: bytes, port: int) -> None:
        """One datagram to a port of the hub, as far as the machine takes it."""
        try:
            udp.sendto(data, (self.plan.host, port))
            self.counts["datagrams"] += 1
        except BlockingIOError:
            self.counts["datagrams not taken"] += 1
        except OSError:  # an ICMP error of an earlier one
            self.counts["datagrams refused"] += 1


async def silent_tcp(party: Party) -> None:
    """Connections that say nothing, half a hello, or a byte a second; in turn."""

    async def stay(guest: int) -> None:
        tcp = await party.connected(guest)
        if tcp is None:
            return
        hello = pack_hello(4464, f"slow guest {guest}")
        loop = asyncio.get_running_loop()
        try:
            if guest % 3 == 1:
                await loop.sock_sendall(tcp, hello[: party.random.choice((1, 2, 3, 5, 36, 67))])
                party.counts["half hellos"] += 1
            elif guest % 3 == 2:
                for byte in hello:
                    await loop.sock_sendall(tcp, bytes([byte]))
                    party.counts["bytes of slow hellos"] += 1
                    await asyncio.sleep(_SLOW_S)
            # the hub may answer what it has got; that it ends the visit is its good right
            while await loop.sock_recv(tcp, 4096):
                pass
        except OSError:
            pass
        party.counts["shown the door"] += 1

    await asyncio.gather(*(stay(each) for each in range(party.plan.count)))


async def no_udp(party: Party) -> None:
    """Clients that shake hands and never send a datagram."""
    guests = await party.admitted()
    await asyncio.sleep(party.plan.seconds)
    del guests  # until now they kept their ports


async def garbage(party: Party) -> None:
    """Clients that send what no hub may take: ``rate`` datagrams a second each."""
    guests = await party.admitted()
    rubbish = nonsense(party.random)
    await _paced(
        party.plan.rate * len(guests),
        party.plan.seconds,
        lambda number: party.send(*_to(guests, number, next(rubbish))),
    )


async def flood(party: Party) -> None:
    """``rate`` datagrams a second to clients' ports, from many addresses that never said hello.

    They are what a client might send, and good-byes: whoever takes them from strangers hears
    silence in place of its client, or ends its session.
    """
    strangers = [party.open(socket.SOCK_DGRAM, 1000 + each) for each in range(STRANGERS)]
    ports = party.plan.udp_ports

    def one(number: int) -> None:
        data = EXIT_PACKET if number % 16 == 15 else silence(number, channels=1 + number % 2)
        port = ports[number % len(ports)]
        party.send(strangers[party.random.randrange(STRANGERS)], data, port)

    await _paced(party.plan.rate, party.plan.seconds, one)


async def deaf(party: Party) -> None:
    """Clients that send silence at the right pace, and never read what returns."""
    guests = await party.admitted()
    for udp, _ in guests:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
    await _play(party, guests, party.plan.seconds)


async def closed(party: Party) -> None:
    """Clients that send, and then close their port: the hub's datagrams meet ICMP errors."""
    guests = await party.admitted()
    await _play(party, guests, min(1.0, party.plan.seconds / 2))
    for udp, _ in guests:
        udp.close()
        party.counts["ports closed"] += 1


async def hello_storm(party: Party) -> None:
    """``rate`` handshakes a second that nothing follows; some do not wait for the answer."""
    loop = asyncio.get_running_loop()

    async def knock(number: int) -> None:
        if number % 4:
            await party.handshake(number, 4464)
            return
        tcp = await party.connected(number)
        if tcp is not None:
            with contextlib.suppress(OSError):
                await loop.sock_sendall(tcp, pack_hello(4464, None if number % 8 else ""))
            tcp.close()
            party.counts["hung up"] += 1

    async with asyncio.TaskGroup() as group:
        await _paced(
            party.plan.rate,
            party.plan.seconds,
            lambda number: group.create_task(knock(number)),
        )


GUESTS = {
    FaultKind.SILENT_TCP: silent_tcp,
    FaultKind.NO_UDP: no_udp,
    FaultKind.GARBAGE: garbage,
    FaultKind.FLOOD: flood,
    FaultKind.DEAF: deaf,
    FaultKind.CLOSED: closed,
    FaultKind.HELLO_STORM: hello_storm,
}
"""How each kind of guest behaves."""


def _to(
    guests: list[tuple[socket.socket, int]], number: int, data: bytes
) -> tuple[socket.socket, bytes, int]:
    udp, port = guests[number % len(guests)]
    return udp, data, port


async def _play(party: Party, guests: list[tuple[socket.socket, int]], seconds: float) -> None:
    """Silence from all, a packet a period."""

    def one(number: int) -> None:
        party.send(*_to(guests, number, silence(number // len(guests))))

    await _paced(len(guests) * RATE_HZ / FRAMES, seconds, one)


async def _paced(rate: float, seconds: float, do: Callable[[int], object]) -> None:
    """Call ``do`` with 0, 1, 2, ... so many times a second, and never more than that in all."""
    number, last, since_s = 0, int(rate * seconds), time.monotonic()
    while number < last:
        due = int((time.monotonic() - since_s) * rate)
        if due - number > _MAX_BATCH:
            since_s += (due - number - _MAX_BATCH) / rate
            due = number + _MAX_BATCH
        for each in range(number, min(due, last)):
            do(each)
        number = max(number, due)
        await asyncio.sleep(_STEP_S)


def die_with(parent: int) -> None:
    """Be killed when the thread that started this process ends.

    Raises:
        SystemExit: it has ended already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        raise SystemExit("guests: the process that started them is gone")


async def _visit(party: Party) -> None:
    """The party, ended early by SIGTERM."""
    task = asyncio.ensure_future(party.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: list[str] | None = None) -> int:
    """Run a plan; 0: it is over, 2: it was not allowed."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.conduct.guests", description=__doc__)
    parser.add_argument("--json", required=True, metavar="PLAN", help="a Plan's fields")
    try:
        plan = read_plan(parser.parse_args(arguments).json)
        die_with(plan.parent)
        if plan.cpus:
            os.sched_setaffinity(0, plan.cpus)
    except (PlanError, OSError) as error:
        print(f"guests: {error}", file=sys.stderr)
        return 2
    os.nice(NICENESS)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    party = Party(plan)
    started_s = time.monotonic()
    asyncio.run(_visit(party))
    report: dict[str, Any] = {
        "kind": str(plan.kind),
        "seconds": round(time.monotonic() - started_s, 3),
        "counts": dict(party.counts),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
