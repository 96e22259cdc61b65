"""Patience with those who die young, and one process for a duty, whatever is reported late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from hub.duties import (
    PAUSES_S,
    SHORT_LIFE_S,
    START_TRIES,
    Duty,
    Kind,
    Patience,
    ReceiverEnded,
    Worker,
)
from hub.mail import Mailroom
from hub.staff import FORK_FAILED_S, JACK_HUNG_S, JACK_PAUSE_S, Fact, Staff
from hub.zygote import Report
from shared.arena import create_arena
from shared.messages import WorkerExit
from tests.hub.conftest import DEADLINE_S
from tests.hub.listening import directory
from tests.hub.loops import in_a_loop

pytestmark = pytest.mark.living


def test_at_start_three_short_lives_are_enough() -> None:
    patience = Patience()
    pauses = [patience.pause(0.1, at_start=True) for _ in range(START_TRIES)]
    assert None not in pauses[:-1]
    assert pauses[-1] is None


def test_later_pauses_grow_and_end() -> None:
    patience = Patience()
    pauses = [patience.pause(0.1, at_start=False) for _ in range(len(PAUSES_S))]
    assert pauses == [*PAUSES_S[1:], None]
    assert sorted(PAUSES_S) == list(PAUSES_S)


def test_a_long_life_makes_up_for_the_short_ones() -> None:
    patience = Patience()
    for _ in range(100):
        assert patience.pause(0.1, at_start=True) is not None
        assert patience.pause(SHORT_LIFE_S, at_start=True) == 0.0


ZYGOTE = """
    import json, os, socket, sys
    orders, seen = socket.socket(fileno=int(sys.argv[1])), open(sys.argv[2], "a")
    first = os.fstat(seen.fileno()).st_size == 0
    while words := orders.recv(65536):
        print(words.decode(), file=seen, flush=True)
        order = json.loads(words)
        if order["op"] == "mixer" and first:
            def say(event, token):
                words = {"event": event, "token": token, "pid": 1, "error": "no room"}
                orders.send(json.dumps(words).encode())
            say("started", 77)
            say("failed", order["token"])
        elif order["op"] == "kill":
            raise SystemExit
"""
"""It says that a worker lives which nobody has ordered, and that the mixer could not be forked;
told to kill it, it ends at once: before that mixer counts as ended."""


@in_a_loop
async def test_no_duty_is_done_twice() -> None:
    arena_fd, arena = create_arena(slots=2, rate_hz=48000, period_frames=128)
    life, theirs = os.pipe()
    seen = Path(f"/proc/self/fd/{os.memfd_create('seen')}")
    facts: asyncio.Queue[Fact] = asyncio.Queue()

    def command(sock: int, *_: object) -> list[str]:
        script = textwrap.dedent(ZYGOTE)
        return [sys.executable, "-c", script, str(sock), f"/proc/{os.getpid()}/fd/{seen.name}"]

    staff = Staff(arena_fd, life, {}, 0, directory(), facts.put_nowait, command)
    staff.connect(Mailroom(arena, 0, lambda _: None), lambda _: None, lambda _: None)
    staff.at_start = False
    staff.start_zygote()
    staff.hire_mixer()

    async def orders(count: int, for_s: float) -> list[str]:
        """Those seen so far: when there are so many, or after so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + for_s
        while loop.time() < end and len(seen.read_text().splitlines()) < count:
            with contextlib.suppress(TimeoutError):
                staff.handle(await asyncio.wait_for(facts.get(), 0.1))
        return seen.read_text().splitlines()

    wanted = [
        '{"op": "mixer", "token": 1}',
        '{"op": "kill", "token": 77}',
        '{"op": "mixer", "token": 2}',
    ]
    assert await orders(len(wanted), DEADLINE_S) == wanted
    assert await orders(len(wanted) + 1, FORK_FAILED_S + 1.0) == wanted
    staff.kill_zygote()
    for fd in (arena_fd, life, theirs, int(seen.name)):
        os.close(fd)


@pytest.fixture(autouse=True)
def retired_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.receivers.RETIRE_S", 0.01)


