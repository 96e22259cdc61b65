"""Readings, from counters as workers write them."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from hub.overload.cores import Cores
from hub.overload.gauges import Gauges
from hub.overload.resources import Readings
from hub.sessions import Session, SessionTable
from shared.arena import Arena
from shared.layout import HISTOGRAM_EDGES_NS
from tests.hub.listening import directory, make_arena, seat

PERIOD_NS = 128 * 1e9 / 48000
AWAY, HERE = "192.0.2.1", "127.0.0.1"


def gauges(arena: Arena, line_mbit: int | str | None = None) -> Gauges:
    return Gauges(arena, directory(), Cores(1, realtime=False), line_mbit)


def players(arena: Arena, *addresses: str) -> list[Session]:
    """Stereo clients at 16 bit with packets of 128 frames: 1.782 Mbit/s each way."""
    table = SessionTable(8)
    for address in addresses:
        session = table.open("Anna", ip_address(address), 61002, 0.0)
        assert session is not None
        table.admit(session, 4464, 0.0)
        seat(arena, session.slot, session.number)
    return table.sessions()


def test_a_hub_without_anybody_reads_nothing() -> None:
    found = gauges(make_arena())
    found.read([], 10.0)
    assert found.read([], 11.0) == Readings()


@pytest.mark.parametrize("lanes", [0, 2])
def test_work_is_that_of_the_busiest_process_since_the_last_look(lanes: int) -> None:
    arena = make_arena(lanes=lanes)
    clock, lane = arena.clock[0], arena.lanes[lanes]
    clock["ticks"], clock["work_ns"] = 1000, 1000 * 2_000_000
    clock["work"][7] = 1000
    found = gauges(arena)
    clock["ticks"] += 100
    clock["work_ns"] += 100 * 30_000
    clock["work"][1] += 100
    if lanes:
        lane["ticks"], lane["work_ns"] = 100, 100 * 1_000_000
        lane["work"][6] = 100
    read = found.read([], 10.0)
    bucket = 6 if lanes else 1
    low, high = HISTOGRAM_EDGES_NS[bucket - 1], HISTOGRAM_EDGES_NS[bucket]
    assert low / PERIOD_NS < read.work <= high / PERIOD_NS
    assert read.mean_work == pytest.approx((1_000_000 if lanes else 30_000) / PERIOD_NS)
    assert read.lateness == 0.0


@pytest.mark.parametrize("section", ["clock", "lanes"])
def test_a_missed_tick_is_a_period_late(section: str) -> None:
    arena = make_arena(lanes=1)
    found, record = gauges(arena), getattr(arena, section)[int(section == "lanes")]
    for missed, lateness in ((0, 99_500 / PERIOD_NS), (3, 99_500 / PERIOD_NS), (4, 1.0)):
        arena.clock[0]["lateness"][2] += 373
        record["ticks"] += 373
        record["missed"] += missed
        assert found.read([], 1.0).lateness == pytest.approx(lateness)
    assert found.read([], 2.0).lateness == 0.0


def test_cpu_is_that_of_the_audio_processes() -> None:
    known = directory()
    known.hub.mixer_pid, known.hub.pid, known.hub.zygote_pid = os.getpid(), 1, 1
    found = Gauges(make_arena(), known, Cores(1, realtime=False), None)
    found.read([], 10.0)
    deadline = os.times().user + 0.05
    while os.times().user < deadline:
        pass
    read = found.read([], 10.1)
    assert 0.3 < read.cpu < 5.0


def test_a_pause_of_real_time_is_told_and_counted(tmp_path: Path) -> None:
    known = directory()
    known.hub.mixer_pid = 7
    stat = "7 (tutti-mixer) S " + " ".join(str(k) for k in range(4, 40))
    for name, text in (
        ("proc/sys/kernel/sched_rt_runtime_us", "950000"),
        ("proc/sys/kernel/sched_rt_period_us", "1000000"),
        ("proc/7/stat", stat),
        ("proc/7/schedstat", "0 0 0"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    arena = make_arena()
    found = Gauges(arena, known, Cores(2, realtime=True, root=tmp_path), None)
    found.read([], 1.0)
    used_s = 0.0
    for at_s, more_s, missed, paused in ((2.0, 0.5, 20, 0), (3.0, 0.8, 17, 1), (4.0, 0.94, 1, 2)):
        used_s += more_s
        (tmp_path / "proc/7/schedstat").write_text(f"{int(used_s * 1e9)} 0 0")
        arena.clock[0]["missed"] += missed
        read = found.read([], at_s)
        assert found.realtime_used == pytest.approx(more_s / 0.95)
        assert found.realtime_paused == paused
        assert read.throttled == (paused > 0)
    assert found.realtime_limit == 0.95
    assert gauges(arena).realtime_limit is None


def test_the_line_carries_what_all_need_together() -> None:
    arena = make_arena()
    present = players(arena, AWAY, AWAY, HERE)
    assert gauges(arena, 10).read(present, 1.0).line == pytest.approx(0.5346)
    assert gauges(arena, None).read(present, 1.0).line == 0.0


def test_who_plays_from_this_machine_does_not_use_its_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.overload.gauges.card_mbps", lambda: 10)
    arena = make_arena()
    found = gauges(arena, "auto")
    assert found.line_bps == 10e6
    assert found.read(players(arena, AWAY, AWAY, HERE), 1.0).line == pytest.approx(0.3564)
