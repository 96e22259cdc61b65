"""Targets: what is reached, missed, and not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.benchmarks import targets
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.targets import (
    ALONE,
    SHARED,
    CapacityRow,
    JoinRow,
    ServerRow,
    Targets,
    join_scenario,
    newest,
    write,
)
from loadtest.benchmarks.targetstable import TARGETS, targets_table
from loadtest.reporting.result import Spread
from tests.loadtest.benchmarks.rows import PROVENANCE, row
from tests.loadtest.benchmarks.test_render import cells


def server(name: str, clients: int, cpu_us: float, receivers: str = "", **values: Any) -> ServerRow:
    return ServerRow(receivers, "auto", row(name, clients, cpu_us=cpu_us, **values))


FOUND = Targets(
    PROVENANCE, {"seconds": 6.0},
    cost=[
        server("echo", 50, 10.0), server("tuttihub", 50, 15.0, ALONE),
        server("tuttihub", 50, 14.0, SHARED), server("tuttihub", 400, 15.0, SHARED),
        server("tuttihub", 2, 60.0, SHARED, latency=Spread(9, 3000.0, 4000.0, 5000.0)),
        server("tuttihub", 250, 12.0, SHARED, latency=Spread(9, 4000.0, 5000.0, 6000.0)),
    ],
    original=[server("jacktrip", 24, 40.0), server("tuttihub", 24, 15.0, ALONE)],
    joins=[JoinRow(300, 30, 6.0, 30, Spread(30, 20.0, 40.0, 41.0), 6.1, True, []),
           JoinRow(1, 300, 1.0, 299, Spread(299, 20.0, 40.0, 41.0), 1.6, True, [])],
    start_s={"warm": 1.2, "cold": 26.0},
    capacity=[CapacityRow(ALONE, 88, 96, "found", 9, 5.0)],
)  # fmt: skip


def line(text: str, name: str) -> list[str]:
    (found,) = cells(text, name)
    return found


def test_each_target_stands_beside_what_is_reached() -> None:
    text = targets_table(FOUND)

    assert line(text, "CPU a client-period ÷ bare echo, 50 clients, a process each")[1:] == [
        "≤ 2 ×", "1.50 ×", "", "",
    ]  # fmt: skip
    assert line(text, "join p99, 300 connected, receivers as the hub chooses")[2] == "40 ms"
    assert line(text, "in → out with 250 clients, more than with 2, p50")[2] == "1.00 ms"


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("…, 50 clients, shared", "**1.40 ×**"),
        ("clients on a core, a process each", "**88 clients**"),
        ("300 joining within a second, until the last is served", "**not all**"),
        ("start, kernels to be compiled", "**26 s**"),
    ],
)
def test_what_is_missed_says_why_and_what_would_be_next(name: str, reached: str) -> None:
    _, _, value, why, then = line(targets_table(FOUND), name)
    assert value == reached
    assert why
    assert then


@pytest.mark.parametrize(
    "name",
    ["…, all of them sharing receivers", "clients on a core, shared",
     "…, 250 clients, a process each"],
)  # fmt: skip
def test_what_was_not_measured_is_neither_reached_nor_missed(name: str) -> None:
    assert line(targets_table(FOUND), name)[2:] == ["–", "not measured", ""]


def test_joins_of_which_one_failed_have_missed_the_target() -> None:
    joins = [replace(FOUND.joins[0], joined=29), *FOUND.joins[1:]]
    text = targets_table(replace(FOUND, joins=joins))
    assert line(text, "join p99, 300 connected, receivers as the hub chooses")[2] == "**not all**"


def test_hub_that_could_not_serve_all_has_reached_nothing() -> None:
    full = server("tuttihub", 400, 7.0, SHARED, ticks=4000, ticks_missed=100)
    cost = [each for each in FOUND.cost if each.row.clients != 400]
    found = replace(FOUND, cost=[*cost, full])
    assert line(targets_table(found), "cost a client at 400 ÷ at 50, shared")[2] == "**0.50 × ‡**"
    assert line(targets_table(FOUND), "cost a client at 400 ÷ at 50, shared")[2] == "1.07 ×"


def test_row_that_cannot_be_relied_on_is_marked_with_its_reasons() -> None:
    doubtful = replace(FOUND.cost[0].row, usable=False, reasons=["it was late"])
    text = targets_table(replace(FOUND, cost=[ServerRow("", "auto", doubtful), *FOUND.cost[1:]]))
    assert "echo, 50 clients †" in text
    assert "- echo, 50 clients: it was late" in text


def test_every_target_has_words_for_when_it_is_missed() -> None:
    assert [each.name for each in TARGETS if not (each.why and each.then)] == []


def test_kept_targets_are_read_again(tmp_path: Path) -> None:
    write(FOUND, tmp_path / "targets-2031-02-03.json")
    assert newest(tmp_path) == FOUND
    (tmp_path / "targets-2031-02-04.json").write_text("{}")
    with pytest.raises(RecordError, match="targets-2031-02-04"):
        newest(tmp_path)


def test_newcomers_come_while_the_others_play() -> None:
    plan = join_scenario(300, 30, 6.0)
    there, new = plan.sections
    assert plan.hub.options == ()
    assert join_scenario(1, 300, 1.0, SHARED).hub.options == targets.OPTIONS[SHARED]
    assert (there.clients, new.clients, new.join_at_s, new.join_over_s) == (300, 30, 1.0, 6.0)
    assert plan.seconds > 1.0 + 6.0
    assert targets.CONNECTED == 300
