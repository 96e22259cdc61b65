"""A worker or a client dies in the middle of the music: who hears what of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

import numpy as np

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, Take, assert_silent, undisturbed
from tests.end_to_end.peers import RATE_HZ, JackTripClient
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import (
    Exact,
    Samples,
    explain,
    find_lag,
    longest_gap,
    noise,
    returned,
    shifted,
    sine,
)
from tests.end_to_end.stage import Stage

MAX_GAP_S = 0.050

# The signal sounds all the time; things happen at `EVENT`, seen some hundredths later.
FRAMES = 72_000
EVENT = LEAD_FRAMES + 24_000
BEFORE, SOON_AFTER, AFTER = 4_800, 4_800, 24_000

# Twice the default, so that fewer hiccups of the machine look like consequences of the event.
PERIOD = 256


def assert_exact_around(
    take: Take, listener: JackTripClient, channel: int, voices: Sequence[Exact], event: int
) -> None:
    """From before the event until long after it, each sample is right, each delay the same.

    In a take that was disturbed, perhaps elsewhere: until nobody can have missed the event.
    """
    heard = take.at(listener, channel)
    mixture = explain(heard, voices, listener.bits, event - BEFORE, event + AFTER)
    if mixture.wrong and take.disturbed:
        mixture = explain(heard, voices, listener.bits, event - BEFORE, event + SOON_AFTER)
    assert not mixture.wrong, f"{listener.name} channel {channel}: {mixture.report}"


def gap_frames(heard: Samples, voice: Exact, bits: int, event: int) -> int:
    """Longest stretch of `heard`, from the event on, that is not exactly the voice.

    The delay may be another after the gap: a jitter buffer that starts anew.
    """
    matches = np.zeros(len(heard), np.bool_)
    for start, end in ((event - 9_600, event - 1_200), (len(heard) - 9_600, len(heard))):
        lag = find_lag(heard, voice, start, end)
        matches |= heard == returned(shifted(voice, lag, len(heard)), bits)
    return longest_gap(matches[event - 9_600 :])


@own_hub_only
def test_receiver_is_killed(stage: Stage) -> None:
    """Its client is heard again within 50 ms, from the same port; nobody else loses a sample.

    A sends channel 1, which B and C hear on theirs; on channel 2 they hear each other,
    and A hears both. So the first channel shows A's gap, the second everybody else's.
    """
    hub = stage.hub(2, PERIOD)
    a = stage.client(hub, "a", 1, 2, period=PERIOD, remote_name="a")
    b = stage.client(hub, "b", 2, 2, period=PERIOD)
    c = stage.client(hub, "c", 2, 2, period=PERIOD)
    clients = stage.everybody_in(hub)
    voices = {
        source: noise(seed, FRAMES, 0.3, lead=LEAD_FRAMES)
        for seed, source in enumerate((("a", 1), ("b", 2), ("c", 2)), start=41)
    }
    event = 0

    def kill(wait_position: Callable[[int], int]) -> None:
        nonlocal event
        pid = hub.client("a")["receiver_pid"]
        wait_position(EVENT)
        os.kill(pid, signal.SIGKILL)
        # The position is told with a delay, so the kill may have been heard before it.
        event = wait_position(EVENT)

    def judge(take: Take) -> None:
        assert_exact_around(take, c, 2, [voices["b", 2].in_hub], event)
        assert_exact_around(take, b, 2, [voices["c", 2].in_hub], event)
        assert_exact_around(take, a, 2, [voices["b", 2].in_hub, voices["c", 2].in_hub], event)
        assert_silent(take, a, 1)
        for listener in (b, c):
            gap = gap_frames(take.at(listener, 1), voices["a", 1].in_hub, listener.bits, event)
            assert gap <= MAX_GAP_S * RATE_HZ, f"{listener.name} missed {gap} frames of a"

    before = hub.client("a")
    undisturbed(lambda: stage.record(hub, voices, clients, frames=FRAMES, meanwhile=kill), judge)
    after = hub.client("a")
    assert after["receiver_pid"] != before["receiver_pid"]
    assert (after["slot"], after["port"]) == (before["slot"], before["port"])
    assert all(client.process.running for client in clients)


@own_hub_only
def test_client_crash_is_no_click(stage: Stage) -> None:
    """kill -9 of a client that plays: the others hear it fade, and one another undisturbed.

    At the end of a deep tone cut off anywhere but near its zeros, the signal jumps by
    many times the tone's own steepest step; faded over a few milliseconds it does not.
    """
    hub = stage.hub(2, PERIOD)
    one, other = (
        stage.client(hub, "one", 2, 2, period=PERIOD),
        stage.client(hub, "other", 2, 2, period=PERIOD),
    )
    voices = {
        ("one", 2): noise(51, FRAMES, 0.9, lead=LEAD_FRAMES),
        ("other", 2): noise(52, FRAMES, 0.9, lead=LEAD_FRAMES),
        ("dies", 1): sine(100.0, FRAMES, 0.5, RATE_HZ, lead=LEAD_FRAMES),
    }
    event = 0

    def take_of_a_crash() -> Take:
        dies = stage.client(hub, "dies", jack=stage.jack_to_lose(PERIOD))
        stage.everybody_in(hub)

        def crash(wait_position: Callable[[int], int]) -> None:
            nonlocal event
            wait_position(EVENT)
            dies.crash()
            event = wait_position(EVENT)

        return stage.record(hub, voices, [one, other, dies], frames=FRAMES, meanwhile=crash)

    def judge(take: Take) -> None:
        assert_exact_around(take, other, 2, [voices["one", 2].in_hub], event)
        assert_exact_around(take, one, 2, [voices["other", 2].in_hub], event)
        for listener in (one, other):
            heard = take.at(listener, 1)
            assert not np.any(heard[event + AFTER :]), "still heard half a second later"
            step = np.max(np.abs(np.diff(heard.astype(np.float64))))
            own = np.max(np.abs(np.diff(voices["dies", 1].in_hub)))
            assert step <= 4 * own, f"a step of {step:.3g}, where the tone's are up to {own:.3g}"

    undisturbed(take_of_a_crash, judge)


@own_hub_only
def test_mixer_is_killed(stage: Stage) -> None:
    """All hear each other again, on the same ports, without reconnecting."""
    hub = stage.hub(2, PERIOD)
    one, other = stage.client(hub, "one", period=PERIOD), stage.client(hub, "other", period=PERIOD)
    clients = stage.everybody_in(hub)
    voices = {
        ("one", 1): noise(53, FRAMES, 0.9, lead=LEAD_FRAMES),
        ("other", 1): noise(54, FRAMES, 0.9, lead=LEAD_FRAMES),
    }
    before = {client["slot"]: client["port"] for client in hub.clients()}
    event = 0

    def kill(wait_position: Callable[[int], int]) -> None:
        nonlocal event
        pid = hub.status()["hub"]["mixer"]["pid"]
        wait_position(EVENT)
        os.kill(pid, signal.SIGKILL)
        event = wait_position(EVENT)

    def judge(take: Take) -> None:
        for listener, voice in ((one, voices["other", 1]), (other, voices["one", 1])):
            gap = gap_frames(take.at(listener, 1), voice.in_hub, listener.bits, event)
            assert gap <= 2 * MAX_GAP_S * RATE_HZ, f"{listener.name} missed {gap} frames"

    undisturbed(lambda: stage.record(hub, voices, clients, frames=FRAMES, meanwhile=kill), judge)
    assert {client["slot"]: client["port"] for client in hub.clients()} == before
    wait_until(lambda: all(client.process.running for client in clients), 1.0, "clients run")
