"""The file of a result: there and back, and what is wrong with it if not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import SCHEMA, Result, ResultError, load
from loadtest.scenario.model import Scenario, Section
from tests.loadtest.reporting.runs import perfect, troubled


@pytest.fixture(scope="module")
def bad_day() -> Result:
    return evaluate(troubled())


def changed(result: Result, **changes: Any) -> str:
    """Its file, with other members."""
    return json.dumps(json.loads(result.to_json()) | changes)


def test_reads_what_it_wrote(bad_day: Result, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(bad_day.to_json())

    assert load(path) == bad_day


def test_file_says_its_schema_first(bad_day: Result) -> None:
    assert bad_day.to_json().startswith(f'{{\n"schema": {SCHEMA},')


def test_fields_of_a_later_release_are_left_out(bad_day: Result) -> None:
    assert Result.from_json(changed(bad_day, of_tomorrow=[1, 2])) == bad_day


def test_file_of_many_clients_stays_small() -> None:
    scenario = Scenario(seconds=30.0, sections=(Section("all", 300),))

    assert len(evaluate(perfect(scenario)).to_json()) < 1_000_000


def test_no_password_gets_into_the_file() -> None:
    section = Section("all", 2, username="anna", password="open sesame")

    text = evaluate(perfect(Scenario(seconds=2.0, sections=(section,)))).to_json()

    assert "open sesame" not in text
    assert "password" not in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not a result of a load test: it has no 'schema'"),
        ("{}", "not a result of a load test: it has no 'schema'"),
        ('{"schema": 3}', "not a result of a load test: it has no 'scenario'"),
        ('{"schema": 1, "kind": "whole"}', "a file of benchmarks (kind 'whole'), and not the"),
        ('{"schema": 99}', "schema 99 is newer than 3: update tuttihub"),
        ('{"schema": 1}', "schema 1 cannot be read any more; 3 can"),
        ('{"schema": "x"}', "schema 'x' cannot be read any more; 3 can"),
        ('{"schema": 3, "scenario": {}, "usable": true}', "damaged: reasons: is missing"),
    ],
)
def test_file_that_is_no_result_is_named_with_its_problem(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)

    with pytest.raises(ResultError) as raised:
        load(path)

    assert str(raised.value).startswith(f"{path}: {problem}")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sent": "many"}, "damaged: sent: 'many' is not a whole number"),
        ({"usable": 1}, "damaged: usable: 1 is not true or false"),
        ({"latency": {"p50": "?"}}, r"damaged: latency.p50: '\?' is not a number"),
        ({"events": [{"at_s": 1, "kind": "party"}]}, r"damaged: events\[0\].kind: 'party'"),
        (
            {"columns": {"lost": [1, None]}},
            r"damaged: columns.lost\[1\]: None is not a whole number",
        ),
    ],
)
def test_damage_is_named_by_its_place(
    bad_day: Result, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ResultError, match=problem):
        Result.from_json(changed(bad_day, **changes))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        load(tmp_path / "none.json")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "picture.json"
    path.write_bytes(b"\x89PNG\xff\xfe")

    with pytest.raises(ResultError, match=r"picture\.json"):
        load(path)


@pytest.mark.parametrize(
    ("versions", "name", "label"),
    [
        ({}, "", "bad-day, 18 clients"),
        ({"tuttihub": "0.1.0"}, "tuttihub", "bad-day, 18 clients"),
        ({"hub": "tuttihub 0.1.0"}, "tuttihub", "bad-day, 18 clients"),
        ({"jacktrip": "2.5.1", "jackd": "1.9.21"}, "jacktrip", "bad-day, 18 clients, jacktrip"),
    ],
)
def test_label_names_another_hub(versions: dict[str, str], name: str, label: str) -> None:
    outcome = troubled()
    outcome.versions = versions

    result = evaluate(outcome)

    assert (result.hub_name, result.label) == (name, label)
