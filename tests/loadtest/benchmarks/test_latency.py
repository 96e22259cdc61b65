"""The way of a sample is put together rightly, and the page shows what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtest.benchmarks import latencypage, record
from loadtest.benchmarks.latency import merged
from loadtest.benchmarks.record import Latency, LatencyRow, LatencyTake
from loadtest.benchmarks.stages import Signal, as_integers, containers, usual, ways
from tests.loadtest.benchmarks.rows import PROVENANCE

FRAMES, RATE_HZ = 128, 48000
PERIOD_NS = FRAMES * 1_000_000_000 // RATE_HZ
PICTURE_BYTES = 150 * 1024


def take(buffer_ms: float, client_ms: float) -> LatencyTake:
    stages = {
        "sender": 0.1, "up": 0.01, "buffer": buffer_ms, "tick": 0.05, "down": 0.01,
        "client": client_ms,
    }  # fmt: skip
    total = sum(stages.values())
    return LatencyTake(stages, total, total + 1, buffer_ms + 0.05, buffer_ms + 0.2, 0.998, 0)


def latency(*rows: LatencyRow) -> Latency:
    return Latency(PROVENANCE, {"takes": 2, "seconds": 4.0}, list(rows))


def test_samples_are_found_on_the_wire_and_in_a_recording() -> None:
    signal = Signal(10_000, seed=4)
    # as JackTrip encodes, and decodes
    wire = np.rint(signal.played.astype(np.float64) * 32767).astype(np.int16)
    heard = as_integers((wire / 32768).astype(np.float32))

    assert (wire == signal.integers).all()
    assert (heard == signal.integers).all()
    assert signal.find(wire[[[7, 8, 9, 10], [300, 301, 302, 303]]]).tolist() == [7, 300]
    assert signal.find(np.array([[0, 0, 0, 0]], np.int16)).tolist() == [-1]


def test_resampled_sound_is_found_to_the_nearest_sample() -> None:
    signal = Signal(20_000, seed=5)
    spectrum = np.fft.rfft(signal.integers.astype(np.float64))
    turn = np.exp(2j * np.pi * 0.4 * np.arange(len(spectrum)) / 20_000)
    between = np.rint(np.fft.irfft(spectrum * turn)).astype(np.int16)
    blocks = np.stack([between[900:964], between[12_000:12_064], np.full(64, 99, np.int16)])

    assert signal.find(np.ascontiguousarray(blocks[:, :4])).tolist() == [-1, -1, -1]
    assert signal.near(blocks, np.array([1000, 15_000, 9000])).tolist() == [900, 12_000, -1]


def test_stages_of_aligned_containers_are_differences_of_their_times() -> None:
    firsts = FRAMES * np.arange(50)
    delays_us = np.cumsum([0, 100, 20, 4000, 10, 2500])
    points = [containers(firsts, firsts // FRAMES * PERIOD_NS + 1000 * d) for d in delays_us]

    found = ways(points, FRAMES, RATE_HZ)

    assert found.shape == (50, 5)
    assert np.allclose(found, [0.1, 0.02, 4.0, 0.01, 2.5])
    assert np.allclose(usual(found), [0.1, 0.02, 4.0, 0.01, 2.5])


def test_a_sample_within_a_container_comes_as_much_later() -> None:
    """The hub's packets begin half a packet off: that is no latency in itself."""
    played = FRAMES * np.arange(50)
    off = played[1:] - FRAMES // 2
    times = played // FRAMES * PERIOD_NS
    points = [containers(played, times)] * 3 + [containers(off, times[1:])] * 2
    points += [containers(played[2:], times[2:] + PERIOD_NS)]

    found = ways(points, FRAMES, RATE_HZ)

    # Half a period at the hub, whose datagram waits for its second half, and one at the client.
    assert np.allclose(found[:, :2], 0)
    assert np.allclose(found.sum(axis=1), PERIOD_NS / 1e6)
    assert np.allclose(found[:, 2], PERIOD_NS / 2e6, atol=1e-5)


def test_what_was_lost_on_the_way_has_no_stages() -> None:
    firsts = FRAMES * np.arange(50)
    whole = containers(firsts, firsts)
    gap = containers(np.delete(firsts, 20), np.delete(firsts, 20))

    assert len(ways([whole, whole, whole, gap, gap, whole], FRAMES, RATE_HZ)) == 49


def test_places_unknown_are_left_out_and_the_first_of_two_counts() -> None:
    found = containers([256, -1, 0, 256], [50, 1, 9, 40])
    assert found.firsts.tolist() == [0, 256]
    assert found.times_ns.tolist() == [9, 40]


