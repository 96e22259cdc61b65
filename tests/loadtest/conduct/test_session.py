"""Whole runs by the wire, against the bare echo and against a hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from loadtest.clients.state import State
from loadtest.conduct import servers
from loadtest.conduct.director import Stage
from loadtest.conduct.outcome import EventKind, Outcome
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import Server
from loadtest.conduct.session import Session, SessionError
from loadtest.scenario.model import Format, Hello, Hub, Network, Scenario, Section, Sources
from shared.layout import PatchMode
from tests.end_to_end.processes import wait_until
from tests.machine import to_oneself

pytestmark = pytest.mark.living

CPUS = sorted(os.sched_getaffinity(0))
ATTEMPTS = 3
LOOPBACK = Hub(mode=PatchMode.LOOPBACK)


@pytest.fixture(autouse=True)
def nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What returns is there at once."""
    monkeypatch.setattr("loadtest.conduct.session.DRAIN_S", 0.15)
    monkeypatch.setattr("loadtest.conduct.session.GOODBYE_S", 0.1)


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with servers.echo(clients=16, cpus=CPUS) as server:
        yield server


def scenario(*sections: Section, **changes: Any) -> Scenario:
    settings: dict[str, Any] = {"hub": LOOPBACK, "seconds": 0.5, "settle_s": 0.05, "join_rate": 0.0}
    return Scenario(**(settings | {"sections": sections or (Section(clients=3),)} | changes))


def play(server: Server, plan: Scenario, **settings: Any) -> Outcome:
    """A run, which leaves nothing behind."""
    threads = set(threading.enumerate())
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    try:
        return Session(
            plan, host=server.host, port=server.port, hub_pids=server.pids,
            control=server.control, realtime=False, **settings,
        ).run()  # fmt: skip
    finally:  # a thread's last steps, and a connection's other end, may take a moment
        wait_until(
            lambda: set(threading.enumerate()) <= threads | _pool_threads(), 10.0, "no thread left"
        )
        wait_until(
            lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors, 10.0, "no file left"
        )


def _pool_threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("asyncio")}


def total(outcome: Outcome, name: str) -> int:
    return int(outcome.state.clients[name].sum())


def faults(outcome: Outcome) -> dict[str, int]:
    """Every count that the echo leaves at zero, if it is not.

    Not what a machine that stops for a while makes of it: losses, and what is wrong after.
    """
    names = ("duplicates", "restarts", "malformed", "foreign", "leaks", "send_errors")
    found = {name: total(outcome, name) for name in names}
    if not outcome.state.run[0]["stalls"]:
        found |= {name: total(outcome, name) for name in ("lost", "wrong", "silent")}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(
    "form",
    [
        Format(frames=480, bits=32),
        Format(frames=256, bits=8, sends=3, wants=3, redundancy=2),
        Format(frames=1024, bits=16, sends=4, wants=4, redundancy=4),
    ],
    ids=lambda form: (
        f"{form.frames} frames, {form.bits} bits, {form.sends} channels, "
        f"redundancy {form.redundancy}"
    ),
)
def test_the_echo_has_no_fault(echo: Server, form: Format) -> None:
    outcome = play(echo, scenario(Section(clients=3, format=form)))

    assert faults(outcome) == {}
    assert total(outcome, "goodbyes") >= 3
    assert outcome.problems == []
    assert total(outcome, "voice_due") >= total(outcome, "voice_heard") > 0
    assert abs(total(outcome, "due") - total(outcome, "sent")) <= 3
    if not outcome.state.run[0]["stalls"]:
        assert abs(total(outcome, "returned") - total(outcome, "sent")) <= 6
        assert total(outcome, "voice_due") == total(outcome, "voice_heard")


@pytest.mark.parametrize(
    "changes",
    [{"sources": Sources.PORTS}, {"burst": True}, {"join_rate": 50.0}, {"step_us": 1000}],
    ids=lambda changes: ",".join(changes),
)
def test_the_echo_has_no_fault_however_it_is_asked(echo: Server, changes: dict[str, Any]) -> None:
    outcome = play(echo, scenario(**changes))

    assert faults(outcome) == {}
    assert total(outcome, "voice_heard") > 0


def test_all_formats_may_play_at_once(echo: Server) -> None:
    sections = [
        Section(name=f"{bits} bits", clients=2, format=Format(frames=64 * n, bits=bits),
                hello=hello, skew_ppm=100 * n)
        for n, (bits, hello) in enumerate(
            [(8, Hello.NAMED), (16, Hello.NAMELESS), (24, Hello.SHORT), (32, Hello.NAMED)], 1
        )
    ]  # fmt: skip
    outcome = play(echo, scenario(*sections))

    assert faults(outcome) == {}
    assert (outcome.state.clients["voice_heard"] > 0).all()


