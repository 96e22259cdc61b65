"""The zygote and its orphans, as the supervisor sees them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import kin
from hub.zygote import Orphans, Report, Zygote, ZygoteDied, zygote_command
from shared.ancestry import Ancestry, ancestry, children_in
from shared.arena import Arena, create_arena
from shared.messages import receive_order, send_order
from tests.end_to_end.processes import wait_until
from tests.hub.loops import in_a_loop

START_S = 60.0
SETTINGS = {"realtime": False, "cpus": None, "mixer_cpus": None}


class Life:
    """An arena and a life pipe, and what a zygote on them tells."""

    def __init__(self) -> None:
        self.arena_fd, self.arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
        self.read, self.write = os.pipe()
        self.told: list[Report | ZygoteDied] = []

    def zygote(self, *command: str) -> Zygote:
        given = {"command": lambda *_: list(command)} if command else {}
        return Zygote(self.arena_fd, self.read, SETTINGS, self.told.append, **given)

    async def until(self, event: str, token: int | None = None) -> dict[str, Any]:
        """The first report of this event."""
        while True:
            for fact in self.told:
                words = fact.words if isinstance(fact, Report) else {}
                if words.get("event") == event and token in (None, words.get("token")):
                    return dict(words)
            await asyncio.sleep(0.005)

    async def death(self) -> ZygoteDied:
        while True:
            for fact in self.told:
                if isinstance(fact, ZygoteDied):
                    return fact
            await asyncio.sleep(0.005)

    def close(self) -> None:
        for fd in (self.arena_fd, self.read, self.write):
            os.close(fd)


@in_a_loop
async def test_a_zygote_is_ready_forks_and_reports_the_end() -> None:
    life = Life()
    zygote = life.zygote()
    await life.until("ready")
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0] as mail:
        zygote.order({"op": "mixer", "token": 7}, [mail])
        started = await life.until("started", 7)
        assert ancestry(started["pid"]) == Ancestry(started["pid"], zygote.pid, zygote.pid)
        zygote.kill_worker(7)
        ended = await life.until("exited", 7)
    assert (ended["pid"], ended["status"]) == (started["pid"], -signal.SIGKILL)
    zygote.hang_up()
    assert (await life.death()).status == 0
    life.close()


@in_a_loop
async def test_its_sockets_belong_to_the_order_until_they_are_sent() -> None:
    life = Life()
    zygote = life.zygote(sys.executable, "-c", "import time; time.sleep(60)")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote.order({"op": "mixer", "token": 1}, [theirs], close=True)
    assert theirs.fileno() == -1
    closed = socket.socket()
    closed.close()
    zygote.order({"op": "receiver", "token": 2}, [closed])  # left before its turn: no error
    zygote.kill()
    assert (await life.death()).status == -signal.SIGKILL
    ours.close()
    life.close()


@in_a_loop
async def test_orders_wait_for_a_zygote_that_does_not_listen_yet() -> None:
    life = Life()
    script = (
        "import sys, time, socket; time.sleep(0.5);"
        "s = socket.socket(fileno=int(sys.argv[1])); n = 0\n"
        "while n < 2000: n += bool(s.recv(65536))\n"
        's.send(b\'{"event": "ready"}\')'
    )
    life_told = life.told
    zygote = Zygote(
        life.arena_fd,
        life.read,
        SETTINGS,
        life_told.append,
        lambda sock, *_: [sys.executable, "-c", script, str(sock)],
    )
    for token in range(2000):
        zygote.kill_worker(token)
    await life.until("ready")
    assert (await life.death()).status == 0
    life.close()


@in_a_loop
async def test_the_last_words_of_a_zygote_are_heard_before_its_death() -> None:
    life = Life()
    script = (
        "import sys, socket; s = socket.socket(fileno=int(sys.argv[1]));"
        "s.send(b'no json'); s.send(b'{\"event\": \"ready\"}'); raise SystemExit(3)"
    )
    Zygote(
        life.arena_fd,
        life.read,
        SETTINGS,
        life.told.append,
        lambda sock, *_: [sys.executable, "-c", script, str(sock)],
    )
    assert (await life.death()).status == 3
    assert [type(fact) for fact in life.told] == [Report, ZygoteDied]
    life.close()


@in_a_loop
async def test_workers_of_a_dead_zygote_are_watched_killed_and_buried() -> None:
    kin.become_subreaper()
    life = Life()
    orphans = Orphans(life.told.append)
    zygote = life.zygote()
    pids = {}
    for token in (1, 2, 3):
        ours, mail = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zygote.order({"op": "mixer", "token": token}, [mail], close=True)
        pids[token] = (await life.until("started", token))["pid"]
        ours.close()
    zygote.kill()
    death = await life.death()

    unreported = pids.pop(3)
    orphans.adopt(pids, death.session)
    assert len(orphans) in (3, 4)  # the stem ends by itself
    assert (1 in orphans, 3 in orphans) == (True, False)
    assert orphans.kill(1)
    assert not orphans.kill(99)
    assert (await life.until("exited", 1))["status"] == -signal.SIGKILL
    life.arena.control[0]["stop"] = 1  # the others end when told, as ever
    assert (await life.until("exited", 2))["status"] == 0
    while len(orphans):
        await asyncio.sleep(0.005)
    assert ancestry(unreported) is None  # it was nobody's, and is buried too
    life.close()


@in_a_loop
async def test_who_is_made_while_the_workers_are_counted_is_found_and_killed_too() -> None:
    """As a stem's last receiver is; here one becomes our child when its own parent is killed."""
    kin.become_subreaper()
    life = Life()
    script = "sh -c 'sleep 60 & echo; wait' & wait"
    with subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE
    ) as dead:
        assert dead.stdout is not None
        dead.stdout.readline()
        dead.kill()
    orphans = Orphans(life.told.append)

    orphans.adopt({}, dead.pid)
    while len(orphans):
        await asyncio.sleep(0.005)

    assert list(children_in(dead.pid)) == []
    assert life.told == []
    life.close()