def test_record_is_read_back(tmp_path: Path) -> None:
    wanted = latency(LatencyRow("tuttihub", "tuttihub 1", 128, "auto", [take(2.0, 3.0)], ["no"]))
    record.write(wanted, tmp_path / "latency-2031-02-03.json")
    assert record.newest(Latency, tmp_path) == wanted


def test_rows_measured_later_take_the_place_of_the_same_configuration() -> None:
    old = latency(
        LatencyRow("jacktrip", "", 64, "auto", [take(1.0, 1.0)]),
        LatencyRow("jacktrip", "", 64, "2", [take(2.0, 1.0)]),
    )
    new = latency(
        LatencyRow("jacktrip", "", 64, "2", [take(3.0, 1.0)]),
        LatencyRow("tuttihub", "", 64, "2", [take(4.0, 1.0)]),
    )
    rows = merged(old, new).rows
    found = [(row.hub, row.queue, row.takes[0].stages_ms["buffer"]) for row in rows]
    assert found == [("tuttihub", "2", 4.0), ("jacktrip", "2", 3.0), ("jacktrip", "auto", 1.0)]


def test_page_shows_the_newest_result_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.latencypage"""
    assert latencypage.PAGE.read_text() == latencypage.rendered()


def test_table_has_stages_and_their_sum() -> None:
    text = latencypage.content(
        latency(
            LatencyRow("tuttihub", "", 128, "2", [take(4.0, 2.0), take(4.2, 3.0)]),
            LatencyRow("jacktrip", "", 128, "2", [], ["jackd did not answer"]),
        )
    )
    lines = [line for line in text.splitlines() if line.startswith("| 128")]

    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "128", "2", "tuttihub", "0.10", "4.10", "0.05", "2.50", "**6.8**", "6.2 to 7.4", "12.1",
        "4.15 / 4.30", "99.8 %",
    ]  # fmt: skip
    assert len(lines) == 1


def test_budgets_are_said_to_hold_or_not() -> None:
    text = latencypage.content(
        latency(
            LatencyRow("tuttihub", "", 64, "2", [take(9.0, 2.0)]),
            LatencyRow("tuttihub", "", 128, "2", [take(4.0, 2.0)]),
            LatencyRow("jacktrip", "", 128, "2", [take(7.0, 2.0)]),
            LatencyRow("tuttihub", "", 128, "auto", [take(5.0, 2.0)]),
        )
    )

    assert text.splitlines()[-1].endswith(
        "at most 6.0 ms at `-q 2`: 4.05, held; 4.5 ms at `-q auto`: 5.05, **not held**."
    )


@pytest.mark.parametrize(
    ("buffers_ms", "words"),
    [
        ((2.0, 3.0, 4.0), "3.05 (2.05, 3.05, 4.05), held."),
        ((2.25, 5.35), "3.85 (2.30, 5.40), held in the median, **not in 1 of 2 takes**."),
        ((4.0, 5.0, 6.0), "5.05 (4.05, 5.05, 6.05), **not held**."),
    ],
)
def test_a_budget_that_one_take_exceeds_is_not_said_to_hold_in_each(
    buffers_ms: tuple[float, ...], words: str
) -> None:
    takes = [take(each, 2.0) for each in buffers_ms]
    text = latencypage.content(latency(LatencyRow("tuttihub", "", 128, "auto", takes)))
    assert text.splitlines()[-1].endswith(f"`-q auto`: {words}")
    assert f"{len(takes)} takes of 4 s each" in text


def test_takes_are_counted() -> None:
    once, thrice = ([take(4.0, 2.0)] * count for count in (1, 3))
    rows = [LatencyRow("tuttihub", "", 64, queue, once) for queue in "12"]
    assert ": one channel" in (text := latencypage.content(latency(*rows)))
    assert "1 take of 4 s each" in text
    rows.append(LatencyRow("tuttihub", "", 64, "4", thrice))
    assert "1 or 3 takes of 4 s each" in latencypage.content(latency(*rows))


def test_picture_is_drawn_and_small(tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "latency.png"
    rows = [
        LatencyRow(hub, "", frames, queue, [take(4.0, 2.0)])
        for frames in (64, 128)
        for queue in ("1", "2", "4", "auto")
        for hub in ("tuttihub", "jacktrip")
    ]
    latencypage.picture(rows, path)
    assert 10_000 < path.stat().st_size < PICTURE_BYTES


def test_page_has_its_picture() -> None:
    if "pictures/latency.png" not in latencypage.PAGE.read_text():
        pytest.skip("latency has not been measured")
    assert latencypage.PICTURE.stat().st_size < PICTURE_BYTES
