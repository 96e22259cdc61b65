"""All ready-made scenarios in a row: how large and long, what is kept, and the table of it."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from loadtest.benchmarks import scenarios, scenariotable
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.scenarios import MAX_BYTES, SHORT, expected_s, keep, plan
from loadtest.benchmarks.scenariotable import BEGIN, END, content, read, rendered
from loadtest.conduct.director import deeds
from loadtest.conduct.outcome import Finding, FindingKind, Halted
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result, load
from loadtest.reporting.terminal import show
from loadtest.scenario import library
from loadtest.scenario.model import Scenario
from tests.loadtest.benchmarks.test_render import cells
from tests.loadtest.reporting.runs import SCENARIO, perfect, troubled

DEPARTURES_S = 27.0
"""From then on the last guests of ``rolling-churn`` leave, as others did before."""


def large() -> Result:
    """A run of many clients for long, with much to say."""
    scenario = replace(SCENARIO, seconds=120.0,
                       sections=(replace(SCENARIO.sections[0], clients=120),))  # fmt: skip
    outcome = perfect(scenario)
    outcome.findings = [
        Finding(FindingKind.CLICK, -1, 1, 1.0, 2.0, 9, "A click. " * 30, listeners=[*range(120)])
    ] * 200
    return evaluate(outcome)


def test_the_documentation_shows_what_was_kept_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.scenariotable"""
    assert scenariotable.PAGE.read_text() == rendered()


def test_kept_results_are_small_and_of_ready_made_scenarios() -> None:
    for path in scenarios.FOLDER.glob("*.json"):
        assert path.stem in library.names()
        assert path.stat().st_size <= MAX_BYTES + 1


def test_all_are_played_in_six_minutes_by_clients_that_two_cores_carry() -> None:
    assert set(SHORT) == set(library.names()) == set(scenariotable.ORDER)
    plans = [plan(name) for name in SHORT]

    assert expected_s(plans) <= 6 * 60
    assert all(each.clients <= 60 for each in plans)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_a_shorter_window_holds_all_that_happens_on_purpose(name: str) -> None:
    full, short = library.ready(name), plan(name)

    assert all(fault.at_s + fault.seconds < short.seconds for fault in short.faults)
    assert len(short.faults) == len(full.faults)
    assert all(deed.at_s < short.seconds for deed in deeds(full) if deed.at_s < DEPARTURES_S)


def test_sizes_and_lengths_can_be_chosen() -> None:
    assert (plan("choir-300", 40).clients, plan("choir-300").clients) == (40, 60)
    assert plan("hour-of-drift", at_most_s=7).seconds == 7
    for wrong in ("choir-300", "choir=40", "choir-300=x"):
        asked = CliRunner().invoke(scenarios.main, ["--size", wrong])
        assert asked.exit_code == 2
        assert "choir-300=60" in asked.output


def test_a_kept_result_is_small_and_can_still_be_shown(tmp_path: Path) -> None:
    result = large()
    assert len(result.to_json()) > 3 * MAX_BYTES

    path = keep(result, tmp_path, "large")

    assert path.stat().st_size <= MAX_BYTES
    kept = load(path)
    assert (kept.lost, kept.hub, kept.service) == (result.lost, result.hub, result.service)
    assert kept.findings_total == 200
    assert sum(kept.timeline.totals["returned"]) == sum(result.timeline.totals["returned"])
    console = Console(file=io.StringIO(), width=110)
    show(kept, console)
    assert isinstance(console.file, io.StringIO)
    assert "clients for 120 seconds" in " ".join(console.file.getvalue().split())


def test_table_has_a_row_for_each_and_says_why_one_did_not_pass(tmp_path: Path) -> None:
    keep(evaluate(perfect()), tmp_path, "little-choir")
    bad_day = troubled()
    bad_day.halted = Halted(2, 30.6, 20.0)
    keep(evaluate(bad_day), tmp_path, "bad-day")

    text = content(read(tmp_path))

    (good,), (bad,) = cells(text, "`little-choir`"), cells(text, "`bad-day`")
    assert good[1:6] == ["18", "10", "0 of 56 250", "0 / 0", "40 of 40"]
    assert good[-3:] == ["0 of 3 750", "–", "passed"]
    assert bad[-2:] == ["2 ×, 31 ms", "failed"]
    assert "`bad-day` failed: left out 1 joins (allowed: 0 joins), return loss" in text


@pytest.mark.parametrize(("minutes", "played"), [(60, 4), (0, 2)])
def test_what_was_unusable_is_played_again_while_there_is_time(
    minutes: float, played: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is late twice, the second never."""
    names: list[str] = []

    def measure(made: Scenario, hub_cpu: int, console: Console) -> Result:
        names.append(made.name)
        outcome = perfect(replace(SCENARIO, name=made.name))
        late = made.name == "rehearsal-30" and names.count(made.name) < 3
        outcome.state.run["skipped"] = 7 * late
        return evaluate(outcome)

    monkeypatch.setattr(scenarios, "measure", measure)
    plans = [plan(name) for name in ("rehearsal-30", "casualties")]

    assert not list(scenarios.run(plans, 0, 60 * minutes, tmp_path, Console(quiet=True)))

    assert len(names) == played
    usable = {path.stem: load(path).usable for path in tmp_path.iterdir()}
    assert usable == {"rehearsal-30": minutes > 0, "casualties": True}


def test_a_run_that_says_nothing_of_the_hub_is_told(tmp_path: Path) -> None:
    outcome = perfect()
    outcome.state.run["skipped"] = 7
    keep(evaluate(outcome), tmp_path, "little-choir")

    text = content(read(tmp_path))

    assert cells(text, "`little-choir`")[0][-1] == "none: the generator was late"
    assert "- `little-choir` says nothing of the hub: " in text


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}\n")
    assert "not been played yet" in rendered(page, tmp_path)

    kept = keep(evaluate(perfect()), tmp_path, "little-choir")
    shutil.copy(kept, tmp_path / "other.json")
    with pytest.raises(RecordError, match=r"other\.json: is of 'little-choir'"):
        rendered(page, tmp_path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(RecordError, match=r"other\.json"):
        rendered(page, tmp_path)


@pytest.mark.end_to_end
@pytest.mark.timeout(400)  # a cold start compiles the kernels
def test_one_is_played_and_kept(tmp_path: Path) -> None:
    """Of the real hub; and what each kind of its processes cost stands in the file."""
    played = CliRunner().invoke(
        scenarios.main,
        ["--only", "rehearsal-30", "--size", "rehearsal-30=8", "--at-most", "1", "--minutes", "0",
         "--no-render", "--folder", str(tmp_path)],
    )  # fmt: skip
    assert played.exit_code == 0, played.output

    (kept,) = read(tmp_path)
    assert (kept.joined, kept.clients, kept.window_s) == (8, 8, 1.0)
    assert kept.hub
    receivers, mixer = kept.hub.kinds["tutti-rx"], kept.hub.kinds["tutti-mixer"]
    assert (receivers.processes, mixer.processes) == (8, 1)
    assert {"tuttihub", "tutti-zygote"} <= set(kept.hub.kinds)
    assert receivers.voluntary > 0
    for one in (receivers, mixer):
        assert one.cpu_us > 0
        assert min(one.private_kib, one.shared_kib) > 0
    assert sum(one.cpu_us for one in kept.hub.kinds.values()) == pytest.approx(
        kept.hub.cpu_us, abs=0.01
    )
    assert sum(one.private_kib for one in kept.hub.kinds.values()) == kept.hub.private_kib
