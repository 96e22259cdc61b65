"""When drifts are certain: the tables of the page, and the process that finds it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest.benchmarks import certainty, kept
from loadtest.benchmarks.certainty import Row, mistaken_table, rendered, soon_table
from loadtest.benchmarks.kept import Kept
from tests.kernels.certainty import CALM, JITTERS, PPM
from tests.loadtest.benchmarks.rows import PROVENANCE

ROWS = [
    Row("calm", 50.0, 200, 200, 4.31, 4.44, 5.0, 1.4),
    Row("calm", 300.0, 200, 199, 2.3, 2.3, None, 2.0),
    Row("a storm", 0.0, 1000, 7),
]


def test_page_shows_the_newest_result_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.certainty"""
    page = certainty.PAGE.read_text()
    assert page == rendered(page, kept.newest(certainty.KIND, Row))


def test_tables() -> None:
    made = Kept(PROVENANCE | {"command": "python -m this"}, ROWS)
    soon, mistaken = soon_table(made), mistaken_table(made)
    assert "half of 200 clients" in soon
    assert "| jitter | 50 ppm | 300 ppm |" in soon
    assert "| calm | 4.3 / 4.4 / 5.0 s, 1 ppm | 2.3 / 2.3 / never s, 2 ppm |" in soon
    assert mistaken.splitlines()[-1] == "| a storm | 7 of 1000 |"
    assert "`python -m loadtest.benchmarks.certainty`" in soon_table(None)


@pytest.mark.timeout(300)
def test_one_client_of_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    done = CliRunner().invoke(
        certainty.main,
        ["--clients", "1", "--drifting", "1", "--no-page", "--output", str(path)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    rows = kept.read(certainty.KIND, Row, path).rows
    drifting = [row for row in rows if row.ppm]
    assert [(row.network, row.ppm) for row in drifting] == [
        (text, ppm) for text in JITTERS.values() for ppm in PPM
    ]
    assert [row.network for row in rows if not row.ppm] == list(CALM)
    assert sum(row.certain for row in drifting) >= len(drifting) - 1
    assert all(row.half_s < 12 for row in drifting if row.half_s is not None)