def test_networks_are_emulated_both_ways(echo: Server) -> None:
    rough = Network(loss=0.2, delay_ms=5, duplicate=0.1)
    outcome = play(
        echo, scenario(Section(clients=4, up=rough, down=Network(loss=0.2)), seconds=1.0)
    )

    for name in ("dropped_up", "delayed_up", "doubled_up", "dropped_down", "duplicates", "lost"):
        assert total(outcome, name) > 0, name
    assert total(outcome, "malformed") == total(outcome, "foreign") == 0


def test_facts_are_told(echo: Server) -> None:
    outcome = play(echo, scenario(Section(name="choir", clients=3)))

    assert sorted(joined.index for joined in outcome.joins) == [0, 1, 2]
    for joined in outcome.joins:
        assert joined.generation == 1
        assert joined.started_ns < joined.answered_ns < joined.first_ns
    assert [count for _, count in outcome.playing] == [1, 2, 3, 2, 1, 0]
    kinds = [event.kind for event in outcome.events]
    assert kinds == [EventKind.JOIN] * 3 + [EventKind.LEAVE] * 3
    assert [event.at_s for event in outcome.events] == sorted(e.at_s for e in outcome.events)
    assert outcome.events[0].at_s < 0 < outcome.events[-1].at_s
    assert outcome.cost
    assert outcome.cost.clients == pytest.approx(3)
    assert sum(use.cpu_us for use in outcome.cost.usage.values()) > 0
    assert sum(outcome.cost.private_kib.values()) > 0
    assert set(outcome.cost.shared_kib) == set(outcome.cost.private_kib)
    assert outcome.own_load > 0
    assert outcome.counters is None, "the echo has none"
    assert not outcome.control_expected
    assert set(outcome.at_opening) == {"skipped", "send_errors", "own_drops", "overrun"}
    assert not outcome.interrupted


class ChurningDirector:
    """One goes and comes back, another vanishes."""

    def __init__(self, plan: Scenario, stage: Stage) -> None:
        self.problems: list[str] = ["something was not done"]
        self.stage = stage

    async def run(self) -> None:
        stage = self.stage
        while time.monotonic_ns() < stage.opened_ns + 100_000_000:
            await asyncio.sleep(0.01)
        assert stage.hub_port(0) > 0
        stage.leave(0, vanish=False)
        stage.leave(0, vanish=False)
        stage.leave(1, vanish=True)
        assert stage.hub_port(0) == 0
        assert await stage.join(0)
        await asyncio.sleep(10)


def test_a_director_lets_clients_out_and_in(echo: Server) -> None:
    outcome = play(echo, scenario(Section(clients=3), seconds=1.5), director=ChurningDirector)

    assert [(joined.index, joined.generation) for joined in outcome.joins][3:] == [(0, 2)]
    assert outcome.joins[3].first_ns > outcome.joins[3].answered_ns
    assert outcome.joins[0].first_ns > 0
    assert [count for _, count in outcome.playing][3:6] == [2, 1, 2]
    assert outcome.problems == ["something was not done"]
    assert faults(outcome) == {}


def test_clients_that_join_in_the_window_are_nothing_to_wait_for(echo: Server) -> None:
    plan = scenario(Section(clients=3, join_at_s=0.1, join_over_s=0.2), seconds=1.0)

    outcome = play(echo, plan)

    assert len(outcome.joins) == 3
    assert all(joined.first_ns > 0 for joined in outcome.joins)
    assert 0 < total(outcome, "due") < 3 * 375


class Impatient:
    """Presses Ctrl-C soon after a phase has begun."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    def phase(self, text: str, seconds: float = 0.0) -> None:
        if text == self._phase:
            threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()

    def watch(self, state: State) -> None:
        assert len(state.clients) == 3

    def note(self, text: str) -> None:
        pass


def test_ctrl_c_closes_the_window(echo: Server) -> None:
    outcome = play(echo, scenario(seconds=3600.0), progress=Impatient("playing"))

    assert outcome.interrupted
    run = outcome.state.run[0]
    assert 0 < run["closed_ns"] - run["opened_ns"] < 60e9
    assert total(outcome, "goodbyes") > 0


def test_ctrl_c_before_the_window_ends_the_run(echo: Server) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(echo, scenario(settle_s=60.0), progress=Impatient("settling"))


def test_a_generator_that_ends_ends_the_run(echo: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise MemoryError("no more")

    monkeypatch.setattr("loadtest.conduct.session.ask_for_realtime", fail)
    plan = scenario(settle_s=60.0)

    with pytest.raises(SessionError, match=r"generator ended: MemoryError\('no more'\)"):
        Session(plan, host=echo.host, port=echo.port, realtime=True).run()


class Failing(ChurningDirector):
    """Falls over, in a group of tasks."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fall())

    async def _fall(self) -> None:
        raise ZeroDivisionError("oh")


