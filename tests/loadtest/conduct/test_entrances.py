"""Coming in, when the generator does not do its part."""

from __future__ import annotations

import asyncio
import socket

import pytest

from loadtest.clients.roster import make_state
from loadtest.clients.state import PLAY
from loadtest.clients.wires import make_wires, open_sockets
from loadtest.conduct import entrances
from loadtest.conduct.entrances import Entrances
from loadtest.conduct.outcome import EventKind
from loadtest.conduct.realtime import ask_for_realtime
from loadtest.scenario.model import Scenario, Section


def test_a_generator_that_does_not_obey_is_told_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrances, "OBEY_S", 0.05)
    plan = Scenario(sections=(Section(clients=2),))
    (udp,) = open_sockets(plan.sources, plan.clients, socket.AF_INET)
    with udp:
        state = make_state(plan, 1)
        door = Entrances(
            plan, state, make_wires(plan, [udp]), family=socket.AF_INET, host="127.0.0.1",
            port=9, udp_ports=[udp.getsockname()[1]],
        )  # fmt: skip
        state.clients["stage"][0] = PLAY
        state.run["orders"] = 1

        assert not asyncio.run(door.join(0))
        asyncio.run(door.all_out())

    assert [(each.kind, each.text) for each in door.happened] == [
        (EventKind.NOTE, "cannot come back: the generator does not obey")
    ]
    assert door.problems == []  # nothing of the hub's
    assert door.own_faults == ["the generator does not obey"]


def test_realtime_that_cannot_be_had_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.sched_setscheduler", refuse)

    assert ask_for_realtime() is False
