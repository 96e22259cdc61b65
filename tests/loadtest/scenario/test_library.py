"""The ready-made scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.conduct.director import Act, deeds, early
from loadtest.scenario.library import find, names, ready
from loadtest.scenario.loader import from_dict, override
from loadtest.scenario.model import FaultKind, ScenarioError
from tests.loadtest.scenario.tables import to_dict

EXPECTED = {
    "casualties", "choir-300", "flaky-wifi", "followed-clocks", "hostile", "hour-of-drift",
    "mixed-formats", "rehearsal-30", "rolling-churn", "storm-join",
}  # fmt: skip


def test_all_are_there() -> None:
    assert set(names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_says_what_it_is(name: str) -> None:
    scenario = ready(name)

    assert scenario.name == name
    assert scenario.title
    assert len(scenario.about.split()) >= 40
    assert 20 <= scenario.seconds <= (120 if name == "hour-of-drift" else 60)
    assert from_dict(to_dict(scenario)) == scenario


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_can_be_made_small_and_large(name: str) -> None:
    sections = len(ready(name).sections)

    assert override(ready(name), clients=sections, seconds=3).clients == sections
    assert override(ready(name), clients=1000).clients == 1000


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_nothing_is_planned_for_after_its_end(name: str) -> None:
    scenario = ready(name)

    assert all(0 <= deed.at_s < scenario.seconds for deed in deeds(scenario))
    assert all(fault.at_s + 1 < scenario.seconds for fault in scenario.faults)


def test_who_drifts_is_not_resampled_or_has_no_voice() -> None:
    """What is resampled has no one right value; at so little as 25 ppm it begins within a run."""
    for name in sorted(EXPECTED):
        scenario = ready(name)
        options = scenario.hub.options
        given = dict(zip(options[::2], options[1::2], strict=False))
        exact = given.get("--drift") == "off"
        heard_exactly = given.get("--match-clients") == "off"
        for section in scenario.sections:
            steady = abs(section.skew_ppm) <= 10
            assert exact or not section.talks or steady, (name, section.name)
            assert heard_exactly or steady, (name, section.name)


def test_numbers_in_names_and_texts_are_so() -> None:
    assert ready("rehearsal-30").clients == 30
    assert ready("choir-300").clients == 300
    storm = ready("storm-join")
    joins = [deed.at_s for deed in deeds(storm) if deed.act is Act.JOIN]
    assert len(joins) == 100
    assert max(joins) - min(joins) <= 1.0
    assert len(early(storm)) == 20


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_packets_of_every_size_are_to_come_evenly(name: str) -> None:
    """The hub paces them, whatever their size beside its period."""
    assert ready(name).service.spacing_p99 == 0.5


def test_the_hostile_one_has_every_guest_and_kills_nobody() -> None:
    kinds = {fault.kind for fault in ready("hostile").faults}

    assert kinds == {kind for kind in FaultKind if not kind.startswith("kill-")}


def test_a_name_is_ready_made_and_a_path_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seconds = 3")

    assert find("rehearsal-30") == ready("rehearsal-30")
    assert find(str(path)).name == "mine"


def test_a_wrong_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"'flakywifi' is .* did you mean flaky-wifi\?"):
        find("flakywifi")
    with pytest.raises(ScenarioError, match=r"flaky-wifi\.toml: No such file"):
        find("flaky-wifi.toml")


def test_they_are_part_of_the_package() -> None:
    import tomllib

    root = Path(__file__).parents[3]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = data["package-data"]["loadtest.scenario"]

    folder = root / "loadtest" / "scenario"
    assert {path.stem for each in patterns for path in folder.glob(each)} == EXPECTED


def test_the_hour_brings_as_much_drift_as_an_hour_does() -> None:
    """Skews of 20 to 80 ppm for an hour, both ways; and what is allowed is far less than that."""
    scenario = ready("hour-of-drift")
    drifts_ms = {round(each.skew_ppm * scenario.seconds / 1000) for each in scenario.sections}

    in_an_hour_ms = {ppm * 3600 // 1000 for ppm in (20, 50, 80)}
    assert drifts_ms == {0} | in_an_hour_ms | {-each for each in in_an_hour_ms}
    assert 0 < scenario.service.latency_max_ms < min(in_an_hour_ms)
