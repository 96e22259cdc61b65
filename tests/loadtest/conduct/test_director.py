"""What happens when, and that it is made to happen: on a stage that only takes notes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.conduct import procfs
from loadtest.conduct.director import (
    Act,
    Deed,
    Director,
    awaited,
    deed_of_guests,
    deeds,
    early,
    too_late,
)  # fmt: skip
from loadtest.conduct.outcome import Event, EventKind
from loadtest.scenario.model import Fault, FaultKind, Scenario, Section
from tests.end_to_end.processes import wait_until

DEADLINE_S = 20.0
LONG_S = 600.0


class Notebook:
    """A stage on which nothing happens but what is written down."""

    def __init__(self, port: int = 9, hub_pids: Sequence[int] = ()) -> None:
        self.host, self.port, self.hub_pids = "127.0.0.1", port, hub_pids
        self.opened_ns = time.monotonic_ns()
        self.did: list[tuple[str, int]] = []
        self.events: list[Event] = []
        self.ports: dict[int, int] = {}
        self.pids: Path | None = None
        self.gate: asyncio.Event | None = None

    async def join(self, index: int) -> bool:
        self.did.append(("knocks", index))
        if self.gate is not None:
            await self.gate.wait()
        self.did.append(("joins", index))
        return True

    def leave(self, index: int, *, vanish: bool) -> None:
        self.did.append(("vanishes" if vanish else "leaves", index))

    def hub_port(self, index: int) -> int:
        return self.ports.get(index, 0)

    def note(self, event: Event) -> None:
        self.events.append(event)

    async def status(self) -> dict[str, Any] | None:
        if self.pids is None:
            return None
        pid = int(self.pids.read_text().split()[-1])
        return {"hub": {"mixer": {"pid": pid}, "lanes": []}, "clients": []}

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def play(scenario: Scenario, stage: Notebook) -> Director:
    director = Director(scenario, stage)
    asyncio.run(asyncio.wait_for(director.run(), DEADLINE_S))
    return director


def by_client(plan: list[Deed]) -> dict[int, list[Deed]]:
    own: dict[int, list[Deed]] = defaultdict(list)
    for deed in plan:
        if deed.act is not Act.FAULT:
            own[deed.index].append(deed)
    return own


def test_those_who_join_before_the_window_are_the_session_s() -> None:
    scenario = Scenario(
        sections=(Section("here", 2), Section("late", 2, join_at_s=0), Section("more", 1))
    )

    assert early(scenario) == [0, 1, 4]
    assert [(deed.act, deed.index) for deed in deeds(scenario)] == [(Act.JOIN, 2), (Act.JOIN, 3)]


def test_late_ones_come_evenly_over_their_time() -> None:
    scenario = Scenario(sections=(Section("late", 5, join_at_s=2, join_over_s=1),))

    assert deeds(scenario) == [Deed(2 + n / 4, Act.JOIN, n, 0) for n in range(5)]


def test_leaving_takes_its_time_and_everybody_once() -> None:
    section = Section("all", 50, leave_at_s=3, leave_over_s=2)
    plan = deeds(Scenario(sections=(section,)))

    assert [deed.at_s for deed in plan] == pytest.approx([3 + 2 * n / 49 for n in range(50)])
    left = [deed.index for deed in plan]
    assert sorted(left) == list(range(50))
    assert left != sorted(left)


def test_those_who_churn_stay_and_are_away_as_long_as_they_should() -> None:
    section = Section("all", 20, home_s=3, away_s=1.5)
    plan = by_client(deeds(Scenario(seconds=40, sections=(section,))))

    assert len(plan) == 20
    for own in plan.values():
        acts = [deed.act for deed in own]
        assert acts == [Act.LEAVE, Act.JOIN] * (len(acts) // 2) + [Act.LEAVE] * (len(acts) % 2)
        assert 0 <= own[0].at_s <= 3
        steps = [after.at_s - before.at_s for before, after in itertools.pairwise(own)]
        assert steps[0::2] == pytest.approx([1.5] * len(steps[0::2]))
        assert steps[1::2] == pytest.approx([3] * len(steps[1::2]))
    # one leaves in each of twenty parts of the time at home
    first = sorted(own[0].at_s for own in plan.values())
    assert all(n * 0.15 <= at_s <= (n + 1) * 0.15 for n, at_s in enumerate(first))


def test_those_who_churn_and_leave_do_not_come_back() -> None:
    section = Section("all", 8, home_s=1, away_s=0.5, join_at_s=1, leave_at_s=6)
    plan = by_client(deeds(Scenario(seconds=40, sections=(section,))))

    for own in plan.values():
        assert own[0] == Deed(1, Act.JOIN, own[0].index, 0)
        assert own[-1].act is Act.LEAVE
        assert own[-1].at_s <= 6


def test_a_fault_comes_once_or_again_and_again() -> None:
    once, often = Fault(FaultKind.FLOOD, at_s=2), Fault(FaultKind.FLOOD, at_s=1, every_s=3)
    plan = deeds(Scenario(seconds=10, faults=(once, often)))

    assert [(deed.at_s, deed.index, deed.serial) for deed in plan] == [
        (1, 1, 0), (2, 0, 0), (4, 1, 1), (7, 1, 2),
    ]  # fmt: skip


times = st.floats(0, 20)
section_times = st.builds(
    lambda join, over, stay, leave_over, home, away: {
        "join_at_s": join, "join_over_s": over, "leave_at_s": max(join, 0) + stay,
        "leave_over_s": leave_over, "home_s": home, "away_s": away if home else 0.0,
    },
    st.just(float("-inf")) | times, times, st.floats(0.1, 20) | st.just(float("inf")), times,
    st.just(0.0) | st.floats(0.5, 5), st.floats(0, 5),
)  # fmt: skip


@settings(max_examples=30)
@given(section_times, st.integers(1, 20), st.integers(0, 99))
def test_a_plan_makes_sense_for_everybody_and_is_the_same_each_time(
    when: dict[str, float], clients: int, seed: int
) -> None:
    scenario = Scenario(seconds=15, seed=seed, sections=(Section("all", clients, **when),))  # type: ignore[arg-type]
    plan = deeds(scenario)

    assert plan == deeds(scenario)
    assert all(0 <= deed.at_s < scenario.seconds for deed in plan)
    present = set(early(scenario))
    for deed in plan:
        assert (deed.index in present) == (deed.act is Act.LEAVE), deed
        present ^= {deed.index}
    for own in by_client(plan).values():
        assert [deed.serial for deed in own] == list(range(len(own)))


def test_another_seed_is_another_evening() -> None:
    sections = (Section("all", 9, home_s=3, away_s=1),)

    assert deeds(Scenario(seed=1, sections=sections)) != deeds(Scenario(seed=2, sections=sections))


def test_everything_is_done_in_its_order() -> None:
    stage = Notebook()
    sections = (
        Section("stay", 1),
        Section("come", 2, join_at_s=0.1, join_over_s=0.1),
        Section("go", 1, leave_at_s=0.25),
        Section("drop", 1, join_at_s=0.15, leave_at_s=0.3, vanish=True),
    )

    play(Scenario(seconds=LONG_S, sections=sections), stage)

    assert [deed for deed in stage.did if deed[0] != "knocks"] == [
        ("joins", 1), ("joins", 4), ("joins", 2), ("leaves", 3), ("vanishes", 4),
    ]  # fmt: skip


def test_nobody_leaves_before_the_own_join_is_over() -> None:
    stage = Notebook()
    sections = (Section("all", 1, join_at_s=0, leave_at_s=0.05), Section("go", 1, leave_at_s=0.1))

    async def run() -> None:
        stage.gate = asyncio.Event()
        task = asyncio.ensure_future(Director(Scenario(seconds=60, sections=sections), stage).run())
        while ("leaves", 1) not in stage.did:
            await asyncio.sleep(0.01)
        assert ("leaves", 0) not in stage.did
        stage.gate.set()
        await task

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
    assert stage.did == [("knocks", 0), ("leaves", 1), ("joins", 0), ("leaves", 0)]


def test_the_window_s_end_is_the_end() -> None:
    stage = Notebook()
    section = Section("all", 1, join_at_s=0)

    async def run() -> None:
        stage.gate = asyncio.Event()  # nobody ever opens
        await Director(Scenario(seconds=0.3, sections=(section,)), stage).run()

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
    assert stage.did == [("knocks", 0)]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (FaultKind.KILL_MIXER, "the hub's control socket does not answer"),
        (FaultKind.KILL_RECEIVER, "nobody of all is there"),
        (FaultKind.FLOOD, "nobody of all is there"),
    ],
)
def test_a_fault_that_cannot_be_is_a_problem(kind: FaultKind, why: str) -> None:
    stage = Notebook()

    director = play(Scenario(seconds=LONG_S, faults=(Fault(kind, at_s=0),)), stage)

    assert [problem.startswith(f"fault {kind}: {why}") for problem in director.problems] == [True]
    assert stage.kinds() == [EventKind.REFUSED]
    assert why in stage.events[0].text


TOY_HUB = """
import subprocess, sys
child = None
try:
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                                 stdin=subprocess.PIPE)
        with open(sys.argv[1], "a") as file:
            print(child.pid, file=file)
        child.wait()
