"""What a hub counted between two states; asking one that is not there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from loadtest.conduct.control import ask_status, compare, find_control, hub_pid, mismatches
from loadtest.scenario.library import ready
from loadtest.scenario.model import Hub
from shared.limits import PatchMode


def client(slot: int, session: int, name: str, **received: int) -> dict[str, Any]:
    return {"slot": slot, "session": session, "name": name, "received": received}


def status(*clients: dict[str, Any], **mixer: int) -> dict[str, Any]:
    return {
        "hub": {"pid": 7, "mixer": {"lateness_us": {"p50": 9.0}, "load_ratio": 0.25, **mixer}},
        "clients": list(clients),
    }


def test_counters_are_those_of_the_window() -> None:
    before = status(client(0, 1, "a", lost=5), client(1, 1, "b", lost=1), ticks=100, missed=2)
    after = status(client(0, 1, "a", lost=8), client(1, 1, "b", lost=1), ticks=400, missed=2)

    counters = compare(before, after)

    assert counters
    assert (counters.counts["ticks"], counters.counts["missed"]) == (300, 0)
    assert counters.counts["lost"] == counters.by_client["a"]["lost"] == 3
    assert counters.by_client["b"]["lost"] == 0
    assert (counters.lateness_us, counters.load_ratio) == ({"p50": 9.0}, 0.25)


def test_who_came_meanwhile_counts_from_0() -> None:
    before = status(client(0, 1, "a", late=5))
    after = status(client(0, 2, "b", late=4))

    counters = compare(before, after)

    assert counters
    assert counters.counts["late"] == 4


def test_a_receiver_that_was_replaced_counts_anew() -> None:
    counters = compare(status(client(0, 1, "a", late=50)), status(client(0, 1, "a", late=4)))

    assert counters
    assert counters.counts["late"] == 4


def test_without_a_state_there_are_no_counters() -> None:
    assert compare(None, status()) is None
    assert compare(status(), None) is None
    assert (hub_pid(None), hub_pid(status())) == (None, 7)


def test_nobody_answers_at_an_endpoint_without_a_hub(tmp_path: Path) -> None:
    assert ask_status(None) is None
    assert ask_status(f"ipc://{tmp_path}/control", timeout_ms=50) is None
    assert find_control(1) is None


def test_what_a_killed_hub_has_left_is_no_control_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / "tuttihub-1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        assert find_control(1) == f"ipc://{path}"

    assert path.is_socket()
    assert find_control(1) is None


def test_a_hub_that_does_something_else_is_told_apart() -> None:
    own = {"patch": "fan-out-no-self", "period_frames": 128, "rate_hz": 48000, "upmix": False}
    hub = Hub(mode=PatchMode.FAN_OUT_NO_SELF)

    assert mismatches(hub, {"hub": own}) == mismatches(hub, {"hub": {}}) == []
    assert mismatches(Hub(upmix=True, period=64, rate_hz=44100), {"hub": own}) == [
        "mode: fan-out-no-self at the hub, full-mix in the scenario",
        "period: 128 at the hub, 64 in the scenario",
        "rate: 48000 at the hub, 44100 in the scenario",
        "upmix: False at the hub, True in the scenario",
    ]


def test_drift_is_told_apart_where_the_scenario_cares() -> None:
    status = {"hub": {"drift": "auto"}}

    assert mismatches(Hub(), status) == mismatches(Hub(options=("--drift", "auto")), status) == []
    assert mismatches(Hub(options=("--upmix", "--drift", "off")), status) == [
        "drift: auto at the hub, off in the scenario"
    ]


def test_matching_clients_is_told_apart_where_the_scenario_cares() -> None:
    status = {"hub": {"match_clients": True}}

    for same in ((), ("--match-clients", "on"), ("--match-clients=off", "--match-clients=on")):
        assert mismatches(Hub(options=same), status) == []
    for other in (("--match-clients", "off"), ("--upmix", "--match-clients=off")):
        assert mismatches(Hub(options=other), status) == [
            "match-clients: on at the hub, off in the scenario"
        ]
    assert mismatches(Hub(options=("--match-clients", "off")), {"hub": {}}) == []


def test_every_ready_made_scenario_whose_clocks_differ_says_how_they_are_treated() -> None:
    """Else a running hub of other settings would be called wrong instead of refused."""
    own = {"hub": {"drift": "on", "match_clients": True}}

    for name in ("hour-of-drift", "flaky-wifi", "followed-clocks"):
        assert [each.partition(":")[0] for each in mismatches(ready(name).hub, own)] == [
            "drift", "match-clients"
        ], name  # fmt: skip
