"""The benchmark of whole servers with real ones, briefly; no figure of it is judged."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from loadtest.benchmarks import record, whole
from loadtest.benchmarks.__main__ import KERNELS_S, main
from loadtest.benchmarks.whole import Case, Settings, cases, expected_s, measure, scenario, told
from loadtest.conduct import servers
from loadtest.scenario.model import ScenarioError
from shared.layout import PatchMode
from tests.loadtest.benchmarks import rows
from tests.loadtest.benchmarks.rows import row

CORES = os.sched_getaffinity(0)
BRIEF = Settings(
    clients=(2,), original=(2,), seconds=0.5, attempts=1, hub_cpu=min(CORES), load_cpu=max(CORES)
)


def case(table: str, server: str) -> Case:
    """The brief settings' case of a table and a server."""
    (found,) = (each for each in cases(BRIEF) if (each.table, each.server) == (table, server))
    return found


@pytest.mark.alone
@pytest.mark.end_to_end
@pytest.mark.timeout(400)  # a cold start compiles the hub's kernels and the generator's
def test_hub_is_measured() -> None:
    found = measure(case("scale", "tuttihub"), BRIEF)

    assert (found.failed, found.joined, found.clients, found.mode) == ("", 2, 2, 2)
    assert found.expected > 0
    assert found.checked > 0
    assert found.ticks
    assert any("rx" in kind for kind in found.cpu_us_by_kind)
    assert found.private_kib > found.private_kib_a_client >= 0  # a tree that shares may not grow
    assert found.private_kib / 2 > found.private_kib_a_receiver > 50
    assert found.version.startswith("tuttihub ")
    assert found.latency.count > 0


@pytest.mark.alone
@pytest.mark.end_to_end
def test_original_is_measured() -> None:
    if servers.missing_programs():
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing: {servers.missing_programs()}")
        pytest.skip(f"missing: {servers.missing_programs()}")
    found = measure(case("original", "jacktrip"), BRIEF)

    assert (found.failed, found.joined, found.mode) == ("", 2, 4)
    assert set(found.cpu_us_by_kind) >= {"jackd", "jacktrip"}


def test_server_that_does_not_start_is_a_row_without_figures() -> None:
    nowhere = replace(BRIEF, hub_cpu=100_000, attempts=2)
    found = measure(case("scale", "tuttihub"), nowhere)

    assert found.failed.startswith("cores [100000]: this machine has")
    assert (found.attempts, found.measured, found.cpu_us) == (2, False, 0.0)
    assert told(found).startswith("tuttihub with 2: failed: cores")


def test_neighbours_are_on_the_same_load() -> None:
    settings = Settings(clients=(1, 300), original=(24,))
    found = [(each.table, each.server, each.clients, each.mode) for each in cases(settings)]
    assert found == [
        ("scale", "echo", 1, 1),
        ("scale", "tuttihub", 1, 2),
        ("scale", "echo", 300, 1),
        ("scale", "tuttihub", 300, 2),
        ("original", "jacktrip", 24, 4),
        ("original", "tuttihub", 24, 4),
    ]
    (rate,) = {each.join_rate for each in cases(settings) if each.table == "original"}
    assert rate < settings.join_rate


def test_scenario_is_what_the_case_says() -> None:
    plan = scenario(case("original", "jacktrip"), replace(BRIEF, frames=64, bits=24))
    assert (plan.clients, plan.hub.mode, plan.hub.queue) == (2, PatchMode.FULL_MIX, "4")
    assert (plan.hub.period, plan.sections[0].format.frames) == (64, 64)
    assert plan.sections[0].format.bits == 24


def test_setting_out_of_range_is_named() -> None:
    with pytest.raises(ScenarioError, match="frames"):
        scenario(case("scale", "echo"), replace(BRIEF, frames=3))


def test_time_it_takes_grows_with_the_window_and_the_clients() -> None:
    assert expected_s(replace(BRIEF, seconds=10)) > expected_s(BRIEF) + 4 * 9
    assert expected_s(replace(BRIEF, clients=(300,))) > expected_s(BRIEF) + 10


@pytest.mark.parametrize("text", ["many", "1,0", "1,2000", "1;2"])
def test_wrong_numbers_are_named(text: str) -> None:
    done = CliRunner().invoke(whole.main, ["--clients", text])
    assert done.exit_code == 2
    assert "1..1024" in done.output


def test_options_make_settings() -> None:
    context = whole.main.make_context(
        "whole", ["--clients", "1,10", "--original", "", "--mode", "4", "--bits", "24"]
    )
    values = {name: value for name, value in context.params.items() if name != "output"}
    settings = whole.settings_of(values)
    assert (settings.clients, settings.original) == ((1, 10), ())
    assert (settings.mode, settings.bits, settings.attempts) == (4, 24, Settings().attempts)


def test_doubtful_rows_say_so_in_the_terminal() -> None:
    late = row("tuttihub", 50, usable=False, reasons=["sends were late"], attempts=3, wrong=4)
    assert "not usable after 3 attempts: sends were late" in told(late)
    assert "4 wrong" in told(late)
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(whole.table([late, row("echo", 50)]))
    assert console.export_text().count("50") >= 2


def test_ctrl_c_has_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: Settings, out: Console) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "run", interrupted)

    done = CliRunner().invoke(whole.main, ["--clients", "1", "--original", ""])

    assert done.exit_code == 130


def test_nothing_is_run_again_when_there_is_no_time() -> None:
    nowhere = replace(BRIEF, hub_cpu=100_000, attempts=3)

    assert measure(case("scale", "echo"), nowhere, lambda: False).attempts == 1
    assert measure(case("scale", "echo"), nowhere).attempts == 3


def test_what_cannot_be_merged_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    record.write(rows.whole(row("tuttihub", 1)), tmp_path / "whole-2031-02-03.json")

    done = CliRunner().invoke(main, ["--merge", "--clients", "1", "--folder", str(tmp_path)])

    assert done.exit_code == 1
    assert "rows cannot be merged: machine.cpu was Abacus 3000" in done.output


def test_all_of_it_takes_ten_minutes_at_most() -> None:
    assert max(expected_s(Settings()), 60 * Settings().minutes) + KERNELS_S <= 600
