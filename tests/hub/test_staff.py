"""Patience with those who die young, and one process for a duty, whatever is reported late."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import pytest

from hub.mail import Mailroom
from hub.staff import (
    FORK_FAILED_S,
    PAUSES_S,
    SHORT_LIFE_S,
    START_TRIES,
    Fact,
    Patience,
    Staff,
)
from shared.arena import create_arena
from tests.hub.listening import directory
from tests.hub.loops import in_a_loop

pytestmark = pytest.mark.alone


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
    began, loop = asyncio.get_running_loop().time(), asyncio.get_running_loop()
    while loop.time() < began + FORK_FAILED_S + 1.0:
        try:
            staff.handle(await asyncio.wait_for(facts.get(), 0.1))
        except TimeoutError:
            continue
    staff.kill_zygote()

    orders = seen.read_text().splitlines()
    assert orders == [
        '{"op": "mixer", "token": 1}',
        '{"op": "kill", "token": 77}',
        '{"op": "mixer", "token": 2}',
    ]
    for fd in (arena_fd, life, theirs, int(seen.name)):
        os.close(fd)
