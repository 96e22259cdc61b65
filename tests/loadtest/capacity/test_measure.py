"""Probes of real servers, once each and short; nothing in them judges time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.capacity.measure import (
    Bench,
    Case,
    Patience,
    Resources,
    Target,
    others_ns,
    probe_of,
    threads,
    watching,
)
from loadtest.capacity.probe import Figures, Probe
from loadtest.conduct import procfs, servers
from loadtest.conduct.servers import Server, ServerEnded
from loadtest.conduct.session import NobodyLetIn, Session, SessionError
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result
from loadtest.scenario.model import Scenario, Service
from shared.layout import PatchMode
from tests.loadtest.reporting.runs import perfect

CORE = min(os.sched_getaffinity(0))
# whatever the machine does meanwhile, the level is held
ANYTHING = Service(1.0, 1000, 1.0, -1)
CASE = Case(hub_cpus=(CORE,), service=ANYTHING)
NO_SERVER = Server("x", 1, (), None, Path("/dev/null"), "x 1")


@pytest.mark.alone
@pytest.mark.end_to_end
@pytest.mark.timeout(600)  # a cold start compiles the kernels of hub and generator
def test_probe_of_tuttihub_tells_what_it_cost() -> None:
    bench = Bench(CASE)

    probe = bench(3, 0.5)

    figures = probe.figures
    assert (probe.clients, probe.seconds, figures.joined) == (3, 0.5, 3)
    assert figures.period_us == pytest.approx(2666.7, abs=0.1)
    assert figures.expected > 400
    assert any("rx" in kind for kind in figures.cpu_us)
    assert 0 < figures.cores("mixer") < figures.cores()
    assert figures.counts["ticks"] > 100
    assert figures.private_kib > 0
    assert 0 < figures.descriptors < figures.descriptor_limit
    assert figures.available_kib > 0
    assert bench.version.startswith("tuttihub ")


@pytest.mark.alone
@pytest.mark.end_to_end
@pytest.mark.timeout(300)
def test_probe_of_the_original_tells_what_it_cost() -> None:
    if lacking := servers.missing_programs():
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing: {lacking}")
        pytest.skip(f"missing: {lacking}")
    case = replace(CASE, target=Target.JACKTRIP, frames=256, mode=PatchMode.FULL_MIX)

    probe = Bench(case)(2, 0.5)

    assert probe.figures.joined == 2
    assert {"jackd", "jacktrip"} <= set(probe.figures.cpu_us)
    assert probe.figures.counts == {}
    assert probe.figures.private_kib_a_client >= 0


def test_case_is_the_scenario_it_stands_for() -> None:
    case = replace(CASE, frames=64, channels=1, mode=PatchMode.FULL_MIX, queue="2", seed=7)

    scenario = case.scenario(40, 30)

    assert (scenario.clients, scenario.seconds, scenario.seed) == (40, 30, 7)
    assert (scenario.hub.period, scenario.hub.mode, scenario.hub.queue) == (64, 4, "2")
    assert (scenario.sections[0].format.sends, scenario.sections[0].format.frames) == (1, 64)
    assert scenario.service == ANYTHING
    assert case.label == "tuttihub, 64 frames, mono"


@pytest.mark.living
def test_other_programs_on_the_servers_cores_are_noticed() -> None:
    endless = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(endless.pid, {CORE})
        before = threads()
        after = before
        while after[endless.pid, endless.pid][0] - before[endless.pid, endless.pid][0] < 50_000_000:
            after = threads()
    finally:
        endless.kill()
        endless.wait()

    assert others_ns(before, after, set(), {CORE}) >= 50_000_000
    without = others_ns(before, after, {endless.pid}, {CORE})
    assert without <= others_ns(before, after, set(), {CORE}) - 50_000_000
    assert others_ns(before, after, set(), {100_000}) == 0


def test_a_process_that_ends_while_it_is_looked_at_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is listed, and what is in it is gone."""
    there, gone = tmp_path / "12/task/12", tmp_path / "13"
    there.mkdir(parents=True)
    gone.mkdir()
    (there / "schedstat").write_text("700 5 1\n")
    (there / "stat").write_text("12 (a name) " + " ".join(str(k) for k in range(50)))
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    assert threads() == {(12, 12): (700, 36)}


def test_a_process_that_began_meanwhile_counts_from_its_start() -> None:
    assert others_ns({}, {(5, 5): (700, 1), (6, 6): (50, 0)}, set(), {1}) == 700
    assert others_ns({(5, 5): (600, 0)}, {(5, 5): (700, 1)}, set(), {1}) == 100


@pytest.mark.living
def test_block_that_takes_too_long_is_interrupted_once() -> None:
    patience = Patience(0.05)

    def overlong() -> None:
        with patience:
            patience.watch(None)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        overlong()

    assert patience.exhausted


@pytest.mark.living
def test_block_that_ends_in_time_is_not_interrupted() -> None:
    with Patience(0.05) as patience:
        time.sleep(0.2)  # compiling takes its time
        patience.watch(None)
        patience.phase("draining")
        time.sleep(0.2)

    assert not patience.exhausted


