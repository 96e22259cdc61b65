"""``tuttihub doctor`` against JackTrip's own hub, on sound cards of all kinds, and with others."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import hubs
from tests.end_to_end.endpoints import until_right
from tests.end_to_end.hubs import OriginalHub, tuttihub_command
from tests.end_to_end.peers import JackServer
from tests.machine import to_oneself


@contextmanager
def original(folder: Path, patch: int, **details: Any) -> Iterator[OriginalHub]:
    hub = OriginalHub(folder, patch, **details)
    try:
        yield hub
        # it ends as a whole where a place is given away too soon after its last user has left
        assert hub.process.running, hub.process.log()
    finally:
        hub.stop()


def examine(port: int, *options: str, host: str = "127.0.0.1") -> dict[str, Any]:
    """The doctor's report; its own exit code is that of the command."""
    with to_oneself():
        done = subprocess.run(
            [
                *tuttihub_command(), "doctor", host, "-P", str(port), "-B", "0", "--seconds", "1",
                "--json", *options,
            ],
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == report["exit_code"]
    return report


def faults(report: dict[str, Any]) -> set[str]:
    return {finding["fault"] for finding in report["findings"]}


def errors(report: dict[str, Any]) -> set[str]:
    return {found["fault"] for found in report["findings"] if found["severity"] == "error"}


def test_jacktrips_hub_in_loopback(tmp_path: Path) -> None:
    def take() -> None:
        with original(tmp_path, 1) as hub:
            report = examine(hub.port)

        assert not errors(report)
        assert report["hub"] == {
            "rate_hz": 48000, "frames": 128, "bits": 16, "channels": 2, "mirrors": False,
            "uses_redundancy": False,
        }  # fmt: skip
        assert report["advice"]["frames"] == 128
        assert report["there"]["lost_share"] < 0.1
        assert 0.004 < report["trip"]["sound_s"] < 0.04
        assert report["router"]["remaps"] is False
        assert (report["path"]["mtu"], report["path"]["fragments"]) == (1500, True)

    until_right(take)


@pytest.mark.parametrize(
    ("rate_hz", "bits", "fault"),
    [(44_100, 16, "hub-other-rate"), (48_000, 24, "hub-other-bits")],
)
def test_jacktrips_hub_that_refuses_all_but_its_own_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_hz: int, bits: int, fault: str
) -> None:
    """It says good-bye to whatever is not: so others are tried."""
    monkeypatch.setattr(hubs, "JackServer", functools.partial(JackServer, rate_hz=rate_hz))

    def take() -> None:
        with original(tmp_path, 1, options=("-b", str(bits))) as hub:
            report = examine(hub.port)

        assert not errors(report)
        assert fault in faults(report)
        assert (report["hub"]["rate_hz"], report["hub"]["bits"]) == (rate_hz, bits)
        assert (report["advice"]["rate_hz"], report["advice"]["bits"]) == (rate_hz, bits)
        assert report["there"]["lost_share"] < 0.1

    until_right(take)


def test_a_hub_with_packets_of_its_own_that_does_not_return_ones_voice(tmp_path: Path) -> None:
    def take() -> None:
        with original(tmp_path, 2, period=256) as hub:
            report = examine(hub.port)

        assert not errors(report)
        assert {"own-voice-absent", "hub-other-period"} <= faults(report)
        assert (report["hub"]["frames"], report["hub"]["mirrors"]) == (256, False)
        assert report["advice"]["frames"] == 256
        assert report["there"]["lost_share"] is None
        assert report["trip"]["sound_s"] is None

    until_right(take)
