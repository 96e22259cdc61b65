"""Networks in netem's words, and whether the delays in its tables are those asked for."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.clients.network import make_networks
from loadtest.conduct.netem import STEPS, TABLE, netem
from loadtest.scenario.model import Jitter, Network, Scenario, ScenarioError, Section
from tests.loadtest.clients.test_network import MS, send

WIFI = Network(jitter=Jitter.PARETO, jitter_ms=2.0, delay_ms=5.0)
EVERYTHING = replace(
    WIFI, loss=0.01, burst_begin=0.005, burst_loss=0.5, duplicate=1e-5, reorder=0.01, ordered=False
)


def options(network: Network, rate_mbit: float = 0.0) -> str:
    """As they are given to tc, but for the limit, which is always the same."""
    arguments = netem(network, rate_mbit=rate_mbit).arguments("up")
    assert arguments[:2] == ["limit", "1000000"]
    return " ".join(arguments[2:])


def table_delays_ms(network: Network) -> npt.NDArray[np.float64]:
    """All delays that netem draws from, as its arithmetic has them."""
    side = netem(network)
    assert side.table is not None
    arguments = side.arguments("up")
    base_us, spread_us = (float(arguments[arguments.index("delay") + k][:-2]) for k in (1, 2))
    delays: npt.NDArray[np.float64] = (base_us + spread_us * side.table / STEPS) / 1000
    return delays


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Network(), ""),
        (Network(loss=0.2), "loss random 20%"),
        (Network(loss=1e-5), "loss random 0.001%"),
        (Network(burst_begin=0.005, burst_end=0.25), "loss gemodel 0.5% 25% 100% 0%"),
        (Network(loss=0.1, burst_begin=0.01, burst_loss=0.5), "loss gemodel 1% 25% 55% 10%"),
        (Network(burst_begin=0.01, burst_loss=0), ""),
        (Network(delay_ms=20.5), "delay 20500.000us"),
        (Network(duplicate=0.5), "duplicate 50%"),
        (
            Network(jitter=Jitter.UNIFORM, jitter_ms=1, ordered=False),
            "delay 0.000us 499.985us distribution up",
        ),
        (
            Network(jitter=Jitter.UNIFORM, jitter_ms=1),
            "delay 0.000us 499.985us distribution up rate 30gbit",
        ),
        (Network(delay_ms=1, reorder=0.1), "delay 1000.000us 1000.031us distribution up"),
    ],
)
def test_options(network: Network, expected: str) -> None:
    assert options(network) == expected


def test_rate() -> None:
    assert options(Network(), rate_mbit=2.5) == "rate 2500000bit"


@pytest.mark.parametrize("jitter", [jitter for jitter in Jitter if jitter != Jitter.NONE])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_table_and_generator_delay_alike(jitter: Jitter, share: float) -> None:
    network = Network(
        jitter=jitter, jitter_ms=2, delay_ms=5, jitter_share=share, reorder=0.1, ordered=False
    )

    ours = send(network, 100_000)[:, 1] / MS
    theirs = table_delays_ms(network)

    assert theirs.size == TABLE
    for q in (0.05, 0.5, 0.75, 0.85, 0.95, 0.99):
        # A mixture has flat places, where a quantile is anywhere: compare shares below.
        limit = float(np.quantile(ours, q)) + 0.005
        assert float((theirs <= limit).mean()) == pytest.approx((ours <= limit).mean(), abs=0.01)


def test_table_is_seeded() -> None:
    tables = [netem(EVERYTHING, seed=seed).table_text() for seed in (1, 1, 2)]

    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (Network(stall_every_s=5, stall_ms=100), "stall_ms: netem has no stalls"),
        (Network(step_ms=5), "step_ms: netem's delay has no steps"),
        (replace(WIFI, reorder=0.1), "reorder: netem cannot .* set ordered = false"),
        (
            replace(WIFI, jitter_ms=500, jitter_shape=1.01),
            r"jitter_ms: 500 means delays of 50.0 s; netem's end at 8.6 s",
        ),
    ],
)
def test_what_netem_cannot_do_is_refused(network: Network, what: str) -> None:
    make_networks(Scenario(sections=(Section(up=network),)))  # though the generator can

    with pytest.raises(ScenarioError, match=what):
        netem(network)


@pytest.mark.parametrize("network", [Network(reorder=0.1), replace(WIFI, ordered=False)])
def test_a_line_with_a_rate_keeps_the_order(network: Network) -> None:
    with pytest.raises(ScenarioError, match="rate_mbit: a line of 10 Mbit/s keeps the order"):
        netem(network, rate_mbit=10)


@pytest.mark.skipif(shutil.which("tc") is None, reason="there is no tc (package iproute2)")
@pytest.mark.parametrize("network", [Network(), WIFI, EVERYTHING])
def test_tc_understands_all_options(network: Network, tmp_path: Path) -> None:
    """It reads options and table before it looks for the device, which is not there."""
    side = netem(network)
    (tmp_path / "up.dist").write_text(side.table_text())

    done = subprocess.run(
        ["tc", "qdisc", "add", "dev", "nosuchdevice", "root", "netem", *side.arguments("up")],
        env={"TC_LIB_DIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
    )

    assert done.stderr.strip() == 'Cannot find device "nosuchdevice"'
