"""Which resource gives out first, told from made-up probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.limits import (
    Resource,
    Surroundings,
    first_to_give_out,
    realtime_share,
    throttle_ns,
)  # fmt: skip
from loadtest.capacity.probe import Figures, Probe
from loadtest.capacity.search import Ending, Found

HELD = 100
HERE = Surroundings(cores=1, machine_cores=2, max_clients=1024, memory_kib=1_000_000)
CALM = Figures(
    period_us=2667.0,
    window_s=30.0,
    joined=HELD + 5,
    cpu_us={"tutti-rx": 8.0, "tutti-mixer": 5.0, "tuttihub": 0.2},
    counts={"ticks": 11000, "missed": 2, "kernel_drops": 0},
    descriptors=500,
    descriptor_limit=20_000,
    available_kib=500_000,
)
"""Half a core: 13.2 µs a client-period."""


def found(*failing: Probe, ending: Ending = Ending.FOUND, clients: int = HELD) -> Found:
    held = Probe(clients, 30, True, True, figures=replace(CALM, joined=clients))
    return Found(ending, clients, HELD + 5, 0, [held, *failing])


def failing(clients: int = HELD + 5, **changes: Any) -> Probe:
    figures = replace(CALM, **({"joined": clients} | changes))
    return Probe(clients, 30, True, False, ("missed ticks: 2 (at most 0)",), figures=figures)


@pytest.mark.parametrize(
    ("changes", "resource", "text"),
    [
        (
            {"cpu_us": {"tutti-rx": 15.0, "tutti-mixer": 8.2}},
            Resource.CORE,
            "used 91% of its core (receivers 0.59 cores, mixer 0.32 cores)",
        ),
        (
            {"cpu_us": {"tutti-rx": 16.0, "tutti-mixer": 8.0}},
            Resource.REALTIME,
            "used 94% of its core; the kernel lets real-time processes have 95%",
        ),
        ({"counts": {"kernel_drops": 7}}, Resource.BUFFERS, "7 datagrams"),
        ({"available_kib": 20_000}, Resource.MEMORY, "20 MiB of memory were left"),
        ({"descriptors": 19_500}, Resource.DESCRIPTORS, "19500 descriptors open of 20000"),
        ({"others_cores": 0.3}, Resource.OTHERS, "other programs used 30% of the hub's core"),
        ({"steal_s": 3.0}, Resource.MACHINE, "took 5.0% of all cores' time"),
        ({"joined": 90}, Resource.JOINS, "15 did not come in"),
        ({"unheard": 3}, Resource.JOINS, "3 did not come in or heard nothing"),
        ({"join_p99_ms": 9000.0}, Resource.JOINS, "9.0 s (p99)"),
        ({}, Resource.TIMING, "used 0.52 of 1 cores"),
    ],
)
def test_exhausted_resource_is_named_with_its_figure(
    changes: dict[str, Any], resource: Resource, text: str
) -> None:
    limit = first_to_give_out(found(failing(**changes)), HERE)

    assert limit.resource is resource
    assert limit.text.startswith("With 105 clients ")
    assert text in limit.text
    assert limit.clients == 105
    assert limit.figures["missed_ticks"] == changes.get("counts", CALM.counts).get("missed", 0)


def test_full_core_comes_before_what_follows_from_it() -> None:
    probe = failing(
        cpu_us={"tutti-rx": 15.0, "tutti-mixer": 8.2}, counts={"kernel_drops": 9}, steal_s=1.0
    )

    limit = first_to_give_out(found(probe), HERE)

    assert limit.resource is Resource.CORE
    assert limit.others == (
        "the hypervisor took 1.7% of all cores' time for others",
        "9 datagrams found the hub's receive buffers full",
    )


def test_idle_hub_that_fails_is_blamed_on_the_machine() -> None:
    busy, idle = failing(), failing(cpu_us={"tutti-rx": 1.0})

    assert "quiet" not in first_to_give_out(found(busy), HERE).text
    assert "repeat it on a quiet one" in first_to_give_out(found(idle), HERE).text


def test_mixer_alone_is_the_limit_where_there_are_many_cores() -> None:
    probe = failing(500, cpu_us={"tutti-rx": 8.0, "tutti-mixer": 4.7})

    limit = first_to_give_out(found(probe), replace(HERE, cores=8))

    assert limit.resource is Resource.MIXER
    assert "88% of each period" in limit.text


def test_no_realtime_no_throttle() -> None:
    probe = failing(cpu_us={"tutti-rx": 16.0, "tutti-mixer": 8.0})

    for around in (replace(HERE, realtime=False), replace(HERE, realtime_share=1.0)):
        assert first_to_give_out(found(probe), around).resource is Resource.CORE


def test_cause_that_shows_only_further_up_is_found_there() -> None:
    plain = failing(130, counts={"kernel_drops": 50})

    limit = first_to_give_out(found(plain, failing(105)), HERE)

    assert (limit.resource, limit.clients) == (Resource.BUFFERS, 130)


def test_hub_that_admits_no_more() -> None:
    asked = failing(20, joined=16)

    limit = first_to_give_out(found(asked, clients=16), replace(HERE, max_clients=16))

    assert limit.resource is Resource.MAX_CLIENTS


def test_nothing_gave_out_below_the_highest_number_allowed() -> None:
    all_held = found(ending=Ending.HIGHEST)

    assert first_to_give_out(all_held, HERE).resource is Resource.NOTHING
    at_most = first_to_give_out(all_held, replace(HERE, max_clients=HELD))
    assert at_most.resource is Resource.MAX_CLIENTS


def test_generator_is_named_with_its_lateness_and_what_the_hub_still_had() -> None:
    late = Probe(
        128, 10, False, False, reasons=("sends were late: p99 900 µs",),
        figures=Figures(own_load=0.97, late_p99_us=900),
    )  # fmt: skip
    ended = replace(found(ending=Ending.GENERATOR), beyond=128)
    ended.probes.append(late)

    limit = first_to_give_out(ended, HERE)

    assert limit.resource is Resource.GENERATOR
    assert "sends were late: p99 900 µs; it used 97% of a core" in limit.text
    assert "with 100 the hub used 0.49 cores" in limit.text


def test_unusable_probes_say_nothing_of_the_hub() -> None:
    late = replace(failing(), usable=False)

    assert first_to_give_out(found(late), HERE).resource is Resource.NOTHING


def test_realtime_share_is_the_kernels(tmp_path: Path) -> None:
    assert (realtime_share(tmp_path), throttle_ns(tmp_path)) == (1.0, 0.0)
    (tmp_path / "sched_rt_period_us").write_text("1000000\n")
    (tmp_path / "sched_rt_runtime_us").write_text("950000\n")
    assert (realtime_share(tmp_path), throttle_ns(tmp_path)) == (0.95, 50e6)
    (tmp_path / "sched_rt_runtime_us").write_text("-1\n")
    assert (realtime_share(tmp_path), throttle_ns(tmp_path)) == (1.0, 0.0)


def test_this_machine_can_be_described() -> None:
    here = Surroundings.here(cores=1, max_clients=10)

    assert here.machine_cores >= 1
    assert here.memory_kib > 0
    assert 0 < here.realtime_share <= 1
