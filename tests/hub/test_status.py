"""The tables."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from msgspec import convert
from rich.console import Console

from hub.conditions.words import with_words
from hub.directory import ClientInfo, Departure, DoorInfo
from hub.messages.state import ClientState, Status
from hub.overload.info import OverloadInfo
from hub.snapshot import hub_status
from hub.status import _COLUMNS, PLAIN_WIDTH, print_clients, print_status
from shared.arena import Arena
from shared.layout import EndReason
from tests.hub.listening import directory, make_arena, raised, seat

NOW_NS = 50_000_000_000


def printed(state: dict[str, Any]) -> str:
    stream = io.StringIO()
    print_status(
        convert(with_words(state), Status), Console(file=stream, width=PLAIN_WIDTH, highlight=False)
    )
    return stream.getvalue()


def client(slot: int, **values: Any) -> ClientInfo:
    wanted = {"name": f"client {slot}", "address": "192.0.2.1", "port": 61002 + slot, **values}
    return ClientInfo(slot=slot, session=slot + 1, joined_s=0.0, **wanted)


def state(arena: Arena, *clients: ClientInfo) -> dict[str, Any]:
    return hub_status(arena, directory(*clients), NOW_NS, 1_700_003_661.0)


def test_hub_that_is_empty() -> None:
    text = printed(state(make_arena()))
    assert "tuttihub 1.2.3, pid 4321, up 1:01:01" in text
    assert "TCP 4464, UDP 61002..61009" in text
    assert "0 active of 0, at most 8" in text
    assert "nobody is connected" in text
    assert "replaced" not in text


def test_every_client_has_a_line() -> None:
    arena = make_arena()
    seat(arena, 0, 1, valid_ns=NOW_NS - 3_000_000, peak=0.5, lost=11, late=12, underruns=13)
    lines = printed(state(arena, client(0), client(1, receiver_pid=99))).splitlines()
    (playing,) = [line for line in lines if "client 0" in line]
    (waiting,) = [line for line in lines if "client 1" in line]
    for text in ("active", "192.0.2.1:50000 → 61002", "2→2 ch 16 bit 128", "-6.0", "3 ms"):
        assert text in playing
    assert playing.split()[-6:] == ["11", "12", "13", "3", "ms", "–"]
    assert "waiting" in waiting
    assert waiting.endswith("99")


def test_queues_and_clocks() -> None:
    arena = make_arena()
    for slot in range(3):
        seat(arena, slot, slot + 1, depth_frames=480, highest=3)
    arena.slots[0]["queue_packets"] = 4
    arena.rx[1]["clock_ratio"], arena.rx[1]["clock_sigma"] = 37.25e-6, 0.4e-6
    arena.rx[1]["resampling"] = arena.rx[2]["resampling"] = 1
    lines = printed(state(arena, *(client(slot) for slot in range(3)))).splitlines()
    for k, texts in enumerate(("10.7/10.0 –", "10.7/10.0* +37.2*", "10.7/10.0* –*")):
        (line,) = [line for line in lines if f"client {k}" in line]
        assert f" {texts} " in " ".join(line.split())


def test_settings_of_the_receiving_side_have_a_line() -> None:
    arena = make_arena()
    arena.header[0]["match_clients"] = 1
    assert "4, gaps burg, drift auto, clients matched" in printed(state(arena))


def test_gains_and_mutes() -> None:
    arena = make_arena()
    for slot in range(5):
        seat(arena, slot, slot + 1)
    clients = (
        client(0),
        client(1, gain=2.0),
        client(2, gain=0.0),
        client(3, muted=True),
        client(4, muted=True, gain=0.5),
    )
    arena.pair[1] = 1.0
    arena.slots[1]["overrides"] = 1
    lines = printed(state(arena, *clients)).splitlines()
    gains = ("0", "+6.0*", "off", "muted", "muted (-6.0)")
    for k, gain in enumerate(gains):
        (line,) = [line for line in lines if f"client {k}" in line]
        assert f" {gain} " in line


def test_places_and_what_the_guard_does_stand_beside_the_gain() -> None:
    arena = make_arena()
    for slot in range(3):
        seat(arena, slot, slot + 1, cut=(0.0, 0.9, 1.0)[slot])
    arena.control[0]["limiter"] = 1
    arena.header[0]["downmix"] = 0.5
    text = printed(state(arena, client(0, pan=-40.0), client(1), client(2, pan=0.0)))
    for k, gain in enumerate(("0 L40", "0 guarded", "0 guarded C")):
        (line,) = [line for line in text.splitlines() if f"client {k}" in line]
        assert f" {gain} " in line
    assert "guard watch, limiter on" in text
    assert "downmix -6 dB" in text


def test_name_is_never_markup() -> None:
    assert "[red]Anna[/red]" in printed(state(make_arena(), client(0, name="[red]Anna[/red]")))


def test_what_was_replaced_or_refused_is_told() -> None:
    known = directory()
    known.hub.mixer_restarts = 2
    known.hub.refused = [{"what": "SCHED_FIFO", "error": "EPERM", "advice": "ulimit -r 80"}]
    text = printed(hub_status(make_arena(), known, NOW_NS, 0.0))
    assert "mixer 2 ×" in text
    assert "SCHED_FIFO: ulimit -r 80" in text


def test_lanes_of_their_own_have_a_line() -> None:
    arena = make_arena(lanes=2)
    arena.lanes[2]["listeners"] = 31
    text = printed(state(arena))
    assert "lane 1" in text
    assert "31 listeners" in text


def test_narrow_terminal_gets_whole_columns_and_fewer() -> None:
    stream = io.StringIO()
    arena = make_arena()
    seat(arena, 0, 1, valid_ns=NOW_NS)
    clients = state(arena, client(0, address="2001:db8:1234:5678:9abc:def0:1234:5678"))["clients"]
    print_clients(convert(clients, list[ClientState]), Console(file=stream, width=60))
    heading, line = stream.getvalue().splitlines()
    assert heading.split()[:2] == ["slot", "name"]
    assert "address" not in heading
    assert "client 0" in line
    assert "…" not in stream.getvalue()


def test_accounts_are_shown_where_there_are_any() -> None:
    arena = make_arena()
    assert "account" not in printed(state(arena, client(0)))
    seen = state(arena, client(0, account="clara"), client(1))
    seen["hub"]["auth"] = {
        "required": True, "accounts": 7, "certificate_expiry_s": 1_800_000_000.0,
        "logins": {"wrong-credentials": 2, "ok": 3},
    }  # fmt: skip
    text = printed(seen)
    assert "7 users, certificate until 2027-01-15, 3 ok, 2 wrong-credentials" in text
    assert "clara" in text


def test_worst_condition_has_a_column() -> None:
    arena = make_arena()
    for slot in range(3):
        seat(arena, slot, slot + 1)
    clients = (
        client(0),
        client(1, conditions=raised("muted")),
        client(2, conditions=raised("no-udp", "alone", "muted")),
    )
    lines = printed(state(arena, *clients)).splitlines()
    for k, text in enumerate(("active  2", "active  muted", "active  no-udp +2")):
        (line,) = [line for line in lines if f"client {k}" in line]
        assert text in re.sub("  +", "  ", line)


def test_what_a_client_sends_is_told_with_its_rate() -> None:
    arena = make_arena()
    for slot, (hz, says) in enumerate(((48000, "128 48k"), (44100, "128 44.1k"), (0, "128 ?"))):
        seat(arena, slot, slot + 1, rate_hz=hz)
        assert f"2→2 ch 16 bit {says}" in printed(state(arena, client(slot)))


def test_conditions_of_the_hub_and_who_was_let_go() -> None:
    known = directory()
    known.hub.conditions = raised("hub-late")
    known.hub.departures.append(
        Departure(
            3, "Anna", "192.0.2.1", 47.0, EndReason.NO_UDP,
            tuple(one.described(45.0) for one in raised("udp-elsewhere")),
        )
    )  # fmt: skip
    text = printed(hub_status(make_arena(), known, NOW_NS, 0.0))
    assert "hub-late  The hub misses ticks" in text
    assert "left      Anna (192.0.2.1) 0:00:03 ago: udp-elsewhere" in text


def test_the_door_has_a_line_once_it_is_not_simply_open() -> None:
    known, arena = directory(client(0)), make_arena()
    assert "\ndoor" not in printed(hub_status(arena, known, NOW_NS, 0.0))
    seat(arena, 0, 1)
    arena.slots[0]["held"] = 1
    known.hub.door = DoorInfo(True, True, 2, ["192.0.2.0/24"], ["192.0.2.7"])
    known.hub.hellos_refused = {"banned": 3}
    text = printed(hub_status(arena, known, NOW_NS, 0.0))
    line = next(line for line in text.splitlines() if line.startswith("door"))
    assert line.split(maxsplit=1)[1].strip() == (
        "locked; waiting room, 1 in it; only 192.0.2.0/24; not 192.0.2.7; 2 bans; "
        "turned away: banned 3 ×"
    )
    (waiting,) = [line for line in text.splitlines() if "client 0" in line]
    assert " held " in waiting


def test_how_busy_the_hub_is() -> None:
    known, used = directory(), {"ticks": 0.31, "lateness": 0.0, "cpu": 0.84, "line": 0.1}
    known.hub.overload = OverloadInfo(limit=0.8, used=used, refuses=("cpu-full",))
    text = printed(hub_status(make_arena(), known, NOW_NS, 1_700_003_661.0))
    assert "ticks 31 %, cpu 84 %, line 10 % of 80 %: cpu-full (no newcomers)" in text
    assert "room" not in printed(state(make_arena()))


def test_all_columns_are_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    table = page.partition("## Reading `tuttihub status`")[2]
    assert [heading for heading in _COLUMNS if f"`{heading}`" not in table] == []
