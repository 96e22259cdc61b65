"""The jitter buffer when one thing happens to a stream: lateness, bursts, restarts, overflow."""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.layout import Underrun
from tests.workers.arenas import GUARD_NS, arena_of, sending
from tests.workers.networks import (
    ended,
    formats,
    packets_for,
)
from tests.workers.streams import (
    DATAGRAM,
    HELD,
    RESUME,
    Event,
    Format,
    model_orders,
    noise,
    numbers,
    plain,
    take,
    tone,
    tone_step,
)
from tests.workers.verdicts import (
    FADE_STEP,
    assert_like_twin,
    loudest_step,
    slack_frames,
    steadily_counting,
    stream,
)
from workers.conceal import FADE_FRAMES, SPARE_NS
from workers.numbering import (
    ACCOUNT_PACKETS,
    MAX_JUMP,
    NEVER,
    ODD_RUN,
    SEEN_PACKETS,
    resume,
)
from workers.room import obey_queue, size_ring
from workers.timeline import LATE_RUN

# ---- one thing at a time


def delayed(events: list[Event], first: int, by_ns: int, last: int | None = None) -> list[Event]:
    """Events first..last arrive later (or earlier), still in order of time."""
    moved = [
        e._replace(now_ns=e.now_ns + by_ns, arrival_ns=e.arrival_ns + by_ns)
        if k >= first and (last is None or k < last)
        else e
        for k, e in enumerate(events)
    ]
    return sorted(moved, key=lambda e: e.now_ns)


@given(formats(max_channels=1), st.integers(50, 400))
def test_lasting_lateness_sets_the_timeline_anew(fmt: Format, late_ms: int) -> None:
    packets = packets_for(fmt, 60_000)
    events = delayed(plain(fmt, packets), 20, late_ms * 1_000_000)
    late_frames = late_ms * fmt.rate_hz // 1000
    assume(late_frames > (fmt.queue + 1) * fmt.frames + 2 * fmt.period)
    taken = take(fmt, noise, events)
    assert taken.rx["restarts"] == 1
    assert taken.rx["late"] == LATE_RUN
    assert taken.rx["lost"] == 0
    # from the packet that moved it on, all is heard, with the wanted slack
    again = 20 + LATE_RUN - 1
    base, number = int(taken.trace[-1, 1]), int(taken.trace[-1, 2])
    assert number == again
    wanted = (fmt.queue - 1) * fmt.frames
    slack = slack_frames(fmt, base, events[again].arrival_ns)
    assert wanted <= slack <= wanted + fmt.period + fmt.frames
    sent = stream(fmt, packets)[:, again * fmt.frames :]
    heard = taken.heard[:, base : base + sent.shape[1]]
    np.testing.assert_array_equal(heard[:, FADE_FRAMES:], sent[:, FADE_FRAMES:])


@given(formats(max_channels=1), st.floats(0.5, 2.0))
def test_what_comes_while_a_receiver_is_held_up_is_not_missing(fmt: Format, share: float) -> None:
    """Between reading and concealing others may go first: what falls due meanwhile may have come,
    too. Nothing is put in its place, and what the mixer has not taken yet is heard."""
    events = plain(fmt, packets_for(fmt, 20_000))
    undisturbed = take(fmt, noise, events)
    began = events[20].now_ns + 1
    until = began + int(share * (fmt.ns(fmt.queue * fmt.frames) + fmt.ns(fmt.period)))
    events = [e._replace(now_ns=until) if began < e.now_ns < until else e for e in events]
    taken = take(fmt, noise, sorted([*events, Event(HELD, began, until)], key=lambda e: e.now_ns))
    counted = "underruns", "late", "concealed_frames"
    assert taken.counted(*counted) == undisturbed.counted(*counted)
    there = np.repeat(taken.got, fmt.period)
    np.testing.assert_array_equal(taken.heard[:, there], undisturbed.heard[:, there])


