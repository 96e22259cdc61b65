"""What the bridge makes of a real JACK graph: names, ports and cables of every mode, room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.end_to_end.stage import Jacks

pytestmark = pytest.mark.alone

CARD = {
    "anna:send_1": ["system:capture_1"],
    "anna:send_2": ["system:capture_2"],
    "anna:receive_1": ["system:playback_1"],
    "bert:send_1": ["system:capture_1"],
    "bert:receive_1": ["system:playback_1"],
    "bert:receive_2": ["system:playback_2"],
}
UPMIXED = CARD | {"anna:receive_1": ["system:playback_1", "system:playback_2"]}
NO_CARD: dict[str, list[str]] = {port: [] for port in CARD}
BEAT = "tuttihub:cycle"


def without_beat(ports: dict[str, list[str]]) -> dict[str, list[str]]:
    """Every first receive port is connected to the beat, and no other."""
    for port, to in ports.items():
        assert (BEAT in to) == port.endswith(":receive_1"), port
    return {port: [other for other in to if other != BEAT] for port, to in ports.items()}


@pytest.fixture(scope="module")
def told(jacks: Jacks) -> dict[str, Any]:
    """What the bridges of one run made, by scene."""
    server = jacks(Jacks.KEPT)
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.jack_graphs", server.name],
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_modes_connect_by_equal_numbers(told: dict[str, Any]) -> None:
    due = {
        "0": CARD, "0 -u": UPMIXED, "0 -D": NO_CARD, "2": NO_CARD, "2 -i": CARD, "3": CARD,
        "4 -i -u -D": UPMIXED, "5 -i": NO_CARD,
    }  # fmt: skip
    assert {mode: without_beat(ports) for mode, ports in told["modes"].items()} == due


def test_mode_3_waits_for_supercollider_and_leaves_be_what_somebody_took_out(
    told: dict[str, Any],
) -> None:
    first, all_of = "192.168.0.12", told["matrix"]
    nothing: dict[str, list[str]] = {
        f"{n}:{p}_1": [] for n in (first, "anna") for p in ("send", "receive")
    }
    into = {f"{first}:receive_1": ["SuperCollider:in_2"]}
    assert without_beat(all_of["before"]) == nothing
    out_of = {f"{first}:send_1": ["SuperCollider:out_6"]}
    assert without_beat(all_of["after"]) == {**nothing, **into, **out_of}
    assert without_beat(all_of["undone"]) == {**nothing, **into}


def test_sections_and_mix_have_two_ports_each_way(told: dict[str, Any]) -> None:
    for scene, names in (("sections", ["others", "choir"]), ("mix", ["mix"])):
        assert without_beat(told[scene]) == {
            f"{name}:{port}_{k}": [f"system:{card}_{k}"]
            for name in names
            for port, card in (("send", "capture"), ("receive", "playback"))
            for k in (1, 2)
        }


def test_a_long_name_is_kept_as_long_as_jack_can_tell_it_apart(told: dict[str, Any]) -> None:
    short = "x" * 60
    names = [f"{'x' * 63}:receive_1", f"{short}:receive_1", f"{short}-01:receive_1"]
    assert sorted(told["namesakes"]) == sorted(names)


def test_broadcast_ports_are_connected_to_nothing(told: dict[str, Any]) -> None:
    ports, delays = told["delayed"]
    more: dict[str, list[str]] = {
        "anna:broadcast_1": [],
        "bert:broadcast_1": [],
        "bert:broadcast_2": [],
    }
    assert without_beat(ports) == {**CARD, **more}
    assert delays == [8 * 64, 8 * 64]


def test_who_has_no_room_is_told_and_gets_ports_when_there_is(told: dict[str, Any]) -> None:
    found = told["crowd"]
    assert found["opened"] > 10
    assert found["opened"] + found["left_out"] == 20
    assert not found["asked_again"]
    assert found["then_left_out"] == found["left_out"] + 1
    assert (found["last"], found["last_left_out"]) == (10, 0)
