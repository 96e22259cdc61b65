"""Statistics of JackTrip's kind: the line's form, what is counted, and where it goes."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from hub.iostat import Iostat, IostatError, Marks, statistics_line
from hub.sessions import Session
from tests.hub.listening import make_arena, seat

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d (?P<address>\S+) send: (?P<send>\d+/\d+) "
    r"recv: (?P<recv>\d+/\d+) prot: (?P<prot>\d+/\d+/\d+) tot: (?P<tot>\d+) "
    r"sync: (?P<sync>\d+/\d+/\d+/\d+/\d+) skew: (?P<skew>-?\d+/-?\d+) "
    r"bcast: (?P<bcast>-?\d+/-?\d+) autoq: (?P<autoq>\d+(\.\d)?/\d+(\.\d)?)"
)
SEEN = (
    "2026-11-22T04:55:28 127.0.0.1 send: 0/0 recv: 0/0 prot: 14/0/14 tot: 1393 "
    "sync: 4/0/0/0/0 skew: 0/0 bcast: 0/0 autoq: 2/45"
)
"""A line of jacktrip 1.7.0."""


def parts(line: str) -> dict[str, str]:
    found = LINE.fullmatch(line)
    assert found, line
    return found.groupdict()


def records(**changed: float) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A client of 64 frames at a hub of 128, one second after it came."""
    rx: dict[str, Any] = {
        "frames": 64, "span": 64.0, "concealed_frames": 0, "overflow_frames": 0, "lost": 0,
        "repaired": 0, "reordered": 0, "duplicates": 0, "packets": 750, "grown_frames": 0,
        "glided_frames": 0, "highest": 750, "clock_moved": 0.0, "late_wanted": 64.0, **changed,
    }  # fmt: skip
    return rx, {"errors": 0}, {"missed": 7, "tick": 375, "period_frames": 128}


AT_FIRST = Marks(missed=7, tick=0, highest=0, moved=0.0)


def test_the_pattern_of_these_tests_is_jacktrips() -> None:
    assert parts(SEEN)["prot"] == "14/0/14"


def test_a_quiet_client_has_nothing_but_packets() -> None:
    line = statistics_line(time.time(), "192.0.2.7", *records(), AT_FIRST, queued=256.0)
    assert parts(line) == {
        "address": "192.0.2.7", "send": "0/0", "recv": "0/0", "prot": "0/0/0", "tot": "750",
        "sync": "4/0/0/0/0", "skew": "0/0", "bcast": "0/0", "autoq": "2/0",
    }  # fmt: skip


def test_every_counter_has_its_place() -> None:
    rx, tx, clock = records(
        concealed_frames=3 * 64, overflow_frames=2 * 64, lost=5, repaired=4, reordered=2,
        duplicates=1, grown_frames=6 * 64, glided_frames=64, highest=755, clock_moved=-320.0,
        late_wanted=96.0,
    )  # fmt: skip
    tx["errors"] = 8
    clock["missed"] += 11
    found = parts(statistics_line(0.0, "::1", rx, tx, clock, AT_FIRST, queued=-1.0))
    assert found["send"] == "22/8"  # two packets a tick
    assert found["recv"] == "3/2"
    assert found["prot"] == "9/3/4"
    assert found["tot"] == "755"
    assert found["sync"] == "0/6/1/2/0"
    assert found["skew"] == "5/-5"
    assert found["autoq"] == "2.5/0"


def session(slot: int) -> Session:
    return Session(10 + slot, slot, "Anna", "Anna", ip_address("192.0.2.7"), 61002, 0.0)


def test_only_who_is_heard_is_told_of(tmp_path: Path) -> None:
    arena, path = make_arena(), tmp_path / "stat.log"
    path.write_text("before\n")
    seat(arena, 2, 12, packets=5, highest=1000)
    seat(arena, 3, 99)  # of another session
    sessions = [session(2), session(3)]
    iostat = Iostat(arena, path)
    iostat.tell(sessions, 0.0)
    arena.rx[2]["highest"] += 3
    arena.rx[2]["packets"] += 3
    iostat.tell(sessions, 1.0)
    iostat.tell([], 2.0)
    iostat.close()
    before, first, second = path.read_text().splitlines()
    assert before == "before"
    assert (parts(first)["tot"], parts(first)["skew"]) == ("5", "0/0")
    assert (parts(second)["tot"], parts(second)["skew"]) == ("8", "0/-3")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_ends_no_hub() -> None:
    arena = make_arena()
    seat(arena, 2, 12)
    iostat = Iostat(arena, Path("/dev/full"))
    iostat.tell([session(2)], 0.0)
    iostat.close()


def test_a_file_that_cannot_be_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(IostatError, match=r"--iostatlog: .*No such file"):
        Iostat(make_arena(), tmp_path / "nowhere" / "stat.log")
