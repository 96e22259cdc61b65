"""The dashboards that are checked in are those that the code builds, of metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.grafana.boards import BOARDS
from deploy.grafana.build import FOLDER, rendered
from hub.metricsdoc import metric_names
from tests.deploy.boards import expressions, marks, panels
from tests.deploy.rules import metrics_in, rules


def board(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_checked_in_is_what_is_built(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    assert text == rendered(name), "run: python -m deploy.grafana.build"


def test_no_other_dashboard_is_there() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == BOARDS.keys()


def test_addresses_of_dashboards_differ() -> None:
    assert len({board(name)["uid"] for name in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_asks_only_for_what_there_is(name: str) -> None:
    loaded = board(name)
    known = metric_names() | {"up"}
    for expression in [*expressions(loaded), *marks(loaded).values()]:
        assert not metrics_in(expression) - known, expression
        for recorded in re.findall(r"\b\w+:tuttihub\w*:\w+", expression):
            assert recorded in rules("record"), expression


@pytest.mark.parametrize("name", BOARDS)
def test_joins_leaves_and_restarts_are_marked(name: str) -> None:
    assert marks(board(name)).keys() == {"Joins", "Leaves", "Restarts", "Hub starts"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [("fleet", {"lateness", "jitter"}), ("hub", {"lateness", "jitter"}), ("musician", {"jitter"})],
)
def test_heat_maps_show_jitter_and_lateness(name: str, shown: set[str]) -> None:
    maps = [panel for panel in panels(board(name)) if panel["type"] == "heatmap"]
    texts = " ".join(panel["targets"][0]["expr"] for panel in maps)
    assert all(word in texts for word in shown)
    assert all(panel["targets"][0]["format"] == "heatmap" for panel in maps)


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows(name: str) -> None:
    for panel in panels(board(name)):
        assert panel["title"]
        assert panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
