"""Bandwidth: what formats need, packet by packet, and what a card is said to carry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.overload.line import card_mbps, needed_bps
from shared.layout import RX

ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
formats = st.fixed_dictionaries(
    {
        "frames": st.integers(16, 1024),
        "bits": st.sampled_from([8, 16, 24, 32]),
        "channels": st.integers(1, 16),
        "wants": st.integers(1, 16),
        "redundancy": st.integers(1, 10),
        "rate_hz": st.sampled_from([22050, 44100, 48000, 192000]),
    }
)


def records(*formats: dict[str, int]) -> Any:
    rx = np.zeros(len(formats), RX)
    for record, form in zip(rx, formats, strict=True):
        for name, value in form.items():
            record[name] = value
    return rx


def counted(form: dict[str, int], channels: int) -> float:
    """A second of a stream, byte by byte as it is on the wire."""
    packet = 16 + form["frames"] * channels * form["bits"] // 8
    copies = form["redundancy"]
    while copies > 1 and copies * packet > 65507:
        copies -= 1
    left, wire = 8 + copies * packet, 0
    while left > 0:
        part = min(left, 1480)
        wire += 7 + 1 + 14 + 20 + part + 4 + 12
        left -= part
    return 8 * wire * form["rate_hz"] / form["frames"]


@given(st.lists(formats, max_size=5))
def test_what_formats_need_is_what_is_on_the_wire(found: list[dict[str, int]]) -> None:
    to_hub, from_hub = needed_bps(records(*found))
    assert math.isclose(to_hub, sum(counted(f, f["channels"]) for f in found))
    assert math.isclose(from_hub, sum(counted(f, f["wants"]) for f in found))


def test_a_usual_client_needs_1_8_mbit() -> None:
    usual = {
        "frames": 128,
        "bits": 16,
        "channels": 2,
        "wants": 2,
        "redundancy": 1,
        "rate_hz": 48000,
    }
    assert needed_bps(records(usual)) == (1_782_000.0, 1_782_000.0)


@pytest.mark.parametrize(
    ("told", "mbps"), [("1000\n", 1000), ("-1\n", None), ("0\n", None), ("4294967295\n", None)]
)
def test_the_card_with_the_default_route_counts(
    tmp_path: Path, told: str, mbps: int | None
) -> None:
    for name, text in (
        ("proc/net/route", ROUTES),
        ("sys/class/net/eth0/speed", told),
        ("sys/class/net/eth1/speed", "10\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert card_mbps(tmp_path) == mbps


def test_a_machine_that_tells_nothing_has_no_known_line(tmp_path: Path) -> None:
    assert card_mbps(tmp_path) is None
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTES)
    assert card_mbps(tmp_path) is None


def test_this_machine_can_be_asked() -> None:
    assert card_mbps() is None or card_mbps() > 0  # type: ignore[operator]
