"""``tuttihub loadtest`` as one types it: what it refuses, and whole runs with their files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hub.cli import cli
from loadtest.scenario import library
from loadtest.scenario.loader import parse

ROOT = Path(__file__).resolve().parents[2]
TUTTIHUB = str(Path(sys.executable).with_name("tuttihub"))


def loadtest(*args: str) -> Result:
    return CliRunner().invoke(cli, ["loadtest", *args], prog_name="tuttihub")


def test_the_ready_made_are_listed() -> None:
    listed = loadtest("scenarios")

    assert listed.exit_code == 0
    for name in library.names():
        assert name in listed.output


def test_a_printed_scenario_is_one() -> None:
    printed = loadtest("scenarios", "rehearsal-30")

    assert parse(printed.output).sections == library.ready("rehearsal-30").sections


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("nowhere-30", ["SCENARIO", "nowhere-30", "rehearsal-30"]),
        ("scenarios nowhere-30", ["nowhere-30"]),
        ("run missing.toml", ["missing.toml"]),
        ("--clients 0", ["clients", "0", "8000"]),
        ("--frames 8", ["frames", "8", "16", "1024"]),
        ("--bits 12", ["--bits", "12", "24"]),
        ("--mode 3", ["--mode", "3"]),
        ("--cpu 4000", ["--cpu", "4000"]),
        ("--serve --hub-cpu x", ["--hub-cpu", "x"]),
        ("--serve --hub-cpu 4000", ["--hub-cpu", "4000"]),
        ("--netem", ["--netem", "--serve"]),
        ("--host no-such-host.invalid", ["--host", "no-such-host.invalid"]),
        ("compare one.json", ["one.json"]),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(line: str, names: list[str]) -> None:
    result = loadtest(*line.split())

    assert result.exit_code == 2
    for name in names:
        assert name in result.output


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[section]]\nname = 'a'\nclient = 3\n")
    damaged = tmp_path / "a.json"
    damaged.write_text("{")

    scenario, report = loadtest(str(path)), loadtest("report", str(damaged), "-o", "x.html")

    assert scenario.exit_code == report.exit_code == 2
    for expected in ("mine.toml", "client", "clients"):
        assert expected in scenario.output
    assert "a.json" in report.output


@pytest.mark.timeout(400)  # a cold start compiles the generator
def test_nobody_there() -> None:
    result = loadtest("--port", "1", "--clients", "1", "--seconds", "0.1")

    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.end_to_end
@pytest.mark.timeout(400)  # a cold start compiles all kernels
def test_a_run_leaves_its_figures_and_its_page(tmp_path: Path) -> None:
    """Against a hub of its own; whether it passes is the machine's affair, not this test's."""
    scenario, figures, page = (tmp_path / name for name in ("mine.toml", "r.json", "r.html"))
    scenario.write_text(
        "title = 'Two'\nseconds = 1.5\nsettle_s = 0.3\ntutti_every = 4\n"
        "[hub]\nmode = 2\nqueue = '8'\n"
        "[[section]]\nname = 'pair'\nclients = 3\nformat = { sends = 1 }\n"
    )
    command = [TUTTIHUB, "loadtest", str(scenario), "--serve",
               "--json", str(figures), "--html", str(page)]  # fmt: skip

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
    )

    assert done.returncode in (0, 1, 3), done.stderr
    result = json.loads(figures.read_text())
    assert result["joined"] == 3
    assert result["returned"] > 1000
    assert result["hub"]["cpu_us"] > 0
    assert (done.returncode == 0) == (result["usable"] and result["passed"])
    assert "pair" in page.read_text()
    again = tmp_path / "again.html"
    made = loadtest("report", str(figures), str(figures), "-o", str(again))
    assert made.exit_code == 0, made.output
    assert "<svg" in again.read_text()
    side_by_side = loadtest("compare", str(figures), str(figures))
    assert side_by_side.exit_code == 0, side_by_side.output
