"""Every condition, from counters as workers write them: raised when it holds for long enough,
cleared when it is over for long enough, told once each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
import structlog.testing

from hub.addresses import IPAddress, address_words
from hub.conditions.condition import Severity
from hub.conditions.looks import SPAN, STALL_NS
from hub.conditions.watch import CLIENT_CONDITIONS, LOGGED_PER_S, MAX_STEP_S, Watch
from hub.conditions.whole import WHOLE
from hub.directory import ClientInfo
from hub.flood import Limiter
from hub.sessions import Session, SessionTable
from shared.layout import HISTOGRAM_EDGES_NS, PatchMode, RxState
from tests.hub.listening import directory, make_arena, seat

HOME, AWAY = ip_address("192.0.2.1"), ip_address("203.0.113.9")
CONDITIONS = {condition.slug: condition for condition in (*CLIENT_CONDITIONS, *WHOLE)}
PERIOD_NS = 128 * 1e9 / 48000


def header_word(
    frames: int = 128, rate: int = 3, bits: int = 16, wants: int = 2, sends: int = 0
) -> int:
    """Bytes 8..15 of an audio header, as the receiver keeps them."""
    (word,) = struct.unpack("<q", struct.pack("<HHBBBB", 77, frames, rate, bits, wants, sends))
    return int(word)


@dataclass
class Trouble:
    """What befalls a client, by the second.

    Attributes:
        rx, tx, clock: how much counters grow a second, instead of as usual.
        now: fields of the receiving record, while it lasts.
        slots: fields of the slot's record.
        sent: fields of the sending record.
        also: conditions that come with it.
    """

    rx: dict[str, float] = field(default_factory=dict)
    tx: dict[str, float] = field(default_factory=dict)
    clock: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    slots: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    also: frozenset[str] = frozenset()


WAITS: dict[str, float] = {"state": RxState.WAITING}
NOTHING = {"packets": 0.0, "windows": 0.0}


def foreign(address: IPAddress) -> dict[str, float]:
    """Where the last foreign datagram came from."""
    return dict(zip(("foreign_high", "foreign_low"), address_words(address), strict=True))


CLIENT_TROUBLES = {
    "no-udp": Trouble(rx=NOTHING, now={**WAITS, "datagrams": 0}),
    "udp-elsewhere": Trouble(
        rx={**NOTHING, "foreign": 375}, now={**WAITS, **foreign(AWAY), "foreign_port": 4464}
    ),
    "wrong-header": Trouble(
        rx={**NOTHING, "malformed": 375}, now={**WAITS, "odd_bytes": 528, "odd_header": -1}
    ),
    "wrong-length": Trouble(
        rx={**NOTHING, "malformed": 375},
        now={**WAITS, "odd_bytes": 500, "odd_header": header_word()},
    ),
    "format-changed": Trouble(
        rx={**NOTHING, "malformed": 375},
        now={"odd_bytes": 272, "odd_header": header_word(frames=64)},
    ),
    "stopped": Trouble(rx=NOTHING, now={"valid_ns": 1}),
    "garbage-32bit": Trouble(now={"garbage": 1, "bits": 32}),
    "waiting-room": Trouble(slots={"held": 1, "gain": 0.0}),
    "measuring-rate": Trouble(
        rx={"windows": 0}, now={"state": RxState.KNOCKING, "rate_code": 7, "rate_hz": 0}
    ),
    "not-served": Trouble(tx={"packets": 0}),
    "send-errors": Trouble(tx={"packets": 0, "errors": 375}),
    "silent-input": Trouble(rx={"silent_windows": 10, "faint_windows": 10}),
    "muted": Trouble(slots={"gain": 0.0}),
    "hears-silence": Trouble(sent={"peak": 0.0}),
    "receiver-died": Trouble(),  # below
    "kernel-drops": Trouble(rx={"kernel_drops": 1}),
    "restarts": Trouble(rx={"restarts": 1}),
    "stalls": Trouble(rx={"stalls": 1}),
    "losses": Trouble(rx={"lost": 2}),
    "queue-short": Trouble(rx={"late": 2}, now={"late_wanted": 500.0}),
    "late-packets": Trouble(rx={"late": 2}),
    "gaps": Trouble(rx={"concealed_frames": 4800}),
    "skips": Trouble(rx={"overflows": 1}),
    "clock-drift": Trouble(now={"clock_ratio": -250e-6, "clock_sigma": 1e-6}),
    "clipping-input": Trouble(rx={"full_windows": 1}),
    "bad-samples": Trouble(rx={"sanitised": 9}, now={"bits": 32}),
    "noise": Trouble(now={"guard": 1}),
    "stuck-tone": Trouble(now={"guard": 2}),
    "constant-offset": Trouble(now={"offsets": 1}),
    "clipping-return": Trouble(tx={"clipped": 50}),
    "second-stream": Trouble(rx={"foreign": 375}, now={**foreign(HOME), "foreign_port": 50001}),
    "strangers": Trouble(rx={"foreign": 1}, now=foreign(AWAY)),
    "faint-input": Trouble(rx={"faint_windows": 10}),
    "one-sided": Trouble(now={"sounding": 1}),
    "mono-input": Trouble(now={"channels": 1, "sounding": 1}),
    "mono-return": Trouble(now={"wants": 1}),
    "queue-long": Trouble(now={"margin_frames": 1440}),
    "other-rate": Trouble(now={"rate_code": 2, "rate_hz": 44100}),
    "alone": Trouble(),  # below
}
HUB_TROUBLES = {
    "mixer-stuck": Trouble(clock={"ticks": 0, "work_ns": 0}),
    "hub-late": Trouble(clock={"missed": 1}),
    "hub-overloaded": Trouble(clock={"work_ns": 0.8e9}),
}
ELSEWHERE = {
    "receiver-died", "alone", "worker-died", "hub-line", "hub-full", "patch-none", "patch-loopback",
}  # fmt: skip
"""Tested on their own."""


class Stage:
    """A hub's arena and the watch over it, at a time of its own."""

    def __init__(self, *names: str, slots: int = 8, **settings: float) -> None:
        self.arena = make_arena(slots=slots)
        for setting, value in settings.items():
            self.arena.header[0][setting] = value
        self.known = directory()
        self.table = SessionTable(slots)
        self.watch = Watch(self.arena, self.known)
        self.now_s = 1000.0
        for name in names:
            self.join(name)

    def join(self, name: str) -> Session:
        """A client that is well."""
        session = self.table.open(name, HOME, 61002, self.now_s)
        assert session is not None
        self.table.admit(session, 50000 + session.slot, self.now_s)
        seat(self.arena, session.slot, session.number, margin_frames=384, late_wanted=96.0)
        record = self.arena.slots[session.slot]
        record["peer_high"], record["peer_low"] = address_words(HOME)
        record["queue_packets"] = 4
        self.known.clients[session.slot] = ClientInfo(
            session.slot, session.number, name, str(HOME), 61002, joined_s=self.now_s
        )
        return session

    def second(self, trouble: Trouble | None = None, victim: int = 0) -> None:
        """A second passes, and is looked at."""
        self.now_s += 1.0
        for session in self.table.sessions():
            befalls = trouble if trouble is not None and session.slot == victim else Trouble()
            self._write(session.slot, befalls)
        usual: dict[str, float] = {"ticks": 375, "work_ns": 2e7}
        for name, grown in {**usual, **(trouble or Trouble()).clock}.items():
            self.arena.clock[0][name] += int(grown)
        self.watch.look(self.table.sessions(), self.now_s)

    def _write(self, slot: int, befalls: Trouble) -> None:
        rx, tx, record = self.arena.rx[slot], self.arena.tx[slot], self.arena.slots[slot]
        well: dict[str, float] = {
            "state": RxState.ACTIVE, "valid_ns": self.now_s * 1e9, "bits": 16, "channels": 2,
            "wants": 2, "sounding": 3, "margin_frames": 384, "late_wanted": 96.0,
            "clock_sigma": 1e-6, "clock_ratio": 20e-6, "garbage": 0,
            "guard": 0, "offsets": 0,
            "rate_code": 3, "rate_hz": 48000,
        }  # fmt: skip
        for name, value in {**well, **befalls.now}.items():
            rx[name] = value
        usual: dict[str, float] = {"datagrams": 375, "packets": 375, "windows": 10}
        for name, grown in {**usual, **befalls.rx}.items():
            if name == "stalls":
                rx["jitter"][-1] += int(grown)
            elif name not in befalls.now:
                rx[name] += int(grown)
        for name, grown in {"packets": 375.0, **befalls.tx}.items():
            tx[name] += int(grown)
        tx["peak"] = befalls.sent.get("peak", 0.25)
        for name, value in {"gain": 1.0, "held": 0.0, **befalls.slots}.items():
            record[name] = value

    def raised(self, slot: int = 0) -> set[str]:
        """What the directory says of a client."""
        return {one.condition.slug for one in self.known.clients[slot].conditions}

    @property
    def of_the_hub(self) -> set[str]:
        return {one.condition.slug for one in self.known.hub.conditions}


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
    assert "CLIENT" not in described["ops"]


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
