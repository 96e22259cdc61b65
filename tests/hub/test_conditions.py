"""Every condition, from counters as workers write them: raised when it holds for long enough,
cleared when it is over for long enough, told once each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import structlog.testing

from hub.conditions.condition import Severity
from hub.conditions.looks import SPAN, STALL_NS
from hub.conditions.watch import CLIENT_CONDITIONS, LOGGED_PER_S, MAX_STEP_S
from hub.conditions.whole import WHOLE
from hub.flood import Limiter
from hub.overload.info import OverloadInfo
from shared.layout import HISTOGRAM_EDGES_NS, PatchMode
from tests.hub.troubles import (
    CLIENT_TROUBLES,
    CONDITIONS,
    ELSEWHERE,
    HUB_TROUBLES,
    Stage,
    Trouble,
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    clock = iter(np.arange(0.0, 1e6))
    monkeypatch.setattr("hub.log._limiter", Limiter(clock=lambda: float(next(clock))))
    with structlog.testing.capture_logs() as events:
        yield events


def lines(told: list[Any], event: str) -> list[str]:
    return [line["condition"] for line in told if line["event"] == event]


def test_every_condition_is_tested() -> None:
    assert set(CLIENT_TROUBLES) == {condition.slug for condition in CLIENT_CONDITIONS}
    assert {*CLIENT_TROUBLES, *HUB_TROUBLES, *ELSEWHERE} == set(CONDITIONS)
    assert len(CONDITIONS) == len(CLIENT_CONDITIONS) + len(WHOLE)


def test_who_is_well_has_none(told: list[Any]) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(100):
        stage.second()
    assert stage.raised(0) == stage.raised(1) == stage.of_the_hub == set()
    assert told == []


@pytest.mark.parametrize("slug", sorted(set(CLIENT_TROUBLES) - ELSEWHERE))
def test_condition_of_a_client(slug: str, told: list[Any]) -> None:
    condition, trouble = CONDITIONS[slug], CLIENT_TROUBLES[slug]
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(SPAN + 2):
        stage.second()

    looks = 0
    while slug not in stage.raised():
        assert looks <= condition.raise_s + SPAN, f"{slug} is not raised, but {stage.raised()}"
        stage.second(trouble)
        looks += 1
    assert looks >= max(condition.raise_s, 1.0)
    for _ in range(3):
        stage.second(trouble)
    assert stage.raised() == {slug, *trouble.also}
    assert stage.raised(1) == set()

    looks = 0
    while slug in stage.raised():
        assert looks <= condition.clear_s + SPAN + 2, f"{slug} stays"
        stage.second()
        looks += 1
    assert looks >= max(condition.clear_s, 1.0)
    for _ in range(3):
        stage.second()
    assert stage.raised() == set()
    assert lines(told, "condition raised").count(slug) == 1
    (cleared,) = [line for line in told if line["event"] == "condition cleared"]
    assert cleared["condition"] == slug
    assert type(cleared["seconds"]) is float  # as the log is to show it
    assert stage.known.hub.conditions_raised[slug] == 1


@pytest.mark.parametrize("slug", sorted(HUB_TROUBLES))
def test_condition_of_the_hub(slug: str, told: list[Any]) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(SPAN + 2):
        stage.second()
    for _ in range(int(CONDITIONS[slug].raise_s) + 2):
        stage.second(HUB_TROUBLES[slug])
    assert stage.of_the_hub == {slug}
    for _ in range(int(CONDITIONS[slug].clear_s) + 1):
        stage.second()
    assert stage.of_the_hub == set()
    assert lines(told, "hub condition raised") == lines(told, "hub condition cleared") == [slug]


def test_an_empty_hub_has_none(told: list[Any]) -> None:
    stage = Stage()
    for _ in range(20):
        stage.second()
    assert stage.of_the_hub == set()


def test_nobody_else_is_here() -> None:
    stage = Stage("Anna")
    for _ in range(5):
        stage.second()
    assert stage.raised() == {"alone"}
    stage.join("Berta")
    stage.second()
    assert stage.raised() == set()


def test_mono_clients_that_have_a_place_are_as_they_should_be() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    mono = Trouble(now={"channels": 1, "wants": 1, "sounding": 1}, slots={"panned": 1})
    for _ in range(5):
        stage.second(mono)
    assert stage.raised() == {"mono-return"}
    for settings in ({"mono_centre": 1}, {"upmix": 1}):
        placing = Stage("Anna", "Berta", "Carla", downmix=0.5, **settings)
        for _ in range(5):
            placing.second(Trouble(now={"channels": 1, "wants": 1, "sounding": 1}))
        assert placing.raised() == set()


def test_who_waits_to_be_admitted_is_no_company() -> None:
    stage = Stage("Anna", "Berta")
    for _ in range(5):
        stage.second(Trouble(slots={"held": 1, "gain": 0.0}), victim=1)
    assert stage.raised(0) == {"alone"}
    assert stage.raised(1) == {"waiting-room"}


def test_a_receiver_that_died() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    stage.second()
    anna = stage.table.by_slot(0)
    assert anna is not None
    anna.restarts += 1
    stage.second()
    assert stage.raised() == {"receiver-died"}


def test_what_befell_before_the_first_look_is_seen() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    anna = stage.table.by_slot(0)
    assert anna is not None
    anna.restarts += 1
    stage.second()
    assert stage.raised() == {"receiver-died"}


def test_a_worker_of_the_hub_that_died() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    stage.second()
    stage.known.hub.mixer_restarts += 1
    stage.second()
    assert stage.of_the_hub == {"worker-died"}


def test_what_many_suffer_from_at_once_is_the_hubs_line() -> None:
    stage = Stage("Anna", "Berta", "Carla", "Dora", "Ella")
    for _ in range(SPAN):
        stage.second()
    for k in range(8):
        for slot in range(3):
            stage.arena.rx[slot]["lost"] += 20
        stage.second()
        if k == 0:
            assert stage.of_the_hub == set()
    assert stage.of_the_hub == {"hub-line"}
    assert stage.raised(0) == {"losses"}
    assert stage.raised(4) == set()


def test_two_who_suffer_at_once_are_not_the_hub() -> None:
    stage = Stage("Anna", "Berta")
    for _ in range(8):
        for slot in range(2):
            stage.arena.rx[slot]["lost"] += 20
        stage.second()
    assert stage.of_the_hub == set()


def test_a_hub_without_a_place_left() -> None:
    stage = Stage("Anna", "Berta", slots=2)
    stage.second()
    assert stage.of_the_hub == {"hub-full"}


def test_a_hub_that_is_too_busy_for_newcomers() -> None:
    stage = Stage("Anna", "Berta")
    used = {"ticks": 0.31, "lateness": 0.0, "cpu": 0.84, "throttle": 0.0, "line": 0.1}
    stage.known.hub.overload = OverloadInfo(limit=0.8, used=used, refuses=("cpu-full",))
    stage.second()
    assert stage.of_the_hub == {"hub-refuses"}
    (raised,) = stage.known.hub.conditions
    assert raised.detail == "ticks 31 %, cpu 84 %, line 10 % of 80 %: cpu-full"
    stage.known.hub.overload = OverloadInfo(limit=0.8, used=used, sheds=("meters", "mixes"))
    stage.second()
    assert stage.of_the_hub == {"hub-sheds"}
    stage.known.hub.overload = OverloadInfo(limit=0.8, used=used)
    stage.second()
    assert stage.of_the_hub == set()
    near = OverloadInfo(limit=0.8, used=used, realtime_limit=0.95, realtime_used=0.91)
    stage.known.hub.overload = near
    for _ in range(3):
        stage.second()
    (raised,) = stage.known.hub.conditions
    assert raised.condition.slug == "hub-realtime-limit"
    assert raised.detail.startswith("uses 91 % of the 95 % of a core that it may have")


@pytest.mark.parametrize(
    ("mode", "slug"), [(PatchMode.NONE, "patch-none"), (PatchMode.LOOPBACK, "patch-loopback")]
)
def test_patch_modes_that_surprise(mode: PatchMode, slug: str) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    stage.arena.control[0]["patch"] = mode
    for _ in range(12):
        stage.second(Trouble(sent={"peak": 0.0}))
    assert stage.of_the_hub == {slug}
    assert stage.raised() == set()


def test_one_bad_moment_is_none() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(SPAN):
        stage.second()
    stage.second(Trouble(rx={"lost": 40, "late": 40, "concealed_frames": 5000, "stalls": 1}))
    for _ in range(SPAN + 2):
        stage.second()
        assert stage.raised() == set()


def test_what_comes_now_and_then_stays_raised(told: list[Any]) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for k in range(60):
        stage.second(Trouble(rx={"lost": 10}) if k % 5 == 0 else None)
    assert stage.raised() == {"losses"}
    assert lines(told, "condition raised") == ["losses"]
    assert lines(told, "condition cleared") == []


def test_what_was_counted_meanwhile_is_told_when_it_is_over(told: list[Any]) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(10):
        stage.second(Trouble(rx={"lost": 10, "concealed_frames": 1280}))
    for _ in range(20):
        stage.second()
    (over,) = (line for line in told if line["event"] == "condition cleared")
    stood = {name: over[name] for name in ("name", "condition", "lost", "concealed_frames")}
    assert stood == {"name": "Anna", "condition": "losses", "lost": 70, "concealed_frames": 8960}
    assert "late" not in over


def test_the_slots_next_client_begins_anew() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(4):
        stage.second(CLIENT_TROUBLES["muted"])
    assert stage.raised() == {"muted"}
    anna = stage.table.by_slot(0)
    assert anna is not None
    stage.arena.rx[0]["lost"] = 5000
    stage.second()
    stage.table.close(anna, stage.now_s)
    stage.table.settle(stage.now_s + 10.0)
    stage.arena.rx[0] = np.zeros_like(stage.arena.rx[0])
    stage.arena.tx[0] = np.zeros_like(stage.arena.tx[0])
    assert stage.join("Dora").slot == 0
    for _ in range(4):
        stage.second()
        assert stage.raised() == set()


def test_who_is_leaving_is_not_judged() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    stage.second(CLIENT_TROUBLES["muted"])
    anna = stage.table.by_slot(0)
    assert anna is not None
    stage.table.leave(anna, stage.now_s)
    stage.second(CLIENT_TROUBLES["muted"])
    assert stage.raised() == set()


def test_a_supervisor_that_slept_does_not_take_it_for_long() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(3):
        stage.second()
    silent = CLIENT_TROUBLES["silent-input"]
    stage.second(silent)
    stage.now_s += 3600.0
    stage.second(silent)
    assert stage.raised() == set()
    assert CONDITIONS["silent-input"].raise_s > MAX_STEP_S


@pytest.mark.parametrize(
    ("slug", "says"),
    [
        ("udp-elsewhere", "the last from 203.0.113.9 port 4464; expected from 192.0.2.1"),
        ("second-stream", "the last from 192.0.2.1 port 50001"),
        ("wrong-length", "the last of 500 bytes, where its header makes 528"),
        ("format-changed", "began with 128 frames, 48000 Hz, 16 bit, 2 ch, sends 64 frames"),
        ("wrong-header", "the last of 528 bytes"),
        ("queue-short", "packets are up to 10.4 ms late, its queue can wait 8.0 ms"),
        ("clock-drift", "250 ppm too slow"),
        ("losses", "of its packets were lost in ten seconds"),
        ("kernel-drops", "datagrams in ten seconds"),
    ],
)
def test_figures_are_given(slug: str, says: str) -> None:
    stage = Stage("Anna", "Berta", "Carla")
    for _ in range(12):
        stage.second(CLIENT_TROUBLES[slug])
    (raised,) = stage.known.clients[0].conditions
    assert says in raised.detail
    described = raised.described(stage.now_s)
    assert described["condition"] == slug
    assert described["for_s"] >= 1.0


def test_the_worst_comes_first() -> None:
    stage = Stage("Anna", "Berta", "Carla")
    both = Trouble(rx={"lost": 50}, tx={"packets": 0, "errors": 9}, slots={"gain": 0.0})
    for _ in range(10):
        stage.second(both)
    conditions = stage.known.clients[0].conditions
    assert [one.condition.slug for one in conditions] == ["send-errors", "losses", "muted"]
    severities = [one.condition.severity for one in conditions]
    assert severities == sorted(severities, reverse=True)


def test_words_are_sentences() -> None:
    for condition in CONDITIONS.values():
        for text in (condition.says, condition.musician, condition.ops):
            assert text[-1] in ".?"
            assert "  " not in text
        assert isinstance(condition.severity, Severity)


def test_a_stall_is_what_the_histogram_can_tell() -> None:
    assert HISTOGRAM_EDGES_NS[-2] >= STALL_NS


def test_hundreds_who_suffer_at_once_fill_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.log._limiter", Limiter(clock=lambda: 0.0))
    stage = Stage(*(f"client {k}" for k in range(200)), slots=256)
    stage.arena.slots["gain"] = 0.0
    stage.arena.rx["valid_ns"] = stage.now_s * 1e9
    with structlog.testing.capture_logs() as events:
        stage.watch.look(stage.table.sessions(), stage.now_s + 1)
    assert lines(events, "condition raised") == ["muted"] * int(LOGGED_PER_S)
    assert all("muted" in stage.raised(slot) for slot in range(200))
