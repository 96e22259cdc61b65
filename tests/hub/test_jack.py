"""The hub's side of a JACK graph: names, groups, what is said of changes."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.events import Event, JackChanged
from hub.jack import clock
from hub.jack.clock import JackClock, ask_server
from hub.jack.seats import address_name, cut
from hub.jack.watch import JackWatch
from shared.arena import Arena
from shared.jacklayout import JackState
from tests.workers.arenas import arena_of


@pytest.fixture
def arena() -> Iterator[Arena]:
    with arena_of(slots=4) as made:
        yield made


@pytest.mark.parametrize(
    ("address", "name"),
    [("127.0.0.1", "__ffff_127.0.0.1"), ("::1", "__1"), ("2001:db8::7", "2001_db8__7")],
)
def test_who_gives_no_name_is_called_as_jacktrip_calls_it(address: str, name: str) -> None:
    assert address_name(ip_address(address)) == name


def test_a_long_name_is_cut_between_characters() -> None:
    """63 bytes, as JackTrip does it."""
    assert cut("Åé" * 40) == ("Åé" * 15 + "Å").encode()


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("../../dev/shm/x", ".._.._dev_shm_x"),
        ("system:capture_1", "system_capture_1"),
        ("a\0b\nc\x1b[2J\x7f", "a_b_c_[2J_"),
        ("a\u202eb\u2028c", "a_b_c"),
        ("a\ud800b", "a_b"),
        ("/" * 80, "_" * 63),
        ("Anna Ångström (2)", "Anna Ångström (2)"),
    ],
)
def test_a_name_has_nothing_that_jack_takes_for_something_else(hostile: str, plain: str) -> None:
    assert cut(hostile).decode() == plain


def test_what_changes_is_told_once(arena: Arena) -> None:
    told: list[Event] = []
    watch, jack = JackWatch(arena, told.append), arena.jack[0]
    jack["state"] = JackState.RUNNING
    watch.look()
    jack["coupled"] = 1
    watch.look()
    watch.look()
    jack["coupled"], jack["state"], jack["left_out"] = 0, JackState.WAITING, 2
    watch.look()
    with capture_logs() as logs:
        jack["state"] = JackState.RUNNING
        watch.look()
        jack["deaths"] += 1  # it was back before anybody looked
        watch.look()
    said = [line["event"] for line in logs]
    assert said == ["jack server found", "jack server is gone", "jack server found"]
    assert told[:3] == [
        JackChanged(state="running", clock="own", left_out=0),
        JackChanged(state="running", clock="jack", left_out=0),
        JackChanged(state="waiting", clock="own", left_out=2),
    ]


LIBJACK = """
import time
from pathlib import Path
from types import SimpleNamespace

class JackOpenError(Exception): ...

set_error_function = set_info_function = lambda function: None
before = Path(__file__).with_name("before")

class Client:
    blocksize, samplerate = 64, 44100.0
    def __init__(self, name, no_start_server, servername):
        tries = len(before.read_text()) if before.exists() else 0
        before.write_text("x" * (tries + 1))
        if {hangs} and not tries:
            time.sleep(60)
        if tries < {refusals}:
            error = JackOpenError()
            error.status = SimpleNamespace(server_failed={absent})
            raise error
    def close(self): ...
"""


@pytest.mark.parametrize(
    ("hangs", "refusals", "absent", "tries"),
    [(False, 0, False, 1), (False, 2, False, 3), (True, 0, False, 2), (False, 9, True, 1)],
)
def test_a_busy_server_is_asked_again_and_one_that_is_not_there_is_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hangs: bool,
    refusals: int,
    absent: bool,
    tries: int,
) -> None:
    (tmp_path / "jack.py").write_text(LIBJACK.format(hangs=hangs, refusals=refusals, absent=absent))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if hangs:
        monkeypatch.setattr(clock, "ASK_S", 4.0)
    assert ask_server(None) == (None if absent else JackClock(44100, 64))
    assert len((tmp_path / "before").read_text()) == tries
