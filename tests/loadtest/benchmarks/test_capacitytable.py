"""The capacity tables of the documentation are what the kept searches say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.benchmarks import capacitytable
from loadtest.benchmarks.capacitytable import BEGIN, END, content, measurements, rendered
from loadtest.benchmarks.record import RecordError
from loadtest.capacity.command import measure_all
from loadtest.capacity.measure import Target
from loadtest.capacity.report import Capacity
from tests.loadtest.benchmarks.rows import PROVENANCE
from tests.loadtest.benchmarks.test_render import cells
from tests.loadtest.capacity.test_command import FAST, LONG, FakeBench, measured, quiet

JACK = replace(FAST, target=Target.JACKTRIP)


def kept(folder: Path, day: int, capacity: Capacity, *, held: int = 100) -> Path:
    """A file of what was searched on a day of February, the commit named like the day."""
    path = folder / f"capacity-2031-02-{day:02}.json"
    measure_all(capacity, FakeBench({128: held, 256: 180}), quiet(), path)
    values = json.loads(path.read_text())
    values["provenance"] |= PROVENANCE | {
        "date": f"2031-02-{day:02}T04:05:06+00:00", "commit": f"{day:02}" * 6,
        "command": "tuttihub capacity --step 3",
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return path


def test_the_documentation_shows_what_was_kept_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.capacitytable"""
    assert capacitytable.PAGE.read_text() == rendered()


def test_the_newest_search_of_each_case_is_shown_with_where_and_how(tmp_path: Path) -> None:
    kept(tmp_path, 3, measured(FAST, LONG))
    kept(tmp_path, 5, measured(FAST, JACK), held=80)

    text = content(measurements(tmp_path))

    newer, older = text.index("on 2031-02-05"), text.index("on 2031-02-03")
    assert newer < older
    assert [row[1:4] for row in cells(text, "JackTrip")] == [["128", "2", "80"]]
    assert [row[1:4] for row in cells(text, "tuttihub")] == [
        ["128", "2", "80"], ["256", "2", "180"],
    ]  # fmt: skip
    for part in (
        "fan-out-no-self (mode 2), `-q 4`, 16 bit, 48 kHz, the hub on 1 core",
        "missed ticks 0, return loss 1e-05",
        "(`tuttihub capacity --step 3`)",
        "- tuttihub, 128 frames, stereo: ",
    ):
        assert part in text


def test_predictions_stand_with_their_model_and_what_they_assume(tmp_path: Path) -> None:
    path = kept(tmp_path, 3, measured(FAST, LONG))

    text = content(measurements(tmp_path))

    values = json.loads(path.read_text())
    for line in values["assumptions"]:
        assert f"- {line}" in text
    one, _, fastest = [
        each for each in values["predictions"]
        if (each["format"]["frames"], each["cores"]) == (128, 4)
    ]  # fmt: skip
    (shown,) = cells(text, "4")
    assert shown[:2] == ["4", str(one["lanes"])]
    assert shown[2].startswith(str(one["clients"]))
    assert shown[2].endswith(one["limit"])
    assert shown[-1] == f"{fastest['memory_mib']:.0f} MiB"
    assert "far extrapolated" in text
    rx = values["model"]["receive"]["coefficients_us"]["client"][0]
    assert any(f"{rx:.3g} ±" in cell for cell in cells(text, "receivers")[0])


@pytest.mark.parametrize(("found", "too_many"), [(1, True), (100_000, False)])
def test_a_prediction_stands_beside_what_was_found_with_as_many_cores(
    tmp_path: Path, found: int, too_many: bool
) -> None:
    path = kept(tmp_path, 3, measured(FAST, LONG))
    values = json.loads(path.read_text())
    for search in values["searches"]:
        search["case"]["hub_cpus"] = list(range(4))
        search["found"]["clients"] = found
    path.write_text(json.dumps(values))

    text = content(measurements(tmp_path))

    (line,) = [line for line in text.splitlines() if line.startswith("The search itself found")]
    assert f"found {found} with 4 cores and nothing left free" in line
    assert ("**too many**" in line) == too_many


def test_without_a_model_it_says_why(tmp_path: Path) -> None:
    def one_probe(values: dict[str, Any]) -> None:
        values.update(model=None, predictions=[], model_note="1 usable probe")

    path = kept(tmp_path, 3, measured(FAST))
    values = json.loads(path.read_text())
    one_probe(values)
    path.write_text(json.dumps(values))

    assert "No model: 1 usable probe." in content(measurements(tmp_path))
    assert "`make bench-capacity`" in content([])


@pytest.mark.parametrize("text", ['{"kind": "whole"}', "no JSON"])
def test_another_kind_of_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "capacity-x.json").write_text(text)
    with pytest.raises(RecordError, match=r"capacity-x\.json"):
        measurements(tmp_path)


def test_damaged_file_is_told(tmp_path: Path) -> None:
    path = kept(tmp_path, 3, measured(FAST))
    values = json.loads(path.read_text())
    del values["searches"][0]["case"]["queue"]
    path.write_text(json.dumps(values))
    with pytest.raises(RecordError, match="queue"):
        content(measurements(tmp_path))


def test_page_keeps_all_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    kept(tmp_path, 3, measured(FAST))
    text = rendered(page, tmp_path)
    assert text.startswith(f"before\n{BEGIN}\nSearched ")
    assert text.endswith(f"\n{END}\nafter\n")
