"""Killing processes of the hub under test, and nobody else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtest.conduct.faults import FaultRefused, Victim, find_victim, kill, successor
from loadtest.scenario.model import FaultKind
from tests.hub.conftest import LiveHub
from tests.hub.musicians import Musician

pytestmark = pytest.mark.living

DEADLINE_S = 20.0
STATUS: dict[str, Any] = {
    "hub": {
        "mixer": {"pid": 11},
        "lanes": [{"lane": 0, "pid": 11}, {"lane": 1, "pid": 21}, {"lane": 2, "pid": 22}],
    },
    "clients": [{"port": 61002, "receiver_pid": 31}, {"port": 61003, "receiver_pid": None}],
}


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_status_says_who_is_hit() -> None:
    random = Random(1)

    assert find_victim(FaultKind.KILL_MIXER, STATUS, 0, random).pid == 11
    assert find_victim(FaultKind.KILL_RECEIVER, STATUS, 61002, random) == Victim(
        FaultKind.KILL_RECEIVER, 31, "receiver of the client on UDP 61002", 61002
    )
    lanes = {find_victim(FaultKind.KILL_LANE, STATUS, 0, random).pid for _ in range(50)}
    assert lanes == {21, 22}


@pytest.mark.parametrize(
    ("kind", "status", "port", "why"),
    [
        (FaultKind.KILL_MIXER, None, 0, "control socket does not answer"),
        (FaultKind.KILL_RECEIVER, STATUS, 61003, "no process that is the receiver .* 61003"),
        (FaultKind.KILL_RECEIVER, STATUS, 61009, "no process that is the receiver .* 61009"),
        (FaultKind.KILL_MIXER, {"hub": {"mixer": {"pid": None}}}, 0, "no process .* the mixer"),
        (FaultKind.KILL_MIXER, {"hub": {"mixer": {"pid": 1}}}, 0, "no process .* the mixer"),
        (FaultKind.KILL_LANE, {"hub": {"lanes": [{"lane": 0, "pid": 5}]}}, 0, "--transmit-lanes"),
    ],
)
def test_who_is_not_there_is_refused(
    kind: FaultKind, status: dict[str, Any] | None, port: int, why: str
) -> None:
    with pytest.raises(FaultRefused, match=why):
        find_victim(kind, status, port, Random(1))


def test_a_process_of_the_tree_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    kill(Victim(FaultKind.KILL_MIXER, sleeper.pid, "mixer"), [os.getpid()])

    assert sleeper.wait(DEADLINE_S) == -9


def test_nobody_else_is(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    try:
        for pid, roots, why in (
            (other.pid, [sleeper.pid], "is no child of the hub's"),
            (sleeper.pid, [sleeper.pid], "is no child of the hub's"),
            (sleeper.pid, [], "no hub's processes are known here"),
            (os.getppid(), [os.getpid()], "is no child of the hub's"),
        ):
            with pytest.raises(FaultRefused, match=why):
                kill(Victim(FaultKind.KILL_MIXER, pid, "mixer"), roots)
        assert sleeper.poll() is None
        assert other.poll() is None
    finally:
        other.communicate()
    with pytest.raises(FaultRefused, match="No such process"):
        kill(Victim(FaultKind.KILL_MIXER, other.pid, "mixer"), [os.getpid()])


def test_who_is_not_replaced_has_no_successor() -> None:
    async def ask() -> dict[str, Any] | None:
        return STATUS

    victim = find_victim(FaultKind.KILL_MIXER, STATUS, 0, Random(1))

    assert asyncio.run(successor(victim, ask, patience_s=0.1)) is None


def test_a_hub_replaces_what_is_killed(tmp_path: Path) -> None:
    hub = LiveHub(tmp_path)

    async def ask() -> dict[str, Any] | None:
        return await asyncio.to_thread(hub.state)

    try:
        with Musician(hub.port, "anna") as anna:
            hub.active("anna")
            for kind in (FaultKind.KILL_RECEIVER, FaultKind.KILL_MIXER):
                victim = find_victim(kind, hub.state(), anna.port, Random(1))
                kill(victim, [hub.process.pid])
                pid = asyncio.run(successor(victim, ask, patience_s=DEADLINE_S))

                assert pid not in (None, victim.pid)
                assert find_victim(kind, hub.state(), anna.port, Random(1)).pid == pid
    finally:
        hub.kill()
