"""``python -m loadtest`` and the control socket as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from loadtest import control
from shared.layout import PatchMode
from tests.loadtest.toys import Behaviour, Pcm, toy_hub

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--clients", "2", "--seconds", "0.5", "--settle", "0.1")


def loadtest(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *options],
        capture_output=True, text=True, cwd=ROOT, timeout=100, check=False,
    )  # fmt: skip


def test_a_right_hub_gives_figures_and_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with toy_hub(2, PatchMode.FULL_MIX) as hub:
        done = loadtest(
            "--port", str(hub.port), *SHORT, "--sources", "ports", "--json", str(path)
        )  # fmt: skip

    result = json.loads(path.read_text())
    assert result["clean"], done.stdout
    assert "2 of 2 clients" in done.stdout
    assert done.returncode == (0 if result["usable"] else 3)
    assert result["schema"] == 1
    assert result["provenance"]["command"].startswith("python -m loadtest --port")
    assert result["hub"]["cpu_us"] >= 0


class Halves(Behaviour):
    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        return super().mix(listener, count, voices, mode) // 2


def test_wrong_sound_is_an_exit_code() -> None:
    with toy_hub(2, PatchMode.FULL_MIX, behaviour=Halves()) as hub:
        done = loadtest("--port", str(hub.port), *SHORT)

    assert done.returncode in (1, 3)
    assert "client 0: wrong" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--clients", "0"), "clients: 0 is not in 1..8000"),
        (("--port", "1", "--clients", "1"), "client 0"),
        (("--mode", "3"), "'3' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said(options: tuple[str, ...], text: str) -> None:
    done = loadtest(*options)

    assert done.returncode == 2
    assert text in done.stderr


def status(ticks: int, late: int) -> dict[str, Any]:
    mixer = {"ticks": ticks, "missed": 1, "overruns": 0, "starved": 0, "load_ratio": 0.1,
             "lateness_us": {"p50": 1.0, "p99": 2.0, "max": 3.0}}  # fmt: skip
    clients = [{"received": {"late": late}}, {"received": {"late": 1}}]
    return {"hub": {"pid": 7, "mixer": mixer}, "clients": clients}


def test_counters_are_those_of_the_window() -> None:
    counters = control.compare(status(100, 5), status(475, 9))

    assert counters
    assert counters.counts["ticks"] == 375
    assert counters.counts["missed"] == 0
    assert counters.counts["late"] == 4
    assert control.compare(None, status(1, 1)) is None


def test_a_hub_is_asked_over_its_control_socket(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/hub"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)

        def answer() -> None:
            sender, request = router.recv_multipart()
            asked = json.loads(request)
            reply = {"v": 1, "id": asked["id"], "ok": True, "result": status(1, 1)}
            router.send_multipart([sender, json.dumps(reply).encode()])

        thread = threading.Thread(target=answer)
        thread.start()
        found = control.ask_status(endpoint)
        thread.join()

    assert control.hub_pid(found) == 7


def test_no_control_socket_is_no_error() -> None:
    assert control.find_control(1) is None
    assert control.ask_status(None) is None
    assert control.hub_pid(None) is None
