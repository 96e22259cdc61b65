"""``tuttihub loadtest`` as one types it: what it refuses, and whole runs with their files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hub.cli import cli
from loadtest.command import guest_cores
from loadtest.conduct import director, servers
from loadtest.conduct.control import ask_status
from loadtest.conduct.servers import Server
from loadtest.scenario import library
from loadtest.scenario.loader import parse
from loadtest.scenario.model import Hub
from shared.limits import PatchMode

pytestmark = pytest.mark.living

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
        ("--frames 8", ["--frames: 8 is not in 16..1024"]),
        ("--port 99999", ["--port", "99999", "65535"]),
        ("--bits 12", ["--bits", "12", "24"]),
        ("--mode 3", ["--mode", "3"]),
        ("--cpu 4000", ["--cpu", "4000"]),
        ("--serve --hub-cpu x", ["--hub-cpu", "x"]),
        ("--serve --hub-cpu 4000", ["--hub-cpu", "4000"]),
        ("--netem", ["--netem", "--serve"]),
        ("--echo", ["--echo", "--serve"]),
        ("--host no-such-host.invalid", ["--host", "no-such-host.invalid"]),
        ("--host ::1 --sources addresses", ["--sources", "addresses", "127.", "::1"]),
        ("--json /nowhere/r.json", ["--json", "/nowhere/r.json", "No such file"]),
        ("--html /nowhere/r.html", ["--html", "/nowhere/r.html", "No such file"]),
        ("casualties", ["casualties", "kill-receiver", "--serve", "--break-it"]),
        ("hostile --port 5000", ["hostile", "flood", "5000", "--break-it"]),
        ("--period 8", ["period", "8", "16", "1024"]),
        ("compare one.json", ["one.json"]),
        ("--hub-pid 4194305", ["--hub-pid", "4194305", "no such process"]),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(line: str, names: list[str]) -> None:
    result = loadtest(*line.split())

    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    for name in names:
        assert name in said


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


def test_nobody_there() -> None:
    result = loadtest("--port", "1", "--clients", "1", "--seconds", "0.1")

    assert result.exit_code == 2
    assert "no hub on port 1 of 127.0.0.1: Connection refused. With --serve" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("ours", "generator", "hub", "guests"),
    [
        ({0, 1}, 1, {0}, [0]),
        ({0, 1, 2, 3}, 1, {0}, [2, 3]),
        ({0, 1, 2, 3}, 1, {0, 1, 2, 3}, [0, 2, 3]),
        ({0, 1, 2, 3}, None, {0}, [1, 2, 3]),
        ({0, 1}, None, {0, 1}, [0, 1]),
        ({1}, 1, {1}, []),
    ],
)
def test_guests_have_other_cores_than_the_generator(
    ours: set[int], generator: int | None, hub: set[int], guests: list[int]
) -> None:
    assert guest_cores(ours, generator, hub) == guests


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A hub that loopback returns everything of, found by its port as one's own hub is."""
    plan = Hub(mode=PatchMode.LOOPBACK, queue="8")
    with servers.tuttihub(plan, cpus=os.sched_getaffinity(0)) as server:
        yield server


@pytest.fixture
def findable(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    assert hub.control
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"tuttihub-{hub.port}").symlink_to(hub.control.removeprefix("ipc://"))
    return hub


@pytest.mark.end_to_end
@pytest.mark.timeout(600)  # a cold start compiles the hub's kernels
def test_a_hub_that_does_something_else_is_refused(findable: Server) -> None:
    result = loadtest("--port", str(findable.port), "--clients", "2", "--period", "64")

    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "mode: loopback at the hub, full-mix in the scenario" in said
    assert "period: 128 at the hub, 64 in the scenario" in said


