"""What is made of a play on a hub beyond its core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.benchmarks.kept import Kept, read, write
from loadtest.benchmarks.overfull import (
    KIND,
    PLAYS,
    Change,
    Row,
    Second,
    bad_shares,
    bad_until_s,
    ends_s,
    plan,
    play_of,
    relief_s,
    span,
    spans,
    told,
)
from loadtest.benchmarks.overfulltable import overfull_table
from loadtest.reporting.result import Timeline, pack
from tests.loadtest.benchmarks.rows import PROVENANCE
from tests.loadtest.benchmarks.test_render import cells

METERS, MIXES = ["meters"], ["meters", "mixes"]


def second(at_s: float, missed: int = 0, **values: Any) -> Second:
    figures: dict[str, Any] = {
        "clients": 10, "ticks": 375 - missed, "used": {"cpu": 0.9}, "realtime": 0.9,
        "left_out": [], "refused": {},
    }  # fmt: skip
    return Second(at_s=at_s, missed=missed, **figures | values)


def row(name: str, **values: Any) -> Row:
    figures: dict[str, Any] = {
        "there": 60, "crowd": 130, "came": 130, "paused_s": 7, "usable": True,
        "steps": [Change(8.0, METERS), Change(10.0, MIXES), Change(60.0, METERS), Change(70.0, [])],
        "gone_s": [14.0, 14.2, 14.3],
        "seconds": [second(k, missed=75 if 6 <= k < 14 else 0) for k in range(1, 79)],
        "bad": [0.5 if 6 <= k < 14 else 0.0 for k in range(79)],
    }  # fmt: skip
    return Row(name, **figures | values)


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
def test_every_play_can_be_played(play: Any) -> None:
    made = plan(play)
    assert made.clients == play.there + play.crowd
    assert ends_s(play) <= play.seconds


def test_spans_are_before_too_much_and_after() -> None:
    crowd = row("crowd")
    assert relief_s(crowd) == 14.3  # the last who was let go
    before, until, after = spans(crowd, ends_s(play_of(crowd)))
    assert (before.missed, before.bad) == (0.0, 0.0)
    assert (until.from_s, until.to_s) == (5.0, 17.3)
    assert until.missed == pytest.approx(8 * 75 / (13 * 375))
    assert until.bad == pytest.approx(8 * 0.5 / 12)
    assert (after.to_s, after.missed, after.bad) == (40.0, 0.0, 0.0)


def test_where_nothing_was_done_nothing_had_to_be_relieved() -> None:
    calm = row("door", steps=[], gone_s=[], seconds=[second(k) for k in range(1, 39)])
    assert relief_s(calm) == 5.0
    steps = [Change(8.0, METERS), Change(20.0, []), Change(30.0, METERS)]
    searching = row("mixes", crowd=0, gone_s=[], steps=steps)
    assert relief_s(searching) == 8.0


def test_after_halts_it_is_looked_at_what_follows_the_last() -> None:
    halt = row("halt", steps=[], gone_s=[], halted_s=5.13, bad_until_s=5.2)
    stumbles = row("stumbles", steps=[], gone_s=[], halted_s=15.3)
    assert (relief_s(halt), relief_s(stumbles)) == (5.13, 15.3)
    text = overfull_table(Kept(PROVENANCE, [halt, stumbles]))
    assert "last time at 5.13 s, the last tenth of a second that was not right ended at 5.2" in text
    assert "last time at 15.30 s, the last tenth of a second that was not right ended at no" in text


def test_of_those_who_stay_what_is_not_right_is_told_by_the_second() -> None:
    lost, wrong = np.zeros((3, 40), int), np.zeros((3, 40), int)
    lost[0, :5], wrong[1, 10:20] = 15, 15
    lost[2] = 37  # of the crowd
    timeline = Timeline(0.1, {}, 3, 40, {"lost": pack(lost), "wrong": pack(wrong)})

    class Found:
        pass

    found: Any = Found()
    found.timeline = timeline
    assert bad_shares(found, 2) == pytest.approx([0.1, 0.2, 0.0, 0.0])
    assert bad_until_s(found, 2, 4.0) == 2.0
    assert bad_until_s(found, 3, 4.0) == 4.0
    assert bad_until_s(found, 3, 3.5) == 3.5
    timeline.matrices["lost"] = timeline.matrices["wrong"] = pack(np.zeros((3, 40), int))
    assert bad_until_s(found, 3, 4.0) == 0.0


def test_what_was_found_is_kept_and_read_again(tmp_path: Path) -> None:
    found = Kept(PROVENANCE, [row("door"), row("crowd")])
    write(KIND, found, tmp_path / "kept.json")
    assert read(KIND, Row, tmp_path / "kept.json") == found


def test_a_span_without_seconds_is_empty() -> None:
    assert span(row("crowd", seconds=[]), 3.0, 3.0).missed == 0.0


def test_the_table_has_a_line_a_play_and_says_what_was_done_when() -> None:
    door = row("door", steps=[], gone_s=[], usable=False, reasons=["it was late"],
               seconds=[second(k, refused={"cpu-full": k}) for k in range(1, 39)])  # fmt: skip
    text = overfull_table(Kept(PROVENANCE, [door, row("crowd")]))
    (line,) = cells(text, "a crowd that is let in")
    assert line[1:6] == ["60 + 130", "–", "3", "7", "5–17"]
    assert line[7] == "12 % / 33 %"
    (line,) = cells(text, "a crowd, as the hub is by itself †")
    assert line[2:4] == ["38", "–"]
    assert "- a crowd that is let in: 8 s + meters, 10 s + mixes, 14 s 3 let go, " in text
    assert "60 s back to 1, 70 s nothing any more" in text
    assert "it was late" in text
    assert "python -m loadtest.benchmarks.overfull" in overfull_table(None)
    assert "let go 3" in told(row("crowd"))