def test_descriptors_and_memory_are_seen() -> None:
    seen = Resources()
    seen.look((os.getpid(),))

    assert 3 <= seen.descriptors < seen.descriptor_limit
    assert seen.available_kib > 0


def test_servers_that_have_ended_are_left_out() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    with watching((process.pid,), {CORE}) as seen:
        pass

    assert seen.descriptors == 0


def result_of(*, lost: int = 0, missed: int = 0, load: float = 0.5) -> Result:
    """Of 20 clients for 10 s, at 128 frames: 67,500 packets of those who must be served."""
    outcome = perfect()
    outcome.state.clients["lost"][:18] = lost // 18
    outcome.state.clients["returned"][:18] -= lost // 18
    assert outcome.counters
    assert outcome.cost
    outcome.counters.counts["missed"] = missed
    for use in outcome.cost.usage.values():
        use.cpu_us *= load / 0.2
    return evaluate(outcome)


def halts(*ms: float) -> npt.NDArray[np.int64]:
    return (np.array(ms) * 1e6).astype(np.int64)


def test_what_a_halt_of_the_machine_explains_is_not_the_servers() -> None:
    result = result_of(lost=18 * 6, missed=6)
    assert not result.passed

    probe = probe_of(result, 10, Resources(), halts(7.0, 1.5))

    assert probe.passed, probe.failed
    assert probe.figures.excused_ticks == (3 + 1) + (1 + 1)
    assert (probe.figures.halts, probe.figures.halted_ms) == (2, 8.5)


def test_what_is_beyond_the_halts_is() -> None:
    probe = probe_of(result_of(lost=18 * 8, missed=8), 10, Resources(), halts(7.0))

    assert not probe.passed
    assert probe.failed[0].startswith("return loss")
    assert probe.failed[1] == "missed ticks 4 (at most 0)"


def test_what_may_be_the_real_time_limit_is_no_halt_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadtest.capacity.measure.throttle_ns", lambda: 50e6)

    probe = probe_of(result_of(missed=9), 10, Resources(), halts(7.0, 49.6))

    assert probe.failed[0] == "missed ticks 5 (at most 0)"
    assert probe.figures.excused_ticks == 4


def test_a_server_that_fills_its_core_is_not_excused_by_halts() -> None:
    """Linux stops real-time processes that use all of a core, and a watcher with them."""
    probe = probe_of(result_of(missed=1, load=0.95), 10, Resources(), halts(50.0))

    assert not probe.passed
    assert probe.figures.excused_ticks == 0


class DyingServer(Bench):
    """A bench whose server ends while it is probed."""

    @contextlib.contextmanager
    def server(self) -> Iterator[Server]:
        yield NO_SERVER
        raise ServerEnded("x ended with -9:\nout of memory")

    def _probe(self, server: Server, scenario: Scenario, patience: Patience) -> Probe:
        return Probe(scenario.clients, scenario.seconds, False, False, figures=Figures(joined=7))


def test_server_that_ends_under_its_load_has_failed() -> None:
    probe = DyingServer(CASE)(7, 1.0)

    assert (probe.usable, probe.passed, probe.figures.joined) == (True, False, 7)
    assert probe.failed == ("the server ended under its load: x ended with -9:\nout of memory",)


@pytest.mark.parametrize(
    ("error", "usable"),
    [(NobodyLetIn("refused"), True), (SessionError("too many open files"), False)],
)
def test_our_own_failure_is_no_answer(
    error: SessionError, usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Session) -> None:
        raise error

    monkeypatch.setattr(Session, "run", fail)

    probe = Bench(CASE)._probe(NO_SERVER, CASE.scenario(3, 1.0), Patience(60))

    assert (probe.usable, probe.passed) == (usable, False)
    assert str(error) in (*probe.failed, *probe.reasons)[0]


class SlowServer(Bench):
    """A bench whose server lets nobody in until it is interrupted, and then once more later."""

    def __init__(self, late: bool) -> None:
        super().__init__(CASE)
        self.late = late

    def patience_s(self, scenario: Scenario) -> float:
        return 0.05

    @contextlib.contextmanager
    def server(self) -> Iterator[Server]:
        yield NO_SERVER
        if self.late:  # the signal comes when nobody waits for it any more
            time.sleep(60)

    def _probe(self, server: Server, scenario: Scenario, patience: Patience) -> Probe:
        patience.watch(None)
        if not self.late:
            time.sleep(60)
        return Probe(scenario.clients, scenario.seconds, True, True)


@pytest.mark.living
@pytest.mark.parametrize("late", [False, True])
def test_server_that_is_too_busy_to_let_all_in_has_failed(late: bool) -> None:
    probe = SlowServer(late)(5, 1.0)

    assert (probe.usable, probe.passed) == (True, False)
    assert probe.failed == ("not done within 0 s: the server was too busy to let all in",)
    assert probe.hopeless