@pytest.mark.end_to_end
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_a_hub_is_reached_by_ipv6(findable: Server, tmp_path: Path) -> None:
    figures = tmp_path / "r.json"

    done = loadtest(
        "--host", "::1", "--port", str(findable.port), "--mode", "1", "--clients", "2",
        "--seconds", "0.5", "--settle", "0.1", "--no-realtime", "--json", str(figures),
    )  # fmt: skip

    assert done.exit_code in (0, 1, 3), done.output
    result = json.loads(figures.read_text())
    assert result["joined"] == 2
    assert result["returned"] > 100
    assert result["hub"]["cpu_us"] > 0


@pytest.mark.end_to_end
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["before the window", "in the window"])
def test_ctrl_c_has_an_exit_code_of_its_own(findable: Server, tmp_path: Path, part: str) -> None:
    figures = tmp_path / "r.json"

    def press() -> None:
        deadline = time.monotonic() + 500
        while time.monotonic() < deadline:
            status = ask_status(findable.control)
            if status and status["hub"]["clients_active"] == 2:
                break
            time.sleep(0.1)
        time.sleep(1)
        signal.raise_signal(signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    done = loadtest(
        "--port", str(findable.port), "--mode", "1", "--clients", "2", "--seconds", "60",
        "--settle", "60" if part.startswith("before") else "0", "--no-realtime",
        "--json", str(figures),
    )  # fmt: skip
    presser.join()

    assert done.exit_code == 130, done.output
    assert figures.exists() == (part == "in the window")
    if figures.exists():
        assert json.loads(figures.read_text())["interrupted"]


@pytest.mark.end_to_end
@pytest.mark.timeout(600)
def test_a_hub_that_dies_has_failed_and_leaves_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, plan = tmp_path / "r.json", tmp_path / "mine.toml"
    plan.write_text("seconds = 1\nsettle_s = 0.1\n[hub]\nmode = 1\n[[section]]\nclients = 2\n")

    @contextlib.contextmanager
    def dying(hub: Hub, *, cpus: Iterable[int]) -> Iterator[Server]:
        """The echo, killed in the window."""
        with servers.echo(2, cpus=cpus, realtime=False) as server:
            timer = threading.Timer(0.3, os.kill, (server.pids[0], signal.SIGKILL))
            opened = director.Director.run

            async def run(self: director.Director) -> None:
                timer.start()
                await opened(self)

            with monkeypatch.context() as patch:
                patch.setattr(director.Director, "run", run)
                yield server

    monkeypatch.setattr(servers, "tuttihub", dying)

    done = loadtest(str(plan), "--serve", "--no-realtime", "--json", str(figures))

    assert done.exit_code in (1, 3), done.output  # 3: the generator was late besides
    result = json.loads(figures.read_text())
    assert "the hub ended by itself" in result["problems"][-1]
    assert result["unplanned"] >= 1
    assert 0 < result["returned"] < result["expected"]
    assert not result["passed"]


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
    command = [TUTTIHUB, "loadtest", str(scenario), "--serve", "--echo",
               "--json", str(figures), "--html", str(page)]  # fmt: skip

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
    )

    assert done.returncode in (0, 1, 3), done.stderr
    result = json.loads(figures.read_text())
    assert result["joined"] == 3
    assert result["returned"] > 1000
    assert result["hub"]["cpu_us"] > 0
    told = "echo floor" in done.stderr
    assert told == (result["floor"] is not None) == (not any("echo" in n for n in result["notes"]))
    assert (done.returncode == 0) == (result["usable"] and result["passed"])
    assert "pair" in page.read_text()
    again = tmp_path / "again.html"
    made = loadtest("report", str(figures), "-o", str(again))
    assert made.exit_code == 0, made.output
    assert "<svg" in again.read_text()
    nowhere = loadtest("report", str(figures), "-o", "/nowhere/r.html")
    assert nowhere.exit_code == 2
    assert "/nowhere/r.html: No such file" in nowhere.output
    side_by_side = loadtest("compare", str(figures), str(figures))
    assert side_by_side.exit_code == 0, side_by_side.output
