"""Probes of real servers, once each and short; nothing in them judges time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from loadtest.capacity.measure import (
    Bench,
    Case,
    Patience,
    Resources,
    Target,
    others_ns,
    threads,
    watching,
)
from loadtest.conduct import servers
from loadtest.scenario.model import Service
from shared.layout import PatchMode

CORE = min(os.sched_getaffinity(0))
# whatever the machine does meanwhile, the level is held
ANYTHING = Service(1.0, 1000, 1.0, -1)
CASE = Case(hub_cpus=(CORE,), service=ANYTHING)


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


def test_a_process_that_began_meanwhile_counts_from_its_start() -> None:
    assert others_ns({}, {(5, 5): (700, 1), (6, 6): (50, 0)}, set(), {1}) == 700
    assert others_ns({(5, 5): (600, 0)}, {(5, 5): (700, 1)}, set(), {1}) == 100


def test_block_that_takes_too_long_is_interrupted_once() -> None:
    patience = Patience(0.05)

    def overlong() -> None:
        with patience:
            patience.watch(None)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        overlong()

    assert patience.exhausted


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
