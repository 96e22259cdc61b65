"""``tuttihub why``: what it chooses, and what it says."""

from __future__ import annotations

import io

import pytest
from msgspec import convert
from rich.console import Console

from hub.conditions.endings import ENDINGS, departure
from hub.conditions.words import with_words
from hub.directory import ClientInfo
from hub.explain import Entry, concerned, print_why
from hub.messages.state import Status, TurnedAway
from hub.snapshot import hub_status
from shared.layout import EndReason
from tests.hub.listening import directory, make_arena, raised, seat

NOW_NS = 50_000_000_000


def client(slot: int, *slugs: str, address: str = "192.0.2.1") -> ClientInfo:
    name = f"client {slot}"
    info = ClientInfo(slot, slot + 1, name, address, 61002 + slot, joined_s=0.0)
    info.conditions = raised(*slugs)
    return info


@pytest.fixture
def state() -> Status:
    """One is well, one is muted, one has no UDP; one was let go."""
    arena = make_arena()
    known = directory(
        client(0), client(1, "muted"), client(2, "no-udp", "muted", address="192.0.2.7")
    )
    seat(arena, 0, 1)
    gone = departure(client(3, "udp-elsewhere", "muted"), EndReason.NO_UDP, 45.0)
    assert gone is not None
    known.hub.departures.append(gone)
    known.hub.conditions = raised("patch-none")
    return convert(with_words(hub_status(arena, known, NOW_NS, 0.0)), Status)


def names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries if not isinstance(entry, TurnedAway)]


def test_who_is_meant(state: Status) -> None:
    assert names(concerned(state, None)) == ["client 1", "client 2", "client 3"]
    assert names(concerned(state, "client 0")) == ["client 0"]
    assert names(concerned(state, 2)) == ["client 2"]
    assert names(concerned(state, "192.0.2.7")) == ["client 2"]
    assert names(concerned(state, "192.0.2.1")) == ["client 0", "client 1"]
    assert names(concerned(state, "client 3")) == ["client 3"]
    assert concerned(state, "client 4") == []


def said(state: Status, client: int | str | None) -> str:
    stream = io.StringIO()
    print_why(state, concerned(state, client), Console(file=stream, width=100, highlight=False))
    return stream.getvalue()


def test_everything_is_said_with_advice(state: Status) -> None:
    text = said(state, "client 2")
    for part in (
        "the hub\n  patch-none  info, for 0:00:10",
        "client 2, slot 2, 192.0.2.7: waiting\n  no-udp  error, for 0:00:10",
        "not one UDP packet of it has come.",
        "musician: A firewall or router",
        "hub: Open the hub's UDP ports",
        "\n  muted  info",
        "hub: tuttihub ctl mute 2 off",
    ):
        assert part in text


def test_who_was_let_go_and_who_is_well(state: Status) -> None:
    text = said(state, 3)
    assert "client 3, slot 3, 192.0.2.1: left 0:00:05 ago, no-udp" in text
    assert "udp-elsewhere  error" in text
    assert "client 0, slot 0, 192.0.2.1: active\n  nothing is wrong" in said(state, 0)


def test_nobody_in_trouble() -> None:
    empty = with_words(hub_status(make_arena(), directory(), NOW_NS, 0.0))
    assert said(convert(empty, Status), None) == "nothing is wrong with anybody\n"


@pytest.mark.parametrize(
    ("reason", "slugs", "told"),
    [
        (EndReason.NO_UDP, (), ["no-udp"]),
        (EndReason.NO_UDP, ("no-udp",), ["no-udp"]),
        (EndReason.NO_UDP, ("wrong-header", "muted"), ["wrong-header", "muted"]),
        (EndReason.NO_UDP, ("muted",), ["no-udp", "muted"]),
        (EndReason.SILENCE, ("stopped",), ["stopped"]),
        (EndReason.SILENCE, ("format-changed", "stopped"), ["format-changed", "stopped"]),
        (EndReason.TOO_LARGE, ("no-udp",), ["too-large", "no-udp"]),
        (EndReason.FAILED, (), ["receiver-failed"]),
    ],
)
def test_the_reason_that_explains_most_comes_first(
    reason: EndReason, slugs: tuple[str, ...], told: list[str]
) -> None:
    gone = departure(client(3, *slugs), reason, 45.0)
    assert gone is not None
    assert [one["condition"] for one in gone.conditions] == told


def test_who_left_as_wished_is_not_remembered() -> None:
    wished = {EndReason.CLIENT_EXIT, EndReason.KICKED, EndReason.HUB_STOP, EndReason.REPLACED}
    for reason in EndReason:
        remembered = departure(client(3, "no-udp"), reason, 45.0) is not None
        assert remembered == (reason in ENDINGS)
        assert not (remembered and reason in wished)