DYING_ZYGOTE = """
    import json, os, socket, sys
    orders = socket.socket(fileno=int(sys.argv[1]))
    words, fds, _, _ = socket.recv_fds(orders, 65536, 4)
    assert json.loads(words)["op"] == "receiver" and len(fds) == 2, words
"""
"""It ends with the first order, and nobody knows what became of that."""


@in_a_loop
async def test_who_shares_a_receiver_that_was_never_started_goes_on_without_it() -> None:
    arena_fd, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
    life, theirs = os.pipe()
    facts: asyncio.Queue[Fact] = asyncio.Queue()

    def command(sock: int, *_: object) -> list[str]:
        return [sys.executable, "-c", textwrap.dedent(DYING_ZYGOTE), str(sock)]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        staff = Staff(arena_fd, life, {}, 0, directory(), facts.put_nowait, command, 3)
        staff.connect(Mailroom(arena, 0, lambda _: sock), lambda _: sock, lambda _: None)
        staff.at_start = False
        for slot, session in enumerate((11, 12, 13)):
            staff.hire_receiver(slot, session)
        staff.release(13)
        assert sorted(staff.sharing) == [11, 12]
        staff.start_zygote()

        ended = None
        while ended is None:
            ended = staff.handle(await asyncio.wait_for(facts.get(), 20.0))

    assert isinstance(ended, ReceiverEnded)
    assert ended.sessions == (11, 12)
    assert not staff.sharing
    staff.stop()
    for fd in (arena_fd, life, theirs):
        os.close(fd)


@in_a_loop
async def test_a_shared_receiver_that_is_empty_for_long_gets_nobody_any_more() -> None:
    arena_fd, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        staff = Staff(arena_fd, -1, {}, 0, directory(), lambda _: None, clients_per_worker=2)
        staff.connect(Mailroom(arena, 0, lambda _: sock), lambda _: sock, lambda _: None)
        staff.hire_receiver(0, 11)
        (first,) = staff._workers.values()
        assert first.shared is not None
        mail = first.shared.theirs.dup()
        staff.release(11)
        assert await asyncio.get_running_loop().run_in_executor(None, mail.recv, 64) == b""
        staff.hire_receiver(0, 12)
        staff.hire_receiver(1, 13, alone=True)
        assert [worker.shared is None for worker in staff._workers.values()] == [False, False, True]
        assert first.shared.sessions == {}
        mail.close()
        staff.stop()
    os.close(arena_fd)


LIVES = [  # shared, status, stuck, and whether whom it served go on alone
    (True, -signal.SIGKILL, False, False),
    (True, -signal.SIGKILL, True, True),
    (True, -signal.SIGSEGV, False, True),
    (True, 1, False, True),
    (False, -signal.SIGKILL, False, True),
]


@in_a_loop
async def test_only_those_who_shared_a_killed_receiver_may_share_another() -> None:
    """Who was alone may have a format that takes long, or have been what others died of."""
    arena_fd, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        staff = Staff(arena_fd, -1, {}, 0, directory(), lambda _: None, clients_per_worker=2)
        staff.connect(Mailroom(arena, 0, lambda _: sock), lambda _: sock, lambda _: None)
        for shared, status, stuck, alone in LIVES:
            staff.hire_receiver(0, 11, alone=not shared)
            (worker,) = staff._workers.values()
            worker.stuck = stuck
            end = Report({"event": "exited", "token": worker.token, "status": status})
            assert staff.handle(end) == ReceiverEnded((11,), status, stuck, alone)
    os.close(arena_fd)


@in_a_loop
async def test_a_jack_server_is_left_alone_only_when_two_bridges_have_waited_for_it() -> None:
    staff = Staff(-1, -1, {}, 0, directory(), lambda fact: None)
    pauses = []
    for stuck in (True, True, True, False, True):
        worker = Worker(1, Duty(Kind.BRIDGE), 0.0, stuck=stuck)
        status = -signal.SIGKILL if stuck else WorkerExit.JACK_GONE
        pauses.append(staff._bridge_pause(worker, int(status)))
    assert pauses == [JACK_PAUSE_S, JACK_HUNG_S, JACK_HUNG_S, JACK_PAUSE_S, JACK_PAUSE_S]
