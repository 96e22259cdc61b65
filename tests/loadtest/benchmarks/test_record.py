"""Recorded benchmarks: written, read back, and what is no record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.benchmarks import record
from loadtest.benchmarks.record import Kernels, RecordError, Whole
from loadtest.benchmarks.render import tables
from tests.loadtest.benchmarks.rows import kernel, kernels, row, whole


def test_whole_is_read_back_as_it_was(tmp_path: Path) -> None:
    kept = whole(row("tuttihub", 10), row("echo", 10, failed="did not start", usable=False))
    record.write(kept, tmp_path / "deep" / "whole.json")
    assert record.read(Whole, tmp_path / "deep" / "whole.json") == kept


def test_kernels_are_read_back_as_they_were(tmp_path: Path) -> None:
    kept = kernels(kernel("receive", 0.45, frames=128, bits=16), kernel("parse", 0.007))
    record.write(kept, tmp_path / "kernels.json")
    assert record.read(Kernels, tmp_path / "kernels.json") == kept


def test_a_row_is_a_line() -> None:
    lines = record.to_text(whole(row("tuttihub", 10), row("tuttihub", 20))).splitlines()
    rows = [json.loads(line.strip().rstrip(",")) for line in lines if '"server"' in line]
    assert [each["clients"] for each in rows] == [10, 20]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "kernels"}, "no record of kind 'whole'"),
        ({"schema": 99}, "schema 99; 1 can be read"),
        ({"rows": [{"server": "tuttihub"}]}, r"rows\[0\]\.table: is missing"),
    ],
)
def test_what_is_no_record_is_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    path = tmp_path / "whole-2031-01-01.json"
    path.write_text(json.dumps(json.loads(record.to_text(whole())) | change))
    with pytest.raises(RecordError, match=f"{path.name}: {complaint}"):
        record.read(Whole, path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.json"
    path.write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        record.read(Whole, path)
    with pytest.raises(RecordError, match="No such file"):
        record.read(Whole, tmp_path / "none.json")


def test_newest_goes_by_the_date_inside(tmp_path: Path) -> None:
    record.write(whole(date="2031-06-01"), tmp_path / "whole-a.json")
    record.write(whole(date="2030-06-01"), tmp_path / "whole-b.json")
    record.write(kernels(date="2032-06-01"), tmp_path / "kernels-c.json")
    newest = record.newest(Whole, tmp_path)
    assert newest is not None
    assert newest.provenance["date"] == "2031-06-01"


def test_newest_of_none_is_none(tmp_path: Path) -> None:
    assert record.newest(Whole, tmp_path) is None


def test_rows_measured_later_take_the_place_of_theirs_and_say_when() -> None:
    kept = whole(row("echo", 300), row("tuttihub", 300, usable=False), row("tuttihub", 10))
    newer = whole(row("tuttihub", 300, cpu_us=11.0), row("tuttihub", 400),
                  commit="fedcba9876", date="2031-03-04T05:06:07+00:00")  # fmt: skip

    both = record.merged(kept, newer)

    assert [(each.server, each.clients, each.cpu_us, each.made) for each in both.rows] == [
        ("echo", 300, 20.0, ""),
        ("tuttihub", 300, 11.0, "on 2031-03-04 at commit fedcba9"),
        ("tuttihub", 10, 20.0, ""),
        ("tuttihub", 400, 20.0, "on 2031-03-04 at commit fedcba9"),
    ]
    assert both.provenance == kept.provenance
    text = tables(both, None)
    assert "Measured later, on 2031-03-04 at commit fedcba9: tuttihub with 300, " in text


def test_rows_of_another_machine_or_load_are_not_merged() -> None:
    kept = whole(row("tuttihub", 10))
    elsewhere = whole(row("tuttihub", 10), machine={"cpu": "Slide rule"})
    longer = replace(kept, settings=kept.settings | {"seconds": 60.0})

    with pytest.raises(RecordError, match=r"machine\.cpu was Abacus 3000, and is Slide rule"):
        record.merged(kept, elsewhere)
    with pytest.raises(RecordError, match=r"seconds was 10\.0, and is 60\.0"):
        record.merged(kept, longer)
