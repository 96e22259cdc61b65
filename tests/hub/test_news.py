"""Lines about single clients, from an arena whose counters grow."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
import structlog.testing

from hub.flood import Limiter
from hub.news import LOGGED_PER_S, News
from hub.sessions import Session, SessionTable
from shared.arena import Arena
from tests.hub.listening import make_arena, seat

HOME = ip_address("192.0.2.1")


@pytest.fixture
def arena() -> Arena:
    return make_arena(slots=32)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr("hub.log._limiter", Limiter(clock=lambda: 0.0))
    with structlog.testing.capture_logs() as events:
        yield events


def play(arena: Arena, table: SessionTable, name: str, **rx: float) -> Session:
    """A new session, being served, whose receiver has written this."""
    session = table.open(name, HOME, 61002, 0.0)
    assert session is not None
    table.admit(session, 50000 + session.slot, 0.0)
    seat(arena, session.slot, session.number, moves=0, engaged=0, **rx)
    return session


def test_a_client_that_is_resampled_from_now_on_is_told_once(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(32), News(arena)
    anna = play(arena, table, "Anna", clock_ratio=-37.25e-6, clock_sigma=0.4e-6)
    news.tell(table.sessions())
    assert told == []
    arena.rx[anna.slot]["engaged"] = 1
    news.tell(table.sessions())
    news.tell(table.sessions())
    assert told == [
        {
            "event": "client is resampled", "log_level": "info", "slot": 0, "name": "Anna",
            "drift_ppm": -37.25, "error_ppm": 0.4,
        }
    ]  # fmt: skip
    arena.rx[anna.slot]["engaged"] = 2
    news.tell(table.sessions())
    assert len(told) == 2


def test_a_drift_that_is_not_known_yet_is_not_told(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(32), News(arena)
    anna = play(arena, table, "Anna", clock_ratio=1e-3, clock_sigma=1e-3)
    arena.rx[anna.slot]["engaged"] = 1
    news.tell(table.sessions())
    assert [event["drift_ppm"] for event in told] == [None]


def test_a_new_port_is_told(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(32), News(arena)
    _anna, berta = play(arena, table, "Anna"), play(arena, table, "Berta")
    news.tell(table.sessions())
    arena.rx[berta.slot]["moves"] = 1
    arena.rx[berta.slot]["peer_port"] = 40404
    news.tell(table.sessions())
    assert [(e["event"], e["name"], e["before"], e["peer_port"]) for e in told] == [
        ("client's port changed", "Berta", 50001, 40404)
    ]


def test_the_slots_next_client_begins_at_nothing(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(1), News(arena)
    anna = play(arena, table, "Anna", clock_sigma=1e-6)
    arena.rx[anna.slot]["engaged"] = 1
    news.tell(table.sessions())
    table.close(anna, 0.0)
    berta = play(arena, table, "Berta", clock_sigma=1e-6)
    assert berta.slot == anna.slot
    arena.rx[berta.slot]["engaged"] = 1
    news.tell(table.sessions())
    assert [event["name"] for event in told] == ["Anna", "Berta"]


def test_what_a_slot_holds_of_its_last_client_is_no_news(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(1), News(arena)
    anna = play(arena, table, "Anna")
    arena.rx[anna.slot]["session"] = anna.number + 100
    arena.rx[anna.slot]["moves"] = arena.rx[anna.slot]["engaged"] = 3
    news.tell(table.sessions())
    assert told == []
    assert anna.peer_port == 50000


def test_many_at_once_do_not_fill_the_log(arena: Arena, told: list[Any]) -> None:
    table, news = SessionTable(32), News(arena)
    for k in range(32):
        play(arena, table, f"client {k}")
    arena.rx["moves"] = 1
    arena.rx["peer_port"] = 40000
    news.tell(table.sessions())
    assert len(told) == LOGGED_PER_S


def test_nobody_is_no_news(arena: Arena, told: list[Any]) -> None:
    News(arena).tell([])
    assert told == []
