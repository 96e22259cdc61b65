"""Runs side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from loadtest.reporting.compare import Change, Row, compare, rows_of
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result
from tests.loadtest.reporting.runs import perfect, troubled


@pytest.fixture(scope="module")
def good() -> Result:
    return evaluate(perfect())


def again(result: Result, **changes: object) -> Result:
    return replace(result, **changes)  # type: ignore[arg-type]


def row(rows: list[Row], name: str) -> Row:
    return next(one for one in rows if one.name == name)


def text_of(results: list[Result]) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(compare(results))
    return capture.get()


def test_run_beside_itself_is_within_noise(good: Result) -> None:
    rows, warnings = rows_of([good, good])

    assert not warnings
    changes = {cell.change for one in rows for cell in one.cells}
    assert changes <= {Change.SAME, Change.NEUTRAL}


@pytest.mark.parametrize(
    ("factor", "change"),
    [(0.5, Change.BETTER), (0.97, Change.SAME), (1.03, Change.SAME), (2.0, Change.WORSE)],
)
def test_less_is_better(good: Result, factor: float, change: Change) -> None:
    assert good.hub
    other = again(good, hub=replace(good.hub, cpu_us=good.hub.cpu_us * factor))

    cell = row(rows_of([good, other])[0], "CPU a client-period").cells[1]

    assert cell.change is change
    assert cell.ratio == pytest.approx(factor)


def test_first_loss_is_worse_though_it_has_no_ratio(good: Result) -> None:
    cell = row(rows_of([good, again(good, lost=100)])[0], "return loss").cells[1]

    assert (cell.change, cell.ratio) == (Change.WORSE, None)


def test_figures_that_one_run_lacks_are_not_compared(good: Result) -> None:
    rows, _ = rows_of([good, again(good, hub=None, counters=None)])

    assert row(rows, "CPU a client-period").cells[1].text == "–"
    assert row(rows, "missed ticks").cells[1].change is Change.NEUTRAL


def test_other_scenario_is_said_and_compared_all_the_same(good: Result) -> None:
    rows, warnings = rows_of([good, evaluate(troubled())])

    assert "another scenario" in warnings[0]
    assert "faults" in warnings[0]
    assert row(rows, "return loss").cells[1].change is Change.WORSE


def test_other_machine_is_said(good: Result) -> None:
    machine = good.provenance["machine"] | {"cpu": "Abacus"}
    other = again(good, provenance=good.provenance | {"machine": machine})

    assert rows_of([good, other])[1] == [
        f"run 2 was made on another machine (cpu Abacus, not {good.provenance['machine']['cpu']})"
    ]


def test_run_that_is_not_usable_is_said(good: Result) -> None:
    other = again(good, usable=False, reasons=["the run was interrupted"])

    assert "run 2 says nothing of its hub: the run was interrupted" in rows_of([good, other])[1]


def test_table_names_runs_and_changes(good: Result) -> None:
    text = text_of([good, again(good, lost=100, joined=7)])

    assert "A: little-choir, 18 clients" in text
    assert "B: little-choir, 7 clients" in text
    assert "▲ worse" in text


def test_one_run_cannot_be_compared(good: Result) -> None:
    with pytest.raises(ValueError, match="two at least"):
        rows_of([good])