@in_a_loop
async def test_an_orphan_that_cannot_be_found_is_reported_dead() -> None:
    life = Life()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphans = Orphans(life.told.append)
    orphans.adopt({5: ended.pid, 6: 1}, session=ended.pid)  # 6: somebody else's by now
    assert {(await life.until("exited", token))["status"] for token in (5, 6)} == {-signal.SIGKILL}
    assert len(orphans) == 0
    life.close()


def test_a_child_is_opened_and_a_stranger_is_not() -> None:
    child = subprocess.Popen(["sleep", "60"])
    pidfd = kin.open_child(child.pid)
    assert pidfd is not None
    assert kin.reap(pidfd) is None
    kin.kill(pidfd)
    select.select([pidfd], [], [], 10.0)
    assert kin.reap(pidfd) == -signal.SIGKILL
    os.close(pidfd)
    child.poll()
    assert kin.open_child(1) is None
    assert ancestry(child.pid) is None


def test_an_odd_command_name_does_not_confuse_the_ancestry(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 1 (b"
    program.symlink_to(Path("/bin/sleep").resolve())
    with subprocess.Popen([program, "60"]) as child:
        found = ancestry(child.pid)
        child.kill()
    assert found is not None
    assert found.parent == os.getpid()


@pytest.fixture
def deaf() -> Iterator[tuple[socket.socket, Arena]]:
    """A real zygote whose reports find little room: our end, and its arena."""
    fd, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
    read, write = os.pipe()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's minimum
    process = subprocess.Popen(
        zygote_command(theirs.fileno(), fd, read, SETTINGS), pass_fds=(theirs.fileno(), fd, read)
    )
    theirs.close()
    try:
        yield ours, arena
    finally:
        arena.control[0]["stop"] = 1
        ours.close()
        os.close(write)
        process.wait(START_S)
        os.close(fd)
        os.close(read)


def test_no_report_is_lost_while_nobody_listens(
    deaf: tuple[socket.socket, Arena],
) -> None:
    ours, arena = deaf
    tokens = range(20)
    for token in tokens:
        with socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[1] as mail:
            send_order(ours, {"op": "mixer", "token": token}, (mail.fileno(),))
    arena.control[0]["stop"] = 1
    wait_until(lambda: select.select([ours], [], [], 0.1)[0], START_S, "the first report")
    time.sleep(1.0)  # far more comes than there is room for
    ours.settimeout(START_S)
    reports: list[dict[str, Any]] = []
    while len(reports) < 1 + 2 * len(tokens):
        received = receive_order(ours)
        assert received is not None
        reports.append(received[0])
    for event in ("started", "exited"):
        assert {r["token"] for r in reports if r["event"] == event} == set(tokens)
