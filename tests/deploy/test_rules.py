"""Recording rules and alerts: known metrics, a runbook each, cases in which they fire or do not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from hub.exposition import render
from hub.metricsdoc import catalogue, metric_names
from tests.deploy.rules import PROMETHEUS, ROOT, metrics_in, rules, without_threshold


@pytest.fixture
def promtool() -> str:
    """Its path; without it a test is left out, but not where all are to be run."""
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool is not installed (Debian: prometheus)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def cases() -> list[tuple[str, dict[str, Any]]]:
    """(alert, what is expected), and the series of each file's test beside it."""
    tests = yaml.safe_load((PROMETHEUS / "tuttihub.rules.test.yml").read_text())["tests"]
    return [(case["alertname"], case) for test in tests for case in test["alert_rule_test"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "tuttihub.rules.yml"),
        ("test", "rules", "tuttihub.rules.test.yml"),
    ],
)
def test_promtool_is_content(arguments: tuple[str, ...], promtool: str) -> None:
    ran = subprocess.run(
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_has_no_fault_to_find_with_the_metrics(promtool: str) -> None:
    text = render(catalogue())
    ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, b"")


def test_every_alert_has_a_case_in_which_it_fires_for_one_of_two() -> None:
    """The other one is the quiet case: promtool wants exactly what is expected."""
    fired: dict[str, list[dict[str, str]]] = {}
    for name, case in cases():
        fired.setdefault(name, []).extend(
            expected["exp_labels"] for expected in case.get("exp_alerts", ())
        )
    assert fired.keys() == rules("alert").keys()
    for name, labels in fired.items():
        assert labels, f"{name} never fires"
        who = {(one["instance"], one.get("name", "")) for one in labels}
        assert who <= {("a:9464", ""), ("a:9464", "Anna")}, f"{name} has no quiet case"


def test_every_alert_has_its_runbook() -> None:
    headings = {
        line.removeprefix("## ").strip()
        for line in (ROOT / "docs" / "runbooks.md").read_text().splitlines()
        if line.startswith("## ")
    }
    assert headings == rules("alert").keys()
    for name, alert in rules("alert").items():
        notes = alert["annotations"]
        base = "{{ $externalLabels.docs_url }}"
        assert notes["runbook_url"] == f"{base}docs/runbooks.md#{name.lower()}"
        assert notes["summary"]
        assert alert["labels"]["severity"] in ("info", "warning", "critical")


def test_links_within_the_runbooks_lead_somewhere() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    names = {name.lower() for name in rules("alert")}
    assert set(re.findall(r"\(#([^)]*)\)", text)) <= names
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target


def test_rules_use_only_metrics_that_there_are() -> None:
    recorded = rules("record")
    for name, rule in (recorded | rules("alert")).items():
        unknown = metrics_in(rule["expr"]) - metric_names()
        assert not unknown, f"{name} uses {unknown}"
        for used in re.findall(r"\b\w+:tuttihub\w*:\w+", rule["expr"]):
            assert used in recorded, f"{name} uses {used}"


def test_an_alert_ends_with_its_threshold() -> None:
    for alert in rules("alert").values():
        assert without_threshold(alert["expr"])
