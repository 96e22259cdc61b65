"""Hostile guests at a real door: what they do, and what they never do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtest.conduct.guests import GUESTS, NICENESS, Party, Plan, PlanError, read_plan
from loadtest.conduct.nonsense import nonsense, silence
from loadtest.scenario.model import FaultKind
from shared.protocol import (
    EXIT_BYTES,
    EXIT_PACKET,
    HELLO_BYTES,
    PeerError,
    is_exit,
    pack_answer,
    parse_datagram,
)
from tests.end_to_end.processes import wait_until

DEADLINE_S = 20.0


class Doorkeeper:
    """Says yes to every hello, with a UDP port at which it only takes notes.

    Attributes:
        hellos: what each connection said, by its address.
        heard: (where from, datagram), in order.
    """

    def __init__(self) -> None:
        self.hellos: dict[tuple[str, int], bytes] = {}
        self.inside = 0
        self.heard: list[tuple[tuple[str, int], bytes]] = []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.udp.setblocking(False)
        self.udp.bind(("127.0.0.1", 0))
        self.udp_port: int = self.udp.getsockname()[1]

    @property
    def addresses(self) -> set[str]:
        return {address for (address, _), _ in self.heard}

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]
        asyncio.get_running_loop().add_reader(self.udp, self._listen)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.udp)
        self.server.close()
        self.udp.close()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, peer = self.udp.recvfrom(65536)
                self.heard.append((peer, data))

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        self.hellos[peer] = b""
        self.inside += 1
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(4096):
                self.hellos[peer] += more
                if len(self.hellos[peer]) == HELLO_BYTES:
                    writer.write(pack_answer(self.udp_port))
        self.inside -= 1
        writer.close()


@contextlib.asynccontextmanager
async def doorkeeper() -> AsyncIterator[Doorkeeper]:
    door = Doorkeeper()
    await door.open()
    try:
        yield door
        async with asyncio.timeout(DEADLINE_S):
            while door.inside:  # whoever came has left
                await asyncio.sleep(0.01)
    finally:
        door.close()


Until = Callable[[Doorkeeper, Counter[str]], bool]


def visit(
    kind: FaultKind, until: Until | None = None, **settings: Any
) -> tuple[Doorkeeper, dict[str, int]]:
    """What a doorkeeper saw of guests of a kind, and what they say they did.

    Args:
        until: they are ended when this is so; without it, when their time is over.
    """

    async def run() -> tuple[Doorkeeper, dict[str, int]]:
        async with doorkeeper() as door:
            ports = (door.udp_port,) if kind is FaultKind.FLOOD else ()
            plan = Plan(kind, "127.0.0.1", door.port, ports, **{"seconds": 600, **settings})
            party = Party(plan)
            task = asyncio.ensure_future(party.run())
            async with asyncio.timeout(DEADLINE_S):
                while not (task.done() or (until and until(door, party.counts))):
                    await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return door, dict(party.counts)

    return asyncio.run(run())


def test_silent_ones_stay_and_say_little() -> None:
    door, counts = visit(
        FaultKind.SILENT_TCP,
        lambda door, counts: len(door.hellos) == 6 and counts["bytes of slow hellos"] >= 2,
        count=6,
    )

    assert counts["connections"] == len(door.hellos) == 6
    assert all(len(hello) < HELLO_BYTES for hello in door.hellos.values())
    assert sum(not hello for hello in door.hellos.values()) == 2
    assert counts["half hellos"] == 2
    assert "shown the door" not in counts


def test_who_sends_no_datagram_only_shakes_hands() -> None:
    door, counts = visit(FaultKind.NO_UDP, lambda _, counts: counts["handshakes"] == 5, count=5)

    assert counts == {"connections": 5, "handshakes": 5}
    assert len({address for address, _ in door.hellos}) == 5
    assert door.heard == []


def test_garbage_is_of_all_kinds_and_never_sound() -> None:
    door, counts = visit(
        FaultKind.GARBAGE, lambda door, _: len(door.heard) > 500, count=3, rate=1000
    )

    assert counts["handshakes"] == 3
    assert door.addresses == {address for address, _ in door.hellos}
    assert all(harmless(data) for _, data in door.heard)


def test_a_flood_comes_from_strangers() -> None:
    door, _ = visit(FaultKind.FLOOD, lambda door, _: len(door.heard) > 500, rate=4000)

    assert door.hellos == {}
    assert len(door.addresses) > 50
    assert all(address.startswith("127.2.") for address in door.addresses)
    assert {len(data) for _, data in door.heard} >= {EXIT_BYTES, len(silence(0))}


def test_deaf_ones_play_silence() -> None:
    door, counts = visit(FaultKind.DEAF, lambda door, _: len(door.heard) > 100, count=2)

    assert counts["handshakes"] == 2
    for _, own in itertools.groupby(sorted(door.heard), key=lambda one: one[0]):
        numbers = sorted(parse_datagram(data)[0].sequence for _, data in own)
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("kind", "most"),
    [(FaultKind.GARBAGE, 3 * 100), (FaultKind.FLOOD, 100), (FaultKind.DEAF, 3 * 75)],
)
def test_they_never_send_more_than_was_asked_for(kind: FaultKind, most: int) -> None:
    _, counts = visit(kind, seconds=0.2, count=3, rate=500)

    assert counts.get("datagrams", 0) <= most


def test_who_closes_the_port_leaves_the_hub_with_errors() -> None:
    def shut(door: Doorkeeper, counts: Counter[str]) -> bool:
        return counts["ports closed"] == 2 and len(door.heard) > 0

    door, _ = visit(FaultKind.CLOSED, shut, count=2, seconds=2)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(door.heard[0][0])
        probe.send(b"?")
        select.select([probe], [], [], DEADLINE_S)
        with pytest.raises(ConnectionRefusedError):
            probe.recv(1)


def test_a_storm_of_hellos_knocks_and_goes() -> None:
    door, _ = visit(
        FaultKind.HELLO_STORM,
        lambda _, counts: counts["handshakes"] >= 10 and counts["hung up"] >= 3,
        rate=200,
    )

    assert len({address for address, _ in door.hellos}) >= 10
    assert door.heard == []
    assert visit(FaultKind.HELLO_STORM, rate=50, seconds=0.2)[1].get("connections", 0) <= 10


def test_nobody_at_the_door_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for kind in set(GUESTS) - {FaultKind.FLOOD}:
        party = Party(Plan(kind, "127.0.0.1", port, seconds=0.05, count=2))
        asyncio.run(asyncio.wait_for(party.run(), DEADLINE_S))
        assert set(party.counts) <= {"connections refused", "hellos unanswered"}


def harmless(data: bytes) -> bool:
    """Whether a hub can hear nothing of it: it is no packet, or one of silence."""
    try:
        header, redundancy = parse_datagram(data)
    except PeerError:
        return not is_exit(data)
    parts = range(0, len(data), header.packet_bytes)
    return redundancy == len(parts) and not any(
        any(data[at + 16 : at + header.packet_bytes]) for at in parts
    )


def test_nonsense_is_harmless_of_many_kinds_and_reproducible() -> None:
    made = list(itertools.islice(nonsense(Random(7)), 3000))

    assert made == list(itertools.islice(nonsense(Random(7)), 3000))
    assert all(map(harmless, made))
    assert any(len(data) == EXIT_BYTES for data in made)
    assert any(len(data) < 16 for data in made)
    assert any(len(data) > 4096 for data in made)
    assert EXIT_PACKET not in made


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"host": "8.8.8.8"}, "hostile guests visit 127.0.0.0/8, ::1/128, and"),
        ({"host": "10.76.0.1"}, "hostile guests visit"),
        ({"host": "10.77.0.1"}, "hostile guests visit"),
        ({"host": "0.0.0.0"}, "hostile guests visit"),
        ({"host": "localhost"}, "'localhost' is no numeric address"),
        ({"kind": "kill-mixer"}, "kind: kill-mixer is none of closed, deaf, "),
        ({"kind": "party"}, "'party' is not a valid FaultKind"),
        ({"count": 1001}, "count: 1001 is not in 1..1000"),
        ({"rate": 1e6}, "rate: 1000000.0 is not in 1..100000"),
        ({"seconds": 1e9}, "seconds: 1000000000.0 is not in 0..3600"),
        ({"port": 0}, "port: 0 is not in 1..65535"),
        ({"kind": "flood"}, "udp_ports: a flood needs at least one"),
        ({"udp_ports": [70000]}, "udp_ports: "),
        ({"colour": 3}, "unknown: colour"),
        ({"host": 3}, "host: "),
        ({"count": "many"}, "no plan: "),
    ],
)
def test_what_is_not_allowed_is_refused(change: dict[str, Any], problem: str) -> None:
    plan = {"kind": "deaf", "host": "127.0.0.1", "port": 4464, **change}

    with pytest.raises(PlanError) as caught:
        read_plan(json.dumps(plan))

    assert problem in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_ourselves_may_be_visited(host: str) -> None:
    assert read_plan(json.dumps({"kind": "deaf", "host": host, "port": 4464})).host == host


@pytest.fixture
def port() -> Iterator[int]:
    """A door that opens, and behind which nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def command(port: int, **plan: Any) -> list[str]:
    text = json.dumps({"kind": "silent-tcp", "host": "127.0.0.1", "port": port, **plan})
    return [sys.executable, "-m", "loadtest.conduct.guests", "--json", text]


