"""The jitter buffer on whole streams: what leaves the ring, when, and what is counted.

The kernels are driven at synthetic times (see ``streams``) and compared with their twin
(``timeline_twin``) and with what follows from the stream alone.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.workers.networks import (
    START_NS,
    Network,
    ended,
    formats,
    lossy,
    packets_for,
    quiet,
    stormy,
    through,
)
from tests.workers.streams import (
    DATAGRAM,
    Event,
    Format,
    noise,
    numbers,
    take,
    tone,
    tone_step,
)
from tests.workers.timeline_twin import FADE, SECOND
from tests.workers.verdicts import (
    FADE_STEP,
    assert_like_twin,
    loudest_step,
    slack_frames,
    steadily_counting,
    stream,
)
from workers.conceal import FADE_FRAMES
from workers.steer import WINDOW_NS as SKIP_WINDOW_NS

# ---- against the twin


@settings(max_examples=60)
@given(formats(), lossy)
def test_lossy_streams_like_twin(fmt: Format, network: Network) -> None:
    events = ended(through(network, fmt, packets_for(fmt, 12_000)), fmt)
    assert_like_twin(fmt, take(fmt, noise, events))


@settings(max_examples=250)
@given(formats(), stormy)
def test_stormy_streams_like_twin(fmt: Format, network: Network) -> None:
    events = ended(through(network, fmt, packets_for(fmt)), fmt)
    assert_like_twin(fmt, take(fmt, noise, events))


def drifting(events: list[Event], drift: float) -> list[Event]:
    """The same from a client whose clock is slow by so much (fast: below 0)."""
    return [
        event._replace(
            now_ns=int(event.now_ns * (1 + drift)), arrival_ns=int(event.arrival_ns * (1 + drift))
        )
        for event in events
    ]


@settings(max_examples=12)
@given(formats(max_channels=1, bits=(16,)), stormy, st.floats(-0.02, 0.02))
def test_long_streams_of_a_wrong_clock_like_twin(
    fmt: Format, network: Network, drift: float
) -> None:
    assume(fmt.frames >= 64)
    events = through(network, fmt, int(4.5 * fmt.rate_hz) // fmt.frames)
    assert_like_twin(fmt, take(fmt, noise, ended(drifting(events, drift), fmt)))


@pytest.mark.parametrize(
    "fmt",
    [
        Format(),
        Format(frames=64, period=128, queue=1),
        Format(frames=441, period=64, queue=2, channels=2),
        Format(frames=1024, period=480, bits=24, queue=8),
    ],
    ids=str,
)
@pytest.mark.parametrize("jitter", [0.0, 0.7])
def test_fast_clocks_like_twin(fmt: Format, jitter: float) -> None:
    """A client 1 % too fast: its queue is shortened again and again."""
    network = Network(seed=1, jitter_packets=jitter, loss=0.002)
    events = through(network, fmt, 8 * fmt.rate_hz // fmt.frames)
    taken = take(fmt, noise, ended(drifting(events, -0.01), fmt))
    assert taken.rx["overflows"] >= 1
    assert_like_twin(fmt, taken)


# ---- what follows from the stream alone


@settings(max_examples=30)
@given(formats(max_channels=16), quiet)
def test_quiet_stream_is_bit_exact(fmt: Format, network: Network) -> None:
    packets = packets_for(fmt, 12_000)
    taken = take(fmt, noise, through(network, fmt, packets))
    base, sent = int(taken.trace[0, 1]), stream(fmt, packets)

    assert np.all(taken.heard[:, :base] == 0)
    fade_in = taken.heard[:, base : base + FADE_FRAMES]
    np.testing.assert_array_equal(fade_in, sent[:, :FADE_FRAMES] * FADE)
    rest = taken.heard[:, base + FADE_FRAMES : base + sent.shape[1]]
    np.testing.assert_array_equal(rest, sent[:, FADE_FRAMES:])
    assert np.all(taken.trace[:, 1] == base)
    assert taken.counted("lost", "late", "duplicates", "reordered") == (0, 0, 0, 0)
    assert taken.counted("overflows", "restarts", "sanitised") == (0, 0, 0)


@given(formats(max_channels=1), st.integers(0, 5_000_000), st.integers(0, 500_000))
def test_latency_of_the_first_packet(fmt: Format, phase_ns: int, read_ns: int) -> None:
    """Wanted slack at least; beyond it a period and a packet at most."""
    arrival = START_NS + phase_ns
    event = Event(DATAGRAM, arrival + read_ns, arrival, ((0, 0),))
    taken = take(fmt, noise, [event])
    base = int(taken.trace[0, 1])
    wanted = (fmt.queue - 1) * fmt.frames
    slack = slack_frames(fmt, base, arrival)
    assert wanted <= slack <= wanted + fmt.period + fmt.frames + read_ns * fmt.rate_hz / SECOND
    assert base % gcd(fmt.frames, fmt.period) == 0


@given(formats(max_channels=1), quiet)
def test_no_packet_of_a_quiet_stream_has_less_than_the_wanted_slack(
    fmt: Format, network: Network
) -> None:
    """Whatever packet sizes and periods: the worst packet still has queue − 1 packets."""
    packets = packets_for(fmt)
    taken = take(fmt, noise, through(network, fmt, packets))
    base = int(taken.trace[0, 1])
    rounding = 2  # arrival and tick times are whole ns
    for k, event in enumerate(taken.events):
        slack = slack_frames(fmt, base + k * fmt.frames, event.arrival_ns)
        assert slack > (fmt.queue - 1) * fmt.frames - rounding


@given(formats(max_channels=2, bits=(16, 24)), lossy)
def test_what_came_in_time_is_heard_and_gaps_do_not_spread(fmt: Format, network: Network) -> None:
    network = Network(seed=network.seed, loss=network.loss, duplication=network.duplication)
    packets = packets_for(fmt)
    taken = take(fmt, noise, through(network, fmt, packets))
    base, sent = int(taken.trace[0, 1]), stream(fmt, packets)
    came = np.zeros(packets, bool)
    came[[k for e in taken.events if e.packets[0] for k in [e.packets[0][0]]]] = True

    there = np.repeat(came, fmt.frames)
    missing_before = np.concatenate([[0], np.cumsum(~there)])
    index = np.arange(len(there))
    # untouched: real, with no gap (nor the beginning) among the FADE_FRAMES frames before
    clean = there & (index >= FADE_FRAMES)
    clean &= missing_before[index] == missing_before[np.maximum(index - FADE_FRAMES, 0)]
    heard = taken.heard[:, base : base + len(there)]
    np.testing.assert_array_equal(heard[:, clean], sent[:, clean])
    assert taken.broken == 0


@settings(max_examples=150)
@given(formats(max_channels=1, bits=(24,)), stormy)
def test_order_is_kept_and_nothing_plays_twice(fmt: Format, network: Network) -> None:
    taken = take(fmt, numbers, through(network, fmt, packets_for(fmt)))
    assert np.all(np.diff(steadily_counting(taken)) > 0)
    assert taken.broken == 0


@settings(max_examples=150)
@given(formats(max_channels=2, bits=(16, 24)), stormy)
def test_gaps_do_not_click(fmt: Format, network: Network) -> None:
    """No step is bigger than the signal's own and three steps of the fade.

    In a cross-fade of a and b, each of them 1 at most and b itself a faded past:
    |Δ| ≤ step + FADE_STEP·|b| + FADE_STEP·|a − b| ≤ step + 3·FADE_STEP. Between sound that is
    there on both sides a gap, or a packet that comes into it, is a cross-fade of its own length,
    which in packets of less than 64 frames may be short.
    """
    network = replace(network, jitter_packets=0.0, stalls=0, redundancy=1)
    if fmt.frames < 64:  # a restart within a few frames of a loss leaves no room to fade
        network = replace(network, restarts=0)
    events = through(network, fmt, packets_for(fmt))
    assume(max(e.now_ns for e in events) < SKIP_WINDOW_NS)  # splices have a test of their own
    taken = take(fmt, tone, events)
    for channel in range(fmt.channels):
        seam = 3 * FADE_STEP + (1 / fmt.frames if fmt.frames < 64 else 0.0)
        assert loudest_step(taken, channel) <= tone_step(channel) + seam


@given(formats(max_channels=1), stormy)
def test_accounts_add_up(fmt: Format, network: Network) -> None:
    """Without restarts of anybody: each number sent is received once, or lost."""
    network = Network(
        seed=network.seed,
        loss=network.loss,
        duplication=network.duplication,
        jitter_packets=network.jitter_packets,
        stalls=network.stalls,
        stall_packets=network.stall_packets,
        first=network.first,
    )
    events = through(network, fmt, packets_for(fmt))
    taken = take(fmt, noise, ended(events, fmt))

    order = [part[0] for event in events for part in event.packets if part is not None]
    first, newest = order[0], order[0]
    fresh: set[int] = set()
    copies = reordered = 0
    for number in order:
        if number in fresh:
            copies += 1
            continue
        reordered += number < newest
        newest = max(newest, number)
        fresh.add(number)
    expected = {
        "datagrams": len(events),
        "packets": len(fresh),
        "duplicates": copies,
        "reordered": reordered,
        "lost": newest - first + 1 - len([n for n in fresh if n >= first]),
        "malformed": 0,
        "foreign": 0,
    }
    assert {name: taken.rx[name] for name in expected} == expected