finally:
    child.kill()
"""


@pytest.fixture
def toy_hub(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process that replaces its child once; its pid, and the file that names the children."""
    pids = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, "-c", TOY_HUB, str(pids)])
    try:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), DEADLINE_S, "a child")
        yield parent.pid, pids
    finally:
        children = [pid for pid in procfs.tree(parent.pid) if pid != parent.pid]
        parent.kill()
        parent.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):  # its stdin has ended with its parent
                os.kill(pid, 9)


def test_a_killed_process_and_its_successor_are_noted(toy_hub: tuple[int, Path]) -> None:
    stage = Notebook(hub_pids=[toy_hub[0]])
    stage.pids = toy_hub[1]

    director = play(Scenario(seconds=LONG_S, faults=(Fault(FaultKind.KILL_MIXER, at_s=0),)), stage)

    assert director.problems == []
    assert stage.kinds() == [EventKind.FAULT, EventKind.RECOVERED]
    first, second = toy_hub[1].read_text().split()
    assert stage.events[0].text == f"mixer (pid {first}) killed"
    assert f"pid {second}" in stage.events[1].text
    assert not Path(f"/proc/{first}").exists()


class Door:
    """A TCP server that counts who is inside, and lets nobody in any further."""

    def __init__(self) -> None:
        self.inside, self.came = 0, 0

    async def open(self) -> int:
        self.server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.inside += 1
        self.came += 1
        while await reader.read(100):
            pass
        self.inside -= 1
        writer.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_guests_come_and_go_and_say_what_they_did() -> None:
    fault = Fault(FaultKind.SILENT_TCP, at_s=0, seconds=0.3, count=3)

    async def run() -> Notebook:
        door = Door()
        stage = Notebook(await door.open())
        await Director(Scenario(seconds=LONG_S, faults=(fault,)), stage).run()
        await until(lambda: door.inside == 0)
        assert door.came == 3
        return stage

    stage = asyncio.run(run())
    assert stage.kinds() == [EventKind.FAULT, EventKind.NOTE]
    assert stage.events[0].text == "silent-tcp: 3 guests for 0.3 s"
    assert stage.events[1].text.startswith("silent-tcp is over: 3 connections")