def connected(port: int) -> bool:
    """Whether somebody is connected to a local port, as the kernel tells."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[2] == f"0100007F:{port:04X}" and line.split()[3] == "01"
               for line in lines)  # fmt: skip


def test_a_process_of_guests_is_nice_stays_where_told_and_reports_when_ended() -> None:
    cpu = min(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(DEADLINE_S)
        port = door.getsockname()[1]
        guests = subprocess.Popen(
            command(port, kind="no-udp", seconds=600, cpus=[cpu]), stdout=subprocess.PIPE
        )
        try:
            tcp, _ = door.accept()
            with tcp:
                tcp.settimeout(DEADLINE_S)
                assert tcp.recv(HELLO_BYTES)  # it knows by now that it is connected
                assert os.getpriority(os.PRIO_PROCESS, guests.pid) == min(
                    19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
                )
                assert os.sched_getaffinity(guests.pid) == {cpu}
                guests.send_signal(signal.SIGTERM)
                report = json.loads(guests.communicate(timeout=DEADLINE_S)[0])
        finally:
            guests.kill()
            guests.wait()
    assert guests.returncode == 0
    assert report["kind"] == "no-udp"
    assert report["counts"] == {"connections": 1}


def test_guests_die_with_their_parent(port: int) -> None:
    code = f"import subprocess; print(subprocess.Popen({command(port, seconds=600)!r}).pid, " \
           "flush=True); input()"  # fmt: skip
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout
        assert int(parent.stdout.readline())
        wait_until(lambda: connected(port), DEADLINE_S, "a guest has come")
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not connected(port), DEADLINE_S, "the guest has gone")


def test_guests_whose_parent_is_gone_do_not_come(port: int) -> None:
    done = subprocess.run(command(port, parent=1), capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "the process that started them is gone" in done.stderr


def test_a_forbidden_visit_is_exit_code_2(port: int) -> None:
    done = subprocess.run(
        command(port, host="192.0.2.1"), capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("guests: host: hostile guests visit 127.0.0.0/8")
