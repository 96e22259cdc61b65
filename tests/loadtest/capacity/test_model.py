"""The model: known parameters are found again, predictions say what limits and how sure they
are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.capacity.fit import FitError, Line, Model, Observation, fit, observe
from loadtest.capacity.model import (
    CARDS,
    MOST,
    Assumptions,
    Card,
    predict,
    predictions,
    traffic,
)
from loadtest.capacity.probe import Figures, Probe
from loadtest.scenario.model import Format

FORMATS = [
    Format(frames=frames, sends=channels, wants=channels)
    for frames in (64, 128, 256)
    for channels in (1, 2)
]
STEREO = Format(frames=128)
RECEIVE, MIX, OTHER = (20.0, 6.0, 0.004), (15.0, 3.0, 0.002), (4.0, 0.01)
FREE = Assumptions(headroom=0.0, realtime_share=1.0, max_clients=MOST + 1)
WIDE = Card(1000, 1000)


def work(format_: Format, clients: int, noise: np.random.Generator | None = None) -> Observation:
    """What a hub of known costs would show."""
    samples, period_ms = format_.frames * format_.sends, format_.period_ns / 1e6
    factors = 1 + (noise.normal(0, 0.02, 3) if noise else np.zeros(3))
    return Observation(
        format=format_,
        clients=clients,
        period_us=period_ms * 1000,
        receive_us=factors[0] * (RECEIVE[0] + clients * (RECEIVE[1] + RECEIVE[2] * samples)),
        mix_us=factors[1] * (MIX[0] + clients * (MIX[1] + MIX[2] * samples)),
        other_us=factors[2] * (OTHER[0] + clients * OTHER[1]) * period_ms,
        private_kib=30_000 + 1600 * clients,
    )


def model_of(formats: list[Format], noise: int | None = None) -> Model:
    random = np.random.default_rng(noise) if noise is not None else None
    return fit([work(one, clients, random) for one in formats for clients in (16, 32, 64, 128)])


def test_known_parameters_are_found_again() -> None:
    model = model_of(FORMATS)

    assert model.receive.values == pytest.approx(RECEIVE)
    assert model.mix.values == pytest.approx(MIX)
    assert model.other.values == pytest.approx(OTHER)
    assert model.memory_kib == pytest.approx(30_000)
    assert model.memory_a_client_kib == pytest.approx(1600)
    assert max(line.residual for line in (model.receive, model.mix, model.other)) < 1e-9


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000))
def test_noise_of_two_per_cent_moves_the_total_by_little_and_says_so(seed: int) -> None:
    model = model_of(FORMATS, seed)
    truth = work(STEREO, 200)

    costs = model.costs(STEREO, 200)

    total = truth.receive_us + truth.mix_us + truth.other_us
    assert costs.total_us == pytest.approx(total, rel=0.06)
    assert 0.005 < costs.deviation_us / costs.total_us < 0.05


def test_one_format_alone_still_gives_a_fit_for_that_format() -> None:
    model = model_of([STEREO])

    assert model.receive.values[2] == 0.0
    truth = work(STEREO, 300)
    assert model.costs(STEREO, 300).receive_us == pytest.approx(truth.receive_us)
    assert model.costs(STEREO, 300).mix_us == pytest.approx(truth.mix_us)


def test_coefficients_are_never_negative() -> None:
    falling = [
        replace(work(STEREO, clients), receive_us=cost)
        for clients, cost in ((10, 160.0), (50, 630.0), (100, 1000.0))
    ]

    model = fit(falling)

    assert model.receive.values.min() >= 0
    assert model.costs(STEREO, 50).receive_us == pytest.approx(630, rel=0.15)


def test_two_numbers_of_clients_are_the_least() -> None:
    with pytest.raises(FitError, match="1 usable probes with costs"):
        fit([work(STEREO, 10)])
    with pytest.raises(FitError, match="2 usable"):
        fit([work(STEREO, 10), work(STEREO, 10)])


def probe(**changes: object) -> Probe:
    figures = Figures(
        period_us=2666.7,
        joined=100,
        expected=1000,
        cpu_us={"tutti-rx": 8.0, "tutti-mixer": 5.0, "tutti-lane": 1.0, "tuttihub": 0.2},
        counts={"ticks": 1000},
        processes={"tutti-lane": 2},
    )
    return Probe(100, 30.0, True, True, figures=replace(figures, **changes))  # type: ignore[arg-type]


def test_probes_are_divided_by_kind_of_process() -> None:
    (seen,) = observe(STEREO, [probe()])

    assert seen.receive_us == pytest.approx(800)
    assert seen.mix_us == pytest.approx(600)
    assert seen.other_us == pytest.approx(20)
    assert (seen.clients, seen.lanes) == (100, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": {"ticks": 1000, "missed": 20}},
        {"lost": 20},
        {"joined": 99},
        {"cpu_us": {}},
    ],
)
def test_probes_in_which_work_was_left_out_say_nothing_of_its_cost(
    changes: dict[str, object],
) -> None:
    assert observe(STEREO, [probe(**changes), replace(probe(), usable=False)]) == []


def test_bytes_on_the_wire_hold_all_that_surrounds_a_packet() -> None:
    one = traffic(STEREO)

    # 16 + 128 x 2 x 2 samples, UDP 8, IP 20, Ethernet 14 + 4, preamble 8, gap 12
    assert one.up_bytes == one.down_bytes == 528 + 8 + 20 + 38
    assert one.packets_s == one.frames_s == 375
    assert one.mbits == pytest.approx(375 * 594 * 8 / 1e6)
    assert traffic(STEREO, ip=6).up_bytes == 614


def test_long_packets_are_sent_in_fragments() -> None:
    one = traffic(Format(frames=256, bits=32))  # 2064 bytes

    assert one.frames_s == 2 * one.packets_s
    assert one.up_bytes == 2064 + 8 + 2 * (20 + 38)


def test_redundancy_multiplies_the_payload() -> None:
    assert traffic(replace(STEREO, redundancy=2)).up_bytes == 2 * 528 + 66


def test_one_core_carries_what_fits_into_its_period() -> None:
    model = model_of(FORMATS)

    there = predict(model, STEREO, 1, WIDE, FREE)

    period_us = STEREO.period_ns / 1000
    assert model.costs(STEREO, there.clients).total_us <= period_us
    assert model.costs(STEREO, there.clients + 1).total_us > period_us
    assert there.limit == "CPU"
    assert there.low == there.high == there.clients
    assert there.cpu_share == pytest.approx(1, abs=0.01)


def test_mixer_limits_where_there_are_many_cores_and_no_lanes() -> None:
    model = model_of(FORMATS)
    none = replace(FREE, cores_a_lane=1000)

    eight, sixteen = (predict(model, STEREO, cores, WIDE, none) for cores in (8, 16))

    assert eight.limit == sixteen.limit == "mixer"
    assert eight.clients == sixteen.clients
    assert eight.mixer_share == pytest.approx(1, abs=0.01)


def test_lanes_take_the_sending_off_the_mixer() -> None:
    model = model_of(FORMATS)

    without = predict(model, STEREO, 16, WIDE, replace(FREE, cores_a_lane=1000))
    with_lanes = predict(model, STEREO, 16, WIDE, FREE)

    assert with_lanes.lanes == 4
    assert with_lanes.clients > 2 * without.clients
    assert "transmit lanes were not measured" in with_lanes.warnings


@pytest.mark.parametrize(
    ("card", "assumptions", "limit"),
    [
        (Card(0.1, 1000), FREE, "bandwidth"),
        (Card(1000, 0.01), FREE, "packets"),
        (WIDE, replace(FREE, max_clients=5), "max-clients"),
        (WIDE, replace(FREE, memory_mib=100), "memory"),
    ],
)
def test_what_gives_out_first_is_named(card: Card, assumptions: Assumptions, limit: str) -> None:
    assert predict(model_of(FORMATS), STEREO, 8, card, assumptions).limit == limit


def test_headroom_throttle_and_speed_scale_the_cpu() -> None:
    model = model_of(FORMATS)
    period_us = STEREO.period_ns / 1000
    careful = replace(FREE, headroom=0.2, realtime_share=0.95, speed=2.0)

    there = predict(model, STEREO, 1, WIDE, careful)

    assert model.costs(STEREO, there.clients).total_us <= 2 * 0.95 * 0.8 * period_us
    assert model.costs(STEREO, there.clients + 1).total_us > 2 * 0.95 * 0.8 * period_us


def test_uncertain_fit_gives_a_range() -> None:
    there = predict(model_of(FORMATS, noise=3), STEREO, 1, WIDE, FREE)

    assert there.low < there.clients < there.high
    assert there.high - there.low < 0.3 * there.clients


def test_far_extrapolation_is_said() -> None:
    model = model_of([STEREO])

    near = predict(model, STEREO, 1, CARDS[0])
    far = predict(model, Format(frames=64, sends=1, wants=1), 16, CARDS[2])

    assert near.warnings == ()
    assert [text.split(":")[0] for text in far.warnings] == [
        "far extrapolated",
        "far extrapolated",
        "64 frames x 1 channels lie outside what was measured",
        "transmit lanes were not measured",
    ]


@settings(deadline=None, max_examples=25)
@given(cores=st.integers(1, 64), frames=st.sampled_from([64, 128, 256]))
def test_more_cores_never_carry_fewer(cores: int, frames: int) -> None:
    model = model_of(FORMATS)
    format_ = Format(frames=frames)

    fewer, more = (predict(model, format_, count, CARDS[1]) for count in (cores, cores + 1))

    assert fewer.clients <= more.clients


def test_table_has_every_combination() -> None:
    table = predictions(model_of(FORMATS), FORMATS[:2], [1, 4])

    assert [(one.format, one.cores, one.card) for one in table] == [
        (format_, cores, card) for format_ in FORMATS[:2] for cores in (1, 4) for card in CARDS
    ]


def test_assumptions_are_written_out() -> None:
    text = "\n".join(Assumptions().lines())

    for part in ("20%", "95%", "one transmit lane for every 4 cores", "1024 clients", "IPv4"):
        assert part in text


def test_line_reports_its_deviation() -> None:
    line = Line(("tick", "client"), np.array([1.0, 2.0]), np.diag([0.01, 0.04]), 0.1)

    us, deviation = line.at(np.array([1.0, 3.0]))

    assert us == pytest.approx(7.0)
    assert deviation == pytest.approx((0.01 + 9 * 0.04 + 0.49) ** 0.5)
    assert line.to_json()["coefficients_us"]["client"] == [2.0, 0.2]
