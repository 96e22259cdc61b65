"""Steering on whole streams: pace and delay of a client whose clock or network is its own.

Synthetic minutes (see ``flows``). What is heard of ``numbers`` tells which of the client's
samples it is; a tone tells what was done to it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import DriftMode, Underrun
from tests.workers.arenas import GUARD_NS
from tests.workers.flows import Doubles, column, delay, flow, jitter, sent, slack
from tests.workers.networks import (
    Network,
    ended,
    formats,
    packets_for,
    stormy,
    through,
)
from tests.workers.streams import Format, Samples, Take, numbers, take
from tests.workers.verdicts import steadily_counting
from workers.filters import LOOKAHEAD
from workers.playout import COPYING, FOLLOWING, GLIDING
from workers.steer import AUTO_LIMIT_MS
from workers.timeline import LATE_RUN

pytestmark = pytest.mark.timeout(400)  # the first one may have to compile the receiver

RATE = 48000
MS = 1e6
FAULTS = ("late", "underruns", "overflows", "restarts")
PITCH = 2 * np.pi * 997 / RATE
LAST = 4
"""Packets at the end of a stream after which nothing comes, so that they say nothing."""

AUTO = Format(queue=0, bits=32, drift=DriftMode.AUTO, underrun=Underrun.BURG)


def sine(index: npt.NDArray[np.int64], channel: int) -> Doubles:
    x: Doubles = 0.5 * np.sin(PITCH * index + channel)
    return x


def since(taken: Take, fmt: Format, second: float) -> slice:
    """The events from a second on, but for the very last."""
    per_packet = fmt.frames / fmt.client_hz
    return slice(int(second / per_packet), len(taken.course) - LAST)


def faults(taken: Take, part: slice) -> dict[str, int]:
    """How often each fault happened in that part."""
    return {name: int(np.ptp(column(taken, name)[part])) for name in FAULTS}


def error(fmt: Format, taken: Take) -> Doubles:
    """Frames by which a packet that is followed has more to spare than is wanted."""
    lookahead = float(taken.rx["lookahead"]) * fmt.rate_hz / fmt.client_hz
    wanted = column(taken, "margin") + fmt.period + lookahead
    return slack(fmt, taken) - wanted


def residue_db(x: Doubles, pitch: float) -> float:
    """What is no sine of about this pitch, against it; slow changes of pitch are no residue."""
    window = RATE // 10
    t = np.linspace(-1, 1, window)
    powers = np.stack([t**n for n in range(4)])
    phase = pitch * np.arange(window)
    basis = np.concatenate([powers * np.cos(phase), powers * np.sin(phase), powers[:1]]).T
    worst = 0.0
    for at in range(0, len(x) - window, window):
        part = x[at : at + window]
        rest = part - basis @ np.linalg.lstsq(basis, part, rcond=None)[0]
        worst = max(worst, float(np.sum(rest**2) / np.sum(part**2)))
    return float(10 * np.log10(worst))


def roughness(x: Samples, pitch: float) -> float:
    """The greatest deviation from what a sine of this pitch goes on with after two samples."""
    y = x.astype(np.float64)
    return float(np.max(np.abs(y[2:] + y[:-2] - 2 * np.cos(pitch) * y[1:-1])))


def bend(change: float) -> float:
    """Of ``sine``, where its pace changes by so much at once; and -100 dB."""
    return 0.5 * PITCH * change + 1e-5


# ---- clocks


@pytest.mark.parametrize("queue", [1, 2, 4, 8, 0])
@pytest.mark.parametrize("ppm", [-300, -208, -50, 50, 208, 300])
def test_a_drifting_client_is_followed(queue: int, ppm: float) -> None:
    fmt = replace(AUTO, queue=queue)
    at = sent(fmt, 60, ppm)
    taken = flow(fmt, numbers, at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    locked = since(taken, fmt, 16 if queue == 1 else 8)
    assert np.all(column(taken, "resampling")[locked] == FOLLOWING)
    assert faults(taken, locked) == dict.fromkeys(FAULTS, 0)
    assert np.max(np.abs(error(fmt, taken)[locked])) < fmt.period
    assert np.max(np.abs(error(fmt, taken)[since(taken, fmt, 40)])) < 8
    assert np.ptp(delay(taken, ppm)[-20 * RATE : -RATE]) < 8
    assert taken.rx["engaged"] == 1
    assert taken.broken == 0


@pytest.mark.parametrize(
    ("frames", "period"), [(64, 64), (64, 128), (128, 64), (441, 128), (256, 64)]
)
@pytest.mark.parametrize("queue", [2, 0])
def test_whatever_the_sizes(frames: int, period: int, queue: int) -> None:
    fmt = replace(AUTO, frames=frames, period=period, queue=queue)
    at = sent(fmt, 40, -208)
    taken = flow(fmt, numbers, at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    locked = since(taken, fmt, 10)
    assert np.all(column(taken, "resampling")[locked] == FOLLOWING)
    assert faults(taken, locked) == dict.fromkeys(FAULTS, 0)
    assert np.max(np.abs(error(fmt, taken)[locked])) < 64


@pytest.mark.parametrize("ppm", [-300, 50, 208])
def test_a_followed_sine_is_a_sine(ppm: float) -> None:
    fmt = replace(AUTO, queue=4)
    at = sent(fmt, 40, ppm)
    taken = flow(fmt, sine, at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    heard = taken.heard[0, RATE // 10 : -RATE]
    assert residue_db(heard[15 * RATE :].astype(np.float64), PITCH * (1 + ppm * 1e-6)) < -90
    # the moment of engaging is in it, too
    assert roughness(heard, PITCH) < bend(800e-6)


def test_resampled_from_the_first_packet_on() -> None:
    fmt = replace(AUTO, queue=2, drift=DriftMode.ON)
    at = sent(fmt, 40)
    taken = flow(fmt, sine, at + np.minimum(jitter(len(at), 0.05), 0.2 * MS))
    part = since(taken, fmt, 0)
    assert np.all(column(taken, "resampling")[part] == FOLLOWING)
    assert faults(taken, part) == dict.fromkeys(FAULTS, 0)
    assert residue_db(taken.heard[0, 15 * RATE : -RATE].astype(np.float64), PITCH) < -110


# ---- networks


def bursts(count: int, seed: int = 3) -> Doubles:
    """Wi-Fi: bursts of Pareto-distributed delays of 0.1 to 3 ms, ns."""
    rng = np.random.default_rng(seed)
    long = np.minimum(0.1 * (1 + rng.pareto(1.5, count)), 3.0)
    return np.where(np.arange(count) // 200 % 3 == 0, long, rng.exponential(0.05, count)) * MS


@pytest.mark.parametrize("queue", [4, 0])
@pytest.mark.parametrize("drift", [DriftMode.AUTO, DriftMode.OFF])
def test_a_client_without_drift_is_copied(queue: int, drift: DriftMode) -> None:
    fmt = replace(AUTO, queue=queue, drift=drift)
    at = sent(fmt, 60)
    taken = flow(fmt, numbers, at + bursts(len(at)))
    assert taken.rx["engaged"] == 0
    assert taken.rx["resampling"] == COPYING
    assert faults(taken, since(taken, fmt, 0)) == dict.fromkeys(FAULTS, 0)
    assert np.all(np.diff(delay(taken)[RATE // 10 : -RATE]) == 0)


def test_an_automatic_queue_shrinks_by_glides_that_nobody_hears() -> None:
    """A client that seemed to need 10 ms more for the first seconds, at two packet sizes."""
    for frames in (64, 128):
        fmt = replace(AUTO, frames=frames)
        at = sent(fmt, 50)
        came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS) + 10 * MS
        came[at > 12e9] -= 10 * MS
        taken = flow(fmt, numbers, came)
        tone = flow(fmt, sine, came)
        part = since(taken, fmt, 0)
        assert faults(taken, part) == dict.fromkeys(FAULTS, 0)
        gliding = column(taken, "resampling")[part]
        assert set(gliding.tolist()) == {COPYING, GLIDING}
        assert gliding[-1] == COPYING
        # a whole period beyond what the tick asks for, at most, and a margin near nothing
        least = slack(fmt, taken)[part][-1]
        assert least < 16 + fmt.period + 0.5 * RATE / 1000
        behind = delay(taken)[RATE // 10 : -RATE]
        assert np.all(behind[-2 * RATE :] == behind[-1])
        assert behind[-1] == np.floor(behind[-1])
        assert roughness(tone.heard[0, RATE // 10 : -RATE], PITCH) < bend(500e-6)


@pytest.mark.parametrize("drift", [DriftMode.AUTO, DriftMode.OFF])
def test_a_longer_path_costs_one_gap_and_a_shorter_one_nothing_lasting(drift: DriftMode) -> None:
    fmt = replace(AUTO, drift=drift)
    at = sent(fmt, 90)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    came[(at > 20e9) & (at < 50e9)] += 10 * MS
    taken = flow(fmt, numbers, np.maximum.accumulate(came))
    step, back = since(taken, fmt, 19.9).start, since(taken, fmt, 49).start
    assert np.ptp(column(taken, "late")[step:back]) <= 10
    assert np.ptp(column(taken, "underruns")[step:back]) <= 3
    assert faults(taken, since(taken, fmt, 80)) == dict.fromkeys(FAULTS, 0)
    before, after = slack(fmt, taken)[step - 400], slack(fmt, taken)[-LAST]
    assert abs(after - before) <= fmt.period + 16
    overflows = column(taken, "overflows")[-LAST]
    assert (overflows > 0) == (drift == DriftMode.OFF)


def test_stalls_leave_no_latency() -> None:
    """Of 40 ms, from which the queue learns for a while, and of 2 s, from which it does not."""
    fmt = AUTO
    at = sent(fmt, 110)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    for second, length in ((10.0, 0.04), (30.0, 2.0)):
        held = slice(int(second * RATE / 128), int((second + length) * RATE / 128))
        came[held] = at[held.stop] + np.arange(held.stop - held.start) * 1e4
    taken = flow(fmt, numbers, np.maximum.accumulate(came))
    assert faults(taken, since(taken, fmt, 40)) == dict.fromkeys(FAULTS, 0)
    assert slack(fmt, taken)[-LAST] < fmt.period + 0.5 * RATE / 1000 + 16
    assert column(taken, "margin").max() <= 0.04 * RATE * 1.1
    assert np.ptp(column(taken, "grown")) <= 0.04 * RATE + fmt.period


def spare(fmt: Format, taken: Take, came: Doubles) -> Doubles:
    """Frames that each packet had to spare beyond the margin; all came, none overtook another."""
    placed = np.diff(column(taken, "highest"), prepend=-1) > 0  # an order is an event, too
    due = column(taken, "played")[placed] - (came + GUARD_NS) * fmt.rate_hz / 1e9
    margin: Doubles = due - column(taken, "margin")[placed]
    return margin


@pytest.mark.parametrize("stall_ms", [50, 200, 2000])
@pytest.mark.parametrize("queue", [4, 8, 0])
def test_a_followed_client_that_stalls_keeps_its_queue(queue: int, stall_ms: int) -> None:
    """Its sound card stops, and goes on with continuous numbers at its own pace."""
    fmt = replace(AUTO, queue=queue)
    at = sent(fmt, 34, 50)
    came = at + np.minimum(jitter(len(at), 0.05), 0.2 * MS)
    stalled = int(30 * RATE / fmt.frames)
    came[stalled:] += stall_ms * MS
    taken = flow(fmt, numbers, came)
    assert column(taken, "resampling")[stalled] == FOLLOWING
    assert taken.counted("restarts", "overflows") == (0 if (queue, stall_ms) == (0, 50) else 1, 0)
    seen = faults(taken, slice(stalled - 1, len(came) - LAST))
    assert seen["late"] <= LATE_RUN + (queue == 0)
    assert seen["underruns"] <= 2
    assert faults(taken, slice(stalled + 10, len(came) - LAST)) == dict.fromkeys(FAULTS, 0)
    # an automatic queue that grew by that learns within a second what it was
    known = stalled + (10 if queue else 3 * RATE // 2 // fmt.frames)
    left = spare(fmt, taken, came)[known:-LAST] - LOOKAHEAD
    assert left.min() > -24 - 0.2 * RATE / 1000
    assert left[RATE // fmt.frames :].max() < 2 * fmt.period


def test_few_packets_are_late_under_bursts() -> None:
    fmt = AUTO
    at = sent(fmt, 160)
    rng = np.random.default_rng(5)
    came = at + np.minimum(0.1 * (1 + rng.pareto(2.0, len(at))), 60.0) * MS
    taken = flow(fmt, numbers, np.maximum.accumulate(came))
    learnt = since(taken, fmt, 20)
    count = learnt.stop - learnt.start
    assert np.ptp(column(taken, "late")[learnt]) <= count / 2000
    assert np.max(column(taken, "margin")) <= 60.0 * RATE / 1000 * 1.1


# ---- orders


@pytest.mark.parametrize("drift", [DriftMode.AUTO, DriftMode.OFF])
@pytest.mark.parametrize("queues", [(2, 6, 2), (2, 0, 4), (6, 0, 2)])
def test_another_queue_is_obeyed(drift: DriftMode, queues: tuple[int, int, int]) -> None:
    fmt = replace(AUTO, queue=queues[0], drift=drift)
    at = sent(fmt, 85)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    taken = flow(fmt, numbers, came, {10.0: queues[1], 45.0: queues[2]})
    spare = slack(fmt, taken) - column(taken, "margin")
    for second in (9, 44, 83):
        k = since(taken, fmt, second).start
        assert column(taken, "resampling")[k] == COPYING
        assert 0 <= spare[k] < fmt.period + 32
    seen = faults(taken, since(taken, fmt, 0))
    assert seen["late"] == seen["restarts"] == 0
    assert np.ptp(column(taken, "glided")) > 0 or drift == DriftMode.OFF
    if drift == DriftMode.AUTO:
        assert seen == dict.fromkeys(FAULTS, 0)


@pytest.mark.parametrize("ppm", [0, -208])
@pytest.mark.parametrize(("frames", "more"), [(128, 15), (1024, 2)])
def test_a_much_longer_queue_is_there_at_once(frames: int, more: int, ppm: float) -> None:
    """More than a glide would add in 41 seconds: one gap, whose sound is made up."""
    fmt = replace(AUTO, queue=2, frames=frames)
    at = sent(fmt, 34, ppm)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    taken = flow(fmt, numbers, came, {30.0: 2 + more})
    ordered = since(taken, fmt, 30).start
    assert (column(taken, "resampling")[ordered] == FOLLOWING) == (ppm != 0)
    seen = faults(taken, slice(ordered - 1, len(at)))
    assert seen == {"late": 0, "underruns": 1, "overflows": 0, "restarts": 0}
    assert abs(taken.rx["grown_frames"] - more * frames) < 24 + 0.1 * RATE / 1000
    left = spare(fmt, taken, came)[ordered + 4 : -LAST]
    assert left.min() > -24 - 0.1 * RATE / 1000


@pytest.mark.parametrize("ppm", [0, -208])
def test_a_gap_gives_a_longer_queue_all_that_it_lacks(ppm: float) -> None:
    """What is being added in 22 seconds is there as soon as a packet is late nevertheless."""
    fmt = replace(AUTO, queue=2)
    at = sent(fmt, 34, ppm)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    late = int(31 * RATE / fmt.frames)
    came[late] += 12 * MS
    came[late : late + 5] = np.maximum.accumulate(came[late : late + 5])
    taken = flow(fmt, numbers, came, {30.0: 6})
    seen = faults(taken, slice(late - 1, len(at)))
    assert 1 <= seen["late"] <= 4
    assert seen["underruns"] <= 2
    assert seen["overflows"] == seen["restarts"] == 0
    left = slack(fmt, taken)[late + 6 : -LAST] - column(taken, "margin")[late + 6 : -LAST]
    assert left.min() > -24 - 0.1 * RATE / 1000
    assert left.max() < 2 * fmt.period + 32


@pytest.mark.parametrize("drift", [DriftMode.AUTO, DriftMode.OFF])
def test_a_longer_queue_is_not_added_twice(drift: DriftMode) -> None:
    """It is ordered as the client stalls: the timeline that is set anew has it already."""
    fmt = replace(AUTO, queue=2, drift=drift)
    at = sent(fmt, 14)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    stalled = int(10 * RATE / fmt.frames)
    came[stalled:] += 50 * MS
    taken = flow(fmt, numbers, came, {10.04: 8})
    assert taken.counted("restarts", "overflows") == (1, 0)
    assert column(taken, "margin")[-LAST] == 7 * 128
    left = spare(fmt, taken, came)[stalled + 10 : -LAST]
    assert left.min() > -0.1 * RATE / 1000
    assert left.max() < 2 * fmt.period


@pytest.mark.parametrize("drift", [DriftMode.AUTO, DriftMode.OFF])
@pytest.mark.parametrize("queue", [64, 0])
def test_a_queue_may_become_longer_than_the_ring_was_at_first(drift: DriftMode, queue: int) -> None:
    fmt = replace(AUTO, queue=2, headroom_ns=240_000_000, drift=drift)
    at = sent(fmt, 12)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    taken = flow(fmt, numbers, came, {5.0: queue, 9.0: 2})
    wanted = column(taken, "margin")[since(taken, fmt, 8).start]
    if queue:
        assert wanted == 63 * 128
    else:
        assert 0.24 * RATE < wanted <= 0.25 * RATE
    seen = faults(taken, since(taken, fmt, 0))
    assert seen["late"] == seen["restarts"] == 0
    assert seen["underruns"] == 1
    behind = delay(taken)
    least = GUARD_NS * RATE / 1e9
    assert np.all(behind[7 * RATE : 8 * RATE] == behind[7 * RATE])
    assert least + wanted <= behind[7 * RATE] < least + wanted + 4 * fmt.period
    assert np.all(behind[11 * RATE : -RATE // 2] == behind[11 * RATE])
    assert behind[11 * RATE] < least + 6 * fmt.period
    assert np.all(np.diff(steadily_counting(taken)) > 0)
    assert taken.broken == 0


def test_a_glide_that_an_overflow_ends_leaves_no_fraction() -> None:
    fmt = replace(AUTO, queue=2)
    at = sent(fmt, 16)
    came = at + np.minimum(jitter(len(at), 0.02), 0.1 * MS)
    early = int(8 * RATE / fmt.frames)
    came[early:] = np.maximum(came[early:] - 200 * MS, came[early])
    taken = flow(fmt, numbers, came, {5.0: 6})
    assert np.all(column(taken, "resampling")[early - 400 : early] == GLIDING)
    assert taken.rx["overflows"] >= 1
    assert taken.counted("resampling", "read_phase", "step") == (COPYING, 0, 0)
    left = (slack(fmt, taken) - column(taken, "margin"))[-LAST]
    assert -16 < left < 2 * fmt.period + fmt.frames


def test_silence_for_gaps_is_silence_while_resampled() -> None:
    """Whatever the phase: no prediction stands in for a packet that never comes."""
    fmt = replace(AUTO, frames=512, queue=3, drift=DriftMode.ON, underrun=Underrun.ZERO)
    at = sent(fmt, 20, 300)
    came = at + 0.0
    lost = np.arange(40, len(at) - 20, 12)
    came[lost] = np.nan
    taken = flow(fmt, lambda index, channel: np.full(len(index), 0.5), came)
    heard = taken.heard[0, (40 * 512) : -RATE // 2]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], heard == 0, [0]])))
    lengths = edges[1::2] - edges[::2]
    assert len(lengths) >= len(lost) - 4
    assert lengths.min() > 200


# ---- anything


@settings(max_examples=60)
@given(
    formats(bits=(32,), max_channels=2),
    stormy,
    st.sampled_from([0, 0, 0, 1, 3]),
    st.sampled_from(list(DriftMode)),
    st.sampled_from(list(Underrun)),
    st.floats(-0.0005, 0.0005),
)
def test_storms_break_nothing(
    fmt: Format, network: Network, queue: int, drift: DriftMode, underrun: Underrun, ratio: float
) -> None:
    fmt = replace(fmt, queue=queue, drift=drift, underrun=underrun)
    events = ended(through(network, fmt, packets_for(fmt)), fmt)
    events = [
        e._replace(now_ns=int(e.now_ns * (1 + ratio)), arrival_ns=int(e.arrival_ns * (1 + ratio)))
        for e in events
    ]
    taken = take(fmt, numbers, events)
    assert taken.broken == 0
    assert np.all(np.isfinite(taken.heard))
    assert np.max(np.abs(taken.heard)) < 4
    margin = column(taken, "margin")
    assert margin.min() >= 0
    if queue == 0:
        assert margin.max() <= AUTO_LIMIT_MS * fmt.rate_hz / 1000 + 1
    if drift == DriftMode.OFF and underrun == Underrun.ZERO and network.restarts == 0:
        assert np.all(np.diff(steadily_counting(taken)) > 0)