@given(formats(max_channels=1), st.integers(3, 60), st.sampled_from([0.0, 0.1, 0.4]))
def test_burst_after_a_stall_does_not_move_the_timeline(
    fmt: Format, held: int, pace: float
) -> None:
    """A burst arrives faster than real time and catches up by itself."""
    packets = 40 + 2 * held + 40
    events = plain(fmt, packets)
    end_ns = events[30 + held].now_ns
    for k in range(30, packets):
        burst_ns = end_ns + int((k - 30) * pace * fmt.ns(fmt.frames)) + (k - 30)
        at = max(burst_ns, events[k].now_ns)
        events[k] = events[k]._replace(now_ns=at, arrival_ns=at)
    taken = take(fmt, noise, events)
    assert taken.rx["restarts"] == 0
    assert taken.rx["overflows"] == 0
    assert np.all(taken.trace[:, 1] == taken.trace[0, 1])
    assert taken.rx["lost"] == 0
    # after the burst everything is as if nothing had been
    base, sent = int(taken.trace[0, 1]), stream(fmt, packets)
    tail = sent.shape[1] - 20 * fmt.frames
    after = max(tail, 0) + FADE_FRAMES
    heard = taken.heard[:, base + after : base + sent.shape[1]]
    np.testing.assert_array_equal(heard, sent[:, after:])


