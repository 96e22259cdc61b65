"""The README's tables are what the recorded results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.benchmarks import record, render
from loadtest.benchmarks.render import BEGIN, END, RenderError, insert, tables
from tests.loadtest.benchmarks.rows import PROVENANCE, kernel, kernels, row, whole


def cells(text: str, first: str) -> list[list[str]]:
    """Rows of all tables whose first cell is this."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    return [line for line in rows if line[0] == first]


def test_readme_shows_the_newest_results_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.render"""
    assert render.README.read_text() == render.rendered()


def test_scale_shows_hub_and_echo_side_by_side() -> None:
    text = tables(whole(row("echo", 10, cpu_us=8.0, mode=1), row("tuttihub", 10)), None)

    cost, heard = cells(text, "10")
    assert cost == [
        "10", "20.0", "5.0 / 15.0", "11.0 / 8.0", "8.0", "2.50", "1.50 / 0.25", "2.0 MiB",
    ]  # fmt: skip
    assert heard == [
        "10", "4.00 / 5.00 / 6.00 ms", "46 µs", "7 / 16 ms", "0", "0", "3 of 4000, 81 µs",
    ]  # fmt: skip
    assert "on 2031-02-03 at commit abcdef0 on 2 virtual cores of Abacus 3000, Linux 9.9.9" in text


def test_what_was_measured_with_changed_files_says_so() -> None:
    assert "at commit abcdef0 and changes not yet committed on 2" in render.where(
        PROVENANCE | {"commit": "abcdef012345+"}
    )


def test_losses_and_absentees_are_shown() -> None:
    poor = row("tuttihub", 200, joined=190, lost=300, shortfall=100, wrong=5, silent=6)
    heard = cells(tables(whole(poor), None), "200")[1]
    assert heard[3:6] == ["7 / 16 ms, 190 of 200", "400 (0.2 %)", "11"]


def test_original_has_two_rows_for_each_number_ours_first() -> None:
    rows = [
        row(server, number, "original", mode=4, queue="4")
        for number in (2, 8)
        for server in ("jacktrip", "tuttihub")
    ]
    text = tables(whole(*rows), None)
    assert [line[1] for number in ("2", "8") for line in cells(text, number)] == [
        "tuttihub", "JackTrip", "tuttihub", "JackTrip",
    ]  # fmt: skip


def test_what_cannot_be_relied_on_is_marked_and_explained() -> None:
    late = row("tuttihub", 50, usable=False, reasons=["sends were late: p99 900 µs"])
    text = tables(whole(late, row("echo", 50, failed="port in use", usable=False)), None)
    assert cells(text, "50 †")
    assert "- † tuttihub, 50 clients, mode 2: sends were late: p99 900 µs" in text
    assert "- † echo, 50 clients, mode 2: port in use" in text


def test_row_without_figures_shows_none() -> None:
    failed = row("jacktrip", 24, "original", failed="ended with 1", usable=False)
    assert cells(tables(whole(failed), None), "24 †")[0][1:3] == ["JackTrip", "failed"]


def test_kernels_are_shown_by_their_parameter() -> None:
    found = kernels(
        *(kernel("mix", us, clients=n) for n, us in ((10, 0.2), (100, 0.5), (300, 0.7))),
        kernel("encode", 1.5, bits=24),
        kernel("scrape", 25.0),
    )
    text = tables(None, found)
    assert (
        "| mixer: rings to strips and buses, 10 / 100 / 300 clients | 0.20 / 0.50 / 0.70 |" in text
    )
    assert "8 / 16 / 24 / 32 bit | – / – / 1.50 / – |" in text
    assert "| metrics of 500 clients rendered, for each | 25.00 |" in text
    assert "concealed" not in text


def test_what_was_never_measured_says_so() -> None:
    assert tables(None, None).count("`make bench`") == 2


def test_insert_leaves_all_else_as_it_is() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert insert(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_text_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(RenderError, match="no place"):
        insert(text, "new")


def test_rendered_reads_the_newest_of_a_folder(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}\n")
    record.write(whole(row("tuttihub", 77)), tmp_path / "whole-2031-02-03.json")
    assert cells(render.rendered(readme, tmp_path), "77")