def test_a_director_that_fails_is_an_error_that_says_why(echo: Server) -> None:
    with pytest.raises(SessionError, match=r"director failed: ZeroDivisionError\('oh'\)"):
        play(echo, scenario(), director=Failing)


@contextlib.contextmanager
def control_socket(endpoint: str, silent: set[int]) -> Iterator[list[int]]:
    """What says a hub's state, but not at those of the questions; yields their numbers so far."""
    asked: list[int] = []
    listens, ended = threading.Event(), threading.Event()
    mixer = {"lateness_us": {"p50": 9.0}, "load_ratio": 0.25}

    def serve() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(endpoint)
            listens.set()
            while not ended.is_set():
                if not router.poll(20):
                    continue
                who, question = router.recv_multipart()
                asked.append(len(asked))
                if asked[-1] not in silent:
                    hub = {"version": "1", "mixer": mixer | {"ticks": 100 * len(asked)}}
                    asked_by = json.loads(question)
                    result = {"hub": hub, "clients": []}
                    reply = {"v": asked_by["v"], "id": asked_by["id"], "ok": True, "result": result}
                    router.send_multipart([who, json.dumps(reply).encode()])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert listens.wait(10.0)  # its files are there before those of a run are counted
        yield asked
    finally:
        ended.set()
        thread.join()


def test_a_hub_too_busy_to_answer_is_asked_again(
    echo: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.conduct.session.TIMEOUT_MS", 100)
    endpoint = f"ipc://{tmp_path}/control"
    with control_socket(endpoint, silent={0, 2}) as asked:
        outcome = play(replace(echo, control=endpoint), scenario())

    assert len(asked) == 4
    assert outcome.control_expected
    assert outcome.counters
    assert outcome.counters.counts["ticks"] == 200


def test_a_hub_that_never_answers_has_no_counters_but_should_have(
    echo: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TIMEOUT_MS", "PATIENCE_MS"):
        monkeypatch.setattr(f"loadtest.conduct.session.{name}", 20)

    outcome = play(replace(echo, control=f"ipc://{tmp_path}/nobody"), scenario())

    assert outcome.control_expected
    assert outcome.counters is None


def test_no_hub_is_an_error(echo: Server) -> None:
    plan = scenario(Section(clients=2))
    with pytest.raises(SessionError, match=r"client 0 \(all 1\): .*onnect"):
        Session(plan, port=PORTS.take(), realtime=False).run()
    with pytest.raises(SessionError, match=r"nowhere\.invalid"):
        Session(plan, host="nowhere.invalid").run()


def test_a_hub_lets_everybody_hear_everybody() -> None:
    plan = scenario(
        Section(name="a", clients=2, format=Format(sends=1, wants=2)),
        Section(name="b", clients=2, format=Format(frames=64, bits=24, redundancy=2)),
        hub=Hub(mode=PatchMode.FAN_OUT_NO_SELF),
        seconds=2.0,
    )
    for _ in range(ATTEMPTS):
        with servers.tuttihub(plan.hub, cpus=CPUS) as server, to_oneself():
            outcome = play(server, plan)
        assert outcome.counters
        # what a hub that was not let run plays late sounds in anybody's turn
        late = [outcome.counters.counts[name] for name in ("missed", "starved", "late")]
        if not total(outcome, "leaks") or not (any(late) or outcome.state.run[0]["stalls"]):
            break

    assert total(outcome, "voice_heard") > 0
    assert outcome.counters
    assert outcome.counters.counts["ticks"] > 0
    assert set(outcome.counters.by_client) == {"a 1", "a 2", "b 1", "b 2"}
    assert outcome.versions["tuttihub"]
    assert outcome.cost
    assert {"tutti-mixer", "tutti-rx"} <= set(outcome.cost.usage)
    assert total(outcome, "malformed") == total(outcome, "leaks") == 0
