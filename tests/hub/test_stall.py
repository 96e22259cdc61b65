"""A worker that lives but does not go on is ended, unless it was the supervisor that slept."""

from __future__ import annotations

import os

import pytest

from hub.duties import Duty, Kind, Worker
from hub.staff import Staff
from hub.stall import JACK_STALL_S, STALL_S, Stall
from shared.jacklayout import JackState
from tests.hub.listening import directory
from tests.workers.arenas import arena_of


class Band(Staff):
    """A staff of one worker, that only notes who is killed."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(-1, -1, {}, 0, directory(), lambda fact: None)
        self.only = Worker(1, Duty(kind), 0.0, ordered=True, pid=os.getpid())
        self._workers[1] = self.only
        self.killed = 0

    def kill(self, worker: Worker) -> None:
        assert worker.stuck
        self.killed += 1


@pytest.mark.parametrize(
    ("lives", "state", "told"),
    [
        (True, JackState.RUNNING, JackState.RUNNING),
        (False, JackState.RUNNING, JackState.WAITING),
        (False, JackState.MISFIT, JackState.WAITING),
        (False, JackState.HUNG, JackState.HUNG),
        (False, JackState.OFF, JackState.OFF),
    ],
)
def test_a_bridge_that_is_no_more_sees_no_server(
    lives: bool, state: JackState, told: JackState
) -> None:
    band = Band(Kind.BRIDGE if lives else Kind.MIXER)
    with arena_of(slots=1, period=64) as arena:
        arena.jack[0]["state"] = state
        Stall(arena, band, 0.2).look(0.0)
        assert arena.jack[0]["state"] == told


@pytest.mark.parametrize(
    ("kind", "section", "counter", "stall_s"),
    [(Kind.MIXER, "clock", "tick", STALL_S), (Kind.BRIDGE, "jack", "turns", JACK_STALL_S)],
)
@pytest.mark.parametrize(
    ("looks", "goes_on", "pid", "killed"),
    [
        ([0.04 * k for k in range(40)], False, 1, 1),
        ([0.04 * k for k in range(20)], False, 1, 0),  # not yet
        ([0.04 * k for k in range(40)], True, 1, 0),
        ([0.04 * k for k in range(40)], False, None, 0),  # it has yet to be started
        ([0.0, 0.04, 3.0, 3.04], False, 1, 0),  # we slept
    ],
)
def test_stuck(
    looks: list[float], goes_on: bool, pid: int | None, killed: int,
    kind: Kind, section: str, counter: str, stall_s: float,
) -> None:  # fmt: skip
    """Looks are told in shares of the time that is too long."""
    band = Band(kind)
    band.only.pid = pid
    with arena_of(slots=1, period=64) as arena:
        stall = Stall(arena, band, 0.04 * stall_s)
        for k, share in enumerate(looks):
            getattr(arena, section)[0][counter] = k if goes_on else 7
            stall.look(share * stall_s)
        hung = arena.jack[0]["state"] == JackState.HUNG
    assert band.killed == killed
    assert band.only.stuck == bool(killed)
    assert hung == (kind is Kind.BRIDGE and killed == 1)
