"""What a plan refuses, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.plan import Plan, PlanError
from loadtest.state import make_state, quantile_us
from loadtest.wires import client_address
from shared.layout import PatchMode


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clients": 0}, "clients: 0 is not in 1..8000"),
        ({"clients": 8001}, "clients: 8001"),
        ({"frames": 8}, "frames: 8 is not in 16..1024"),
        ({"channels": 17}, "channels: 17"),
        ({"port": 0}, "port: 0"),
        ({"seconds": 0.0}, "seconds: 0.0"),
        ({"mode": PatchMode.RESERVED}, "mode: 3 cannot be checked"),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError, match=text):
        Plan(**changes)


def test_arrivals_are_spread_over_the_period_or_come_in_one_burst() -> None:
    spread = make_state(Plan(clients=100), 1).run[0]
    burst = make_state(Plan(clients=100, burst=True), 1).run[0]

    assert spread["period_ps"] == round(128 * 1e12 / 48000)
    assert spread["phase_ps"] == spread["period_ps"] // 100
    assert burst["phase_ps"] == 0


def test_every_client_has_an_address_of_its_own() -> None:
    addresses = [client_address(index) for index in range(8000)]

    assert len(set(addresses)) == 8000
    assert addresses[0] == "127.1.0.1"
    assert addresses[250] == "127.1.1.1"
    assert not any(address.endswith((".0", ".255")) for address in addresses)


def test_quantiles_of_a_histogram() -> None:
    histogram = make_state(Plan(clients=1), 1).histograms[0]
    assert quantile_us(histogram, 0.5) == 0
    histogram[[10, 20, 30]] = [50, 49, 1]

    assert quantile_us(histogram, 0.5) == 10
    assert quantile_us(histogram, 0.99) == 20
    assert quantile_us(histogram, 1.0) == 30