@settings(max_examples=25)
@given(formats(max_channels=1, bits=(16,)), st.integers(5, 40))
def test_queue_that_is_too_long_is_shortened_once_without_a_click(
    fmt: Format, sooner_ms: int
) -> None:
    """The network becomes faster for good: the surplus is spliced out within two windows."""
    assume(fmt.frames >= 64)
    sooner = sooner_ms * fmt.rate_hz // 1000
    assume(sooner > 2 * (fmt.period + fmt.frames))
    assume(sooner < 2048)
    packets = int(5.5 * fmt.rate_hz) // fmt.frames
    events = plain(fmt, packets, start_ns=100_000_000)
    change = 60
    events = delayed(events, change, -sooner_ms * 1_000_000)
    taken = take(fmt, tone, events)

    assert taken.rx["overflows"] == 1
    assert taken.counted("late", "lost", "restarts", "underruns") == (0, 0, 0, 1)
    skipped = taken.rx["overflow_frames"]
    assert sooner - fmt.period - fmt.frames <= skipped <= sooner + fmt.period + fmt.frames
    assert skipped % gcd(fmt.frames, fmt.period) == 0
    # what is left is the wanted slack, half a period and what rounding to whole steps leaves
    base, number = int(taken.trace[-1, 1]), int(taken.trace[-1, 2])
    worst = min(
        slack_frames(fmt, base + (e.packets[0][0] - number) * fmt.frames, e.arrival_ns)
        for e in events
        if e.packets[0] and e.packets[0][0] >= number
    )
    wanted = (fmt.queue - 1) * fmt.frames
    assert wanted <= worst <= wanted + fmt.period + 2 * fmt.frames
    # two halves of the stream, a cross-fade between them
    fade = FADE_STEP * -(-FADE_FRAMES // min(fmt.frames, FADE_FRAMES))
    assert loudest_step(taken, 0) <= tone_step(0) + 2 * fade
    assert taken.broken == 0


def test_queue_within_a_period_and_a_packet_is_left_alone() -> None:
    fmt = Format(frames=128, period=128)
    events = plain(fmt, 2000, start_ns=100_000_000)
    taken = take(fmt, noise, delayed(events, 50, -fmt.ns(200)))
    assert taken.rx["overflows"] == 0
    assert np.all(taken.trace[:, 1] == taken.trace[0, 1])


@given(formats(max_channels=2), st.integers(0, 30))
def test_another_receiver_goes_on_at_the_same_positions(fmt: Format, gap_packets: int) -> None:
    """A receiver dies between two packets; what comes while none lives waits in the socket."""
    packets = 80
    events = plain(fmt, packets)
    death = events[40].now_ns - 1
    back = death + gap_packets * fmt.ns(fmt.frames)
    moved = [e._replace(now_ns=max(e.now_ns, back)) if e.now_ns > death else e for e in events]
    frames_away = gap_packets * fmt.frames
    assume(frames_away < 1000)  # a longer absence is one that skips the ring
    taken = take(fmt, noise, [*moved[:40], Event(RESUME, back, 0), *moved[40:]])

    base, sent = int(taken.trace[0, 1]), stream(fmt, packets)
    assert np.all(taken.trace[:, 1] == base)
    assert taken.counted("restarts", "overflows", "lost") == (0, 0, 0)
    # the absence, the packets it made late, the fades; everything else as if nothing had been
    heard = taken.heard[:, base : base + sent.shape[1]]
    before, after = 40 * fmt.frames, (40 + gap_packets + 1) * fmt.frames + 2 * fmt.period
    np.testing.assert_array_equal(heard[:, FADE_FRAMES:before], sent[:, FADE_FRAMES:before])
    after += FADE_FRAMES
    np.testing.assert_array_equal(heard[:, after:], sent[:, after:])


def test_packets_in_hand_of_a_dead_receiver_are_a_gap() -> None:
    """Packets beyond a hole were written but not final: the next receiver knows nothing of them."""
    fmt = Format(queue=8)
    events = plain(fmt, 60)
    del events[30]  # lost: 31.. wait behind the hole
    death = events[33].now_ns + 1
    taken = take(fmt, noise, [*events[:34], Event(RESUME, death, 0), *events[34:]])
    base, sent = int(taken.trace[0, 1]), stream(fmt, 60)
    heard = taken.heard[:, base : base + sent.shape[1]]
    gap = slice(30 * 128, 35 * 128)
    np.testing.assert_array_equal(heard[:, 128 : gap.start], sent[:, 128 : gap.start])
    after = gap.stop + FADE_FRAMES
    np.testing.assert_array_equal(heard[:, after:], sent[:, after:])
    assert np.all(heard[:, gap.start + FADE_FRAMES : gap.stop - FADE_FRAMES] == 0)


# ---- restarts, odd numbers, overflow


@pytest.mark.parametrize("queue", [1, 4, 8])
@pytest.mark.parametrize("jump", [MAX_JUMP, 30_000, 60_000])
def test_client_that_counts_anew_is_followed_without_a_click(queue: int, jump: int) -> None:
    fmt = Format(queue=queue, frames=64, period=64)
    events = plain(fmt, 120)
    for k in range(60, 120):
        events[k] = events[k]._replace(packets=((k + jump, k * fmt.frames),))
    taken = take(fmt, tone, ended(events, fmt))
    assert taken.rx["restarts"] == 1
    assert taken.rx["late"] == ODD_RUN - 1
    assert taken.rx["lost"] == 0
    assert loudest_step(taken, 0) <= tone_step(0) + 3 * FADE_STEP
    taken = take(fmt, noise, events)
    base = int(taken.trace[-1, 1])
    sent = stream(fmt, 120)[:, (60 + ODD_RUN - 1) * fmt.frames + FADE_FRAMES :]
    at = base + FADE_FRAMES
    np.testing.assert_array_equal(taken.heard[:, at : at + sent.shape[1]], sent)


def test_stray_numbers_do_not_disturb() -> None:
    """A few odd packets, even in a row shorter than ODD_RUN, change nothing."""
    fmt = Format()
    events = plain(fmt, 100)
    strays = []
    for k in range(20, 80, 10):
        for i in range(ODD_RUN - 1):
            at = events[k].now_ns + 1000 * (i + 1)
            strays.append(Event(DATAGRAM, at, at, ((k + 20_000 + i, 0),)))
    taken = take(fmt, noise, sorted([*events, *strays], key=lambda e: e.now_ns))
    quiet_take = take(fmt, noise, events)
    np.testing.assert_array_equal(taken.heard, quiet_take.heard)
    assert taken.rx["late"] == len(strays)
    assert taken.rx["restarts"] == 0


@given(formats(max_channels=1, bits=(24,)), st.integers(50, 400))
def test_client_far_ahead_of_its_clock_skips_and_keeps_order(fmt: Format, ahead: int) -> None:
    """A client delivers far more than a ring holds at once: skipped, counted, never mangled."""
    normal = packets_for(fmt, 30_000)
    packets = 30 + ahead + normal
    on_time = plain(fmt, packets)
    events = on_time[:30]
    for k in range(30, packets):
        sent = 30 if k < 30 + ahead else k - ahead
        at = on_time[sent].now_ns + min(k - 30, ahead)
        events.append(on_time[k]._replace(now_ns=at, arrival_ns=at))
    ticks = (fmt.frames * packets + 20_000) // fmt.period
    taken = take(fmt, numbers, events, ticks, offsets=False)
    assert taken.broken == 0
    # within a ring's length and a window the queue is as wanted again, or a bit longer
    base, number = int(taken.trace[-1, 1]), int(taken.trace[-1, 2])
    position = base + (packets - 1 - number) * fmt.frames
    slack = slack_frames(fmt, position, events[-1].arrival_ns)
    assert slack <= taken.rx["ring_frames"]
    ringing = take(fmt, tone, events, ticks=len(taken.got))
    # skips follow so closely that what is faded out is itself being faded
    assert loudest_step(ringing, 0) <= tone_step(0) + 4 * FADE_STEP
    played = steadily_counting(taken)
    assert np.all(np.diff(played) > 0)
    assert played[-1] == packets * fmt.frames  # the end of the stream is heard
    if ahead * fmt.frames > taken.rx["ring_frames"]:
        assert taken.rx["overflows"] > 0
        assert taken.rx["overflow_frames"] > 0
        assert taken.rx["overflows"] <= 2 + ahead * fmt.frames // 1024


def test_packet_from_before_the_timeline_is_late() -> None:
    """The timeline was set anew by packet n; n − 1 comes after it: it has no place any more."""
    fmt = Format(queue=4)
    events = delayed(plain(fmt, 60), 20, 50_000_000)
    again = 20 + LATE_RUN - 1
    events = [e for e in events if e.packets[0] != (again - 1, (again - 1) * 128)]
    overtaken = events[again + 1 - 1]
    at = overtaken.now_ns + 5_000
    straggler = Event(DATAGRAM, at, at, ((again - 1, (again - 1) * 128),))
    taken = take(fmt, noise, ended(sorted([*events, straggler], key=lambda e: e.now_ns), fmt))
    assert taken.rx["restarts"] == 1
    assert taken.rx["reordered"] == 1
    assert taken.rx["late"] == LATE_RUN + 1
    assert_like_twin(fmt, taken)


@pytest.mark.parametrize("lost", [1, 4])
def test_gaps_of_one_tick_share_its_time(lost: int) -> None:
    """What the models of all gaps that are due together cost is half of the guard at most."""
    fmt = Format(frames=64, period=1024, queue=1, channels=2, underrun=Underrun.BURG)
    events = plain(fmt, 160)
    base = int(take(fmt, tone, events).trace[0, 1])
    first = next(k for k in range(120, 136) if (base + k * 64) % 1024 == 128)
    gone = {first + 3 * k for k in range(lost)}
    tick = (base + first * 64) // 1024
    taken = take(fmt, tone, [e for k, e in enumerate(events) if k not in gone], tick + 1)
    assert taken.rx["bridged"] == lost
    order = int(model_orders()[0])
    assert order >= 32
    cost_ns = SPARE_NS + order * fmt.channels * (150 + 0.5 * 2 * fmt.frames)
    assert lost * cost_ns <= GUARD_NS / 2


def test_a_copy_that_is_late_for_half_of_its_packet_repairs_nothing() -> None:
    fmt = Format(frames=256, period=64, queue=2)
    events = plain(fmt, 60)
    at = events[31].now_ns + fmt.ns(160)
    pair = ((31, 31 * fmt.frames), (30, 30 * fmt.frames))
    events[31] = Event(DATAGRAM, at, at, pair)
    del events[30]
    taken = take(fmt, noise, events)
    assert taken.counted("late", "repaired", "lost") == (1, 0, 0)
    assert taken.rx["concealed_frames"] % fmt.frames > 0


def test_a_client_that_counts_anew_onto_its_newest_number_is_followed() -> None:
    fmt = Format(frames=128, queue=2)
    events = plain(fmt, 160)
    for k in range(80, 160):  # the 39th odd packet tells, and has the number of the newest
        events[k] = events[k]._replace(packets=((k - 39, k * fmt.frames),))
    taken = take(fmt, noise, ended(events, fmt))
    assert taken.counted("restarts", "duplicates") == (1, 38)
    assert_like_twin(fmt, taken)


def test_the_number_before_the_first_is_late_and_no_copy() -> None:
    fmt = Format()
    events = plain(fmt, 30)
    at = events[4].now_ns + 1000
    taken = take(fmt, noise, [*events[:5], Event(DATAGRAM, at, at, ((65535, 0),)), *events[5:]])
    assert taken.counted("packets", "late", "duplicates") == (31, 1, 0)


def test_what_a_dead_receiver_had_is_no_news() -> None:
    """Copies of its packets that another finds are neither late nor packets."""
    fmt = Format(queue=4)
    events = plain(fmt, 80)
    pairs = [((k, k * 128), (k - 1, k * 128 - 128), (k - 2, k * 128 - 256)) for k in range(2, 80)]
    events[2:] = [e._replace(packets=pair) for e, pair in zip(events[2:], pairs, strict=True)]
    death = events[40].now_ns + 1
    echo = events[40]._replace(now_ns=death + 1, arrival_ns=death + 1)
    taken = take(fmt, noise, [*events[:41], Event(RESUME, death, 0), echo, *events[41:]])
    assert taken.counted("packets", "late", "duplicates", "repaired") == (80, 0, 1, 0)
    assert taken.counted("underruns", "reordered") == (1, 0)


# ---- kernels by themselves


@pytest.mark.parametrize("frames", [16, 128, 441, 1024, 8192])
@pytest.mark.parametrize("queue", [1, 4, 64])
@pytest.mark.parametrize("period", [16, 1024])
def test_ring_has_room_for_queue_and_seams(frames: int, queue: int, period: int) -> None:
    with arena_of(period=period) as arena:
        rx = arena.rx[0]
        sending(arena, frames)
        arena.slots[0]["queue_packets"] = queue
        size_ring(arena.header[0], arena.slots[0], rx)
        size, depth = int(rx["ring_frames"]), int(rx["depth_frames"])
        assert size & (size - 1) == 0
        assert size <= arena.rings.shape[2]
        assert depth >= frames
        assert depth == queue * frames or size == arena.rings.shape[2]
        assert depth + 2 * frames + 2 * period + 2 * FADE_FRAMES <= size


@pytest.mark.parametrize("frames", [16, 128, 441, 8192])
@pytest.mark.parametrize("queue_ms", [1, 20, 250])
def test_ring_has_room_for_a_queue_of_milliseconds(frames: int, queue_ms: int) -> None:
    with arena_of(period=128) as arena:
        rx, order = arena.rx[0], arena.slots[0]
        sending(arena, frames)
        order["queue_packets"] = -queue_ms
        size_ring(arena.header[0], order, rx)
        wanted = max(queue_ms * 48 - frames, 0)
        assert int(rx["margin_frames"]) == wanted or rx["ring_frames"] == arena.rings.shape[2]
        assert int(rx["depth_frames"]) == int(rx["margin_frames"]) + frames
        order["queue_packets"] = -queue_ms - 5
        before = int(rx["margin_frames"])
        obey_queue(arena.header[0], order, rx, arena.lines[0], arena.rings[0])
        assert rx["owed"] == int(rx["margin_frames"]) - before


def test_lost_packets_are_counted_when_they_cannot_come_any_more() -> None:
    fmt = Format(frames=16, period=128)
    events = plain(fmt, ACCOUNT_PACKETS + 40)
    del events[10:15]
    taken = take(fmt, noise, events[: ACCOUNT_PACKETS + 5])
    assert taken.rx["lost"] == 0
    taken = take(fmt, noise, events)
    assert taken.rx["lost"] == 5


def test_levels_are_those_of_the_samples() -> None:
    """A tenth of a second makes a window; peak and RMS are over all channels."""
    fmt = Format(frames=480, channels=2, bits=16)
    taken = take(fmt, noise, plain(fmt, 10))
    sent = stream(fmt, 10).astype(np.float64)
    assert taken.rx["peak"] == pytest.approx(np.abs(sent).max())
    assert taken.rx["rms"] == pytest.approx(np.sqrt(np.mean(sent**2)), rel=1e-6)


def test_another_receiver_forgets_what_was_in_hand_only() -> None:
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["highest"], rx["accounted"], rx["watermark"] = 900, 100, 5000
        seen: npt.NDArray[np.int64] = np.arange(SEEN_PACKETS, dtype=np.int64)
        resume(rx, seen)
        assert np.all(seen == NEVER)
        assert (rx["highest"], rx["accounted"], rx["watermark"]) == (900, 901, 5000)