def test_guests_that_achieved_nothing_are_a_problem() -> None:
    fault = Fault(FaultKind.SILENT_TCP, at_s=0, seconds=0.3, count=3)

    director = play(Scenario(seconds=LONG_S, faults=(fault,)), Notebook(port=9))

    assert director.problems == ["fault silent-tcp: 0 connections, of 3 that were to be"]


def test_guests_that_the_window_s_end_shows_out_still_say_what_they_did() -> None:
    fault = Fault(FaultKind.SILENT_TCP, at_s=0, seconds=500, count=2)

    async def run() -> Director:
        door = Door()
        director = Director(Scenario(seconds=600, faults=(fault,)), Notebook(await door.open()))
        task = asyncio.ensure_future(director.run())
        await until(lambda: door.inside == 2)
        await asyncio.sleep(0.05)  # the guests find out that they are inside
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return director

    director = asyncio.run(run())

    assert isinstance(director.stage, Notebook)
    assert "2 connections" in director.stage.events[-1].text
    assert director.problems == []


def test_guests_for_whom_no_time_is_left_stay_away() -> None:
    stage = Notebook()
    fault = Fault(FaultKind.SILENT_TCP, at_s=0, seconds=5)

    director = play(Scenario(seconds=0.4, faults=(fault,)), stage)

    assert director.problems == []
    assert stage.events[0].text == "silent-tcp: no time for it before the window's end"


@pytest.mark.parametrize(
    ("kind", "name", "planned"),
    [
        (FaultKind.SILENT_TCP, "connections", 4),
        (FaultKind.NO_UDP, "handshakes", 4),
        (FaultKind.GARBAGE, "datagrams", 400),
        (FaultKind.FLOOD, "datagrams", 100),
        (FaultKind.DEAF, "datagrams", 3000),
        (FaultKind.CLOSED, "ports closed", 4),
        (FaultKind.HELLO_STORM, "connections", 100),
    ],
)
def test_what_makes_a_fault_one(kind: FaultKind, name: str, planned: float) -> None:
    assert deed_of_guests(Fault(kind, count=4, rate=50), 2.0) == (name, planned)


def test_what_a_shorter_window_leaves_out_is_said() -> None:
    sections = (Section("stay", 2), Section("come", 3, join_at_s=4, join_over_s=4))
    fault = Fault(FaultKind.KILL_MIXER, at_s=5)
    scenario = Scenario(seconds=5, sections=sections, faults=(fault,))

    assert awaited(scenario) == {0, 1, 2}
    assert too_late(scenario) == [
        "section come: 2 of 3 clients never came in: the window ends after 5 s",
        "fault kill-mixer at 5 s did not happen: the window ends after 5 s",
    ]


def test_cancelled_it_shows_the_guests_out() -> None:
    fault = Fault(FaultKind.SILENT_TCP, at_s=0, seconds=500, count=4)

    async def run() -> None:
        door = Door()
        stage = Notebook(await door.open())
        task = asyncio.ensure_future(Director(Scenario(seconds=600, faults=(fault,)), stage).run())
        await until(lambda: door.inside == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(procfs.tree(os.getpid())) <= before
        await until(lambda: door.inside == 0)

    before = set(procfs.tree(os.getpid()))
    asyncio.run(run())
