"""What matching the clients' clocks is worth: its table."""

from __future__ import annotations

from loadtest.benchmarks import clocks, record
from loadtest.benchmarks.record import ClockRow, Clocks
from loadtest.benchmarks.render import insert
from tests.loadtest.benchmarks.rows import PROVENANCE


def test_page_shows_the_newest_results_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.clocks"""
    newest = record.newest(Clocks)
    assert newest is not None
    page = clocks.PAGE.read_text()
    assert page == insert(page, clocks.content(newest), clocks.BEGIN, clocks.END)


def test_table_has_the_median_of_the_takes_beside_what_the_clocks_explain() -> None:
    rows = [
        ClockRow(match, 48014, 30.0, under, 1, 0, 291.7, 10 * under)
        for match, under in ((False, 1), (True, 0), (False, 3), (True, 1), (False, 2), (True, 0))
    ]
    text = clocks.content(Clocks(PROVENANCE, {"seconds": 30.0, "queue": "8"}, rows))
    assert "| +292 ppm | 6.6 | 6.0 (4.0 to 8.0) | 2.0 (2.0 to 4.0) | 60 / 10 |" in text
    assert "of 3 takes of 30 s" in text
    once = clocks.content(Clocks(PROVENANCE, {"seconds": 30.0, "queue": "8"}, rows[:2]))
    assert "of 1 take of 30 s" in once
